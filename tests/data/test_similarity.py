import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.similarity import Support


@pytest.fixture
def support() -> Support:
    found = Support()
    found.add("1", "How do I undo the last update?", "Use rollback.")
    found.add("2", "go back to the earlier version", "Use rollback.")
    found.add("3", "delete an entry", "Use forget.")
    return found


def test_the_nearest_query_with_the_same_answer_counts(support: Support) -> None:
    assert support.of("How do I undo the last update?", "Use rollback.") == pytest.approx(1.0)
    near = support.of("undoing an update", "use rollback")
    assert 0.2 < near < 0.9
    assert support.of("undoing an update", "Use forget.") < near
    assert support.of("what is the weather like", "Use rollback.") < near


def test_an_answer_that_nobody_got_has_no_support(support: Support) -> None:
    assert support.of("delete an entry", "Use delete.") == 0.0
    assert Support().of("delete an entry", "Use forget.") == 0.0


def test_what_is_removed_or_replaced_is_gone(support: Support) -> None:
    support.remove("3")
    support.remove("3")
    assert support.of("delete an entry", "Use forget.") == 0.0
    support.add("1", "delete an entry", "Use forget.")
    assert support.of("delete an entry", "Use forget.") == pytest.approx(1.0)
    assert support.of("How do I undo the last update?", "Use rollback.") < 0.5


@given(st.text(), st.text(), st.text())
def test_it_is_a_share_for_any_text(query: str, other: str, answer: str) -> None:
    found = Support()
    found.add("1", other, answer)
    assert 0.0 <= found.of(query, answer) <= 1.0
