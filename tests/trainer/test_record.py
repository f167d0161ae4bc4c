"""What a run says of its held-out answers, the model's own and earlier ones that are repeated."""

from typing import Any

from shammah_trainer.record import intervals, summary


def figures(**repeated: int) -> dict[str, Any]:
    counts = {"asked": 40, "right": 30, "accepted": 20, "accepted_right": 19}
    none = {"asked": 10, "right": 0, "accepted": 1, "accepted_right": 0}
    return {"loss_before": 3.0, "loss_after": 1.0, "heldout": {"phrasing": counts | repeated, "group": none, "outside": none}}


def test_earlier_answers_that_are_repeated_are_told_apart() -> None:
    told = summary(figures(repeated=5, repeated_right=4))
    assert "answered at its threshold 20 (19 right) and with an earlier answer 5 more (4 right); never" in told
    assert "earlier" not in summary(figures())


def test_shares_are_of_what_is_given_whoever_it_comes_from() -> None:
    shares = intervals(figures(repeated=5, repeated_right=4)["heldout"])
    assert (shares["phrasings answered"]["count"], shares["phrasings answered"]["total"]) == (25, 40)
    assert (shares["answers given right"]["count"], shares["answers given right"]["total"]) == (23, 27)
    assert intervals(figures()["heldout"])["phrasings answered"]["count"] == 20
