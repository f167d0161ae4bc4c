"""Roles change by what audits found: through the store and the log, as both processes do it."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fakes.processes import Holder
from shammah_data.errors import InputError
from shammah_data.exchange import Audited, Exchange, Feedback, Rival
from shammah_data.forget import forget
from shammah_data.home import Home
from shammah_data.log import ExchangeLog
from shammah_data.queries import Selection
from shammah_data.rollout import Plan, decide, judge_trial, named, on_trial
from shammah_data.store import ModelStore, Pointer
from shammah_data.verdicts import verdicts

Publish = Callable[..., str]
NOW = datetime(2030, 1, 10, tzinfo=UTC)
_ids = (f"00000000-0000-4000-8000-{n:012d}" for n in range(10**9))


@pytest.fixture
def trial(store: ModelStore, publish: Publish) -> ModelStore:
    """A store with a champion, v0001, and a candidate, v0002."""
    store.promote(publish(b"1"))
    store.set_candidate(publish(b"2"), 0.2)
    return store


def audits(version: str, verdicts: str, probability: float = 0.3) -> list[Audited]:
    """One for each letter: r(ight) or w(rong)."""
    return [Audited(next(_ids), version, probability, letter == "r") for letter in verdicts]


def pairs(verdicts: str, probability: float = 1.0) -> list[Audited]:
    """Both versions' answers to each query: r(ight) both, w(orse): only the champion's is right, b(etter): only the other."""
    found = []
    for letter in verdicts:
        exchange = next(_ids)
        found += [
            Audited(exchange, "v0001", probability, letter in "rw"),
            Audited(exchange, "v0002", probability, letter in "rb"),
        ]
    return found


def test_without_a_trial_nothing_is_decided(store: ModelStore, publish: Publish) -> None:
    assert decide(store, []).action == "none"
    store.promote(publish())
    decision = decide(store, audits("v0001", "w" * 100))
    assert (decision.action, decision.reason) == ("none", "no version is on trial")
    assert store.pointer() == Pointer("v0001")


def test_a_trial_waits_for_audits_and_says_where_it_is(trial: ModelStore) -> None:
    before = trial.pointer()
    decision = decide(trial, [])
    assert decision.action == "wait"
    assert decision.reason == "none of its answers is audited yet, 0 of v0001's are"
    decision = decide(trial, [*audits("v0001", "r" * 9 + "w"), *audits("v0002", "rrrw"), *pairs("r")])
    assert decision.action == "wait"
    assert decision.version == "v0002"
    assert "1 of 5 audited answers wrong, 1 of them beside v0001's, about " in decision.reason
    assert "(11 audited)" in decision.reason
    assert trial.pointer() == before


def test_a_good_candidate_becomes_champion(trial: ModelStore) -> None:
    decision = decide(trial, [*audits("v0001", "r" * 57 + "www"), *audits("v0002", "r" * 60)])
    assert decision.action == "promote"
    assert decision.reason.startswith("v0002 is as good as v0001: 0 of 60")
    assert trial.pointer() == Pointer("v0002", "v0001")


@pytest.mark.parametrize("found", [audits("v0002", "rw" * 10), pairs("rw" * 10), pairs("rw" * 20, 0.1)])
def test_a_bad_candidate_goes_back(trial: ModelStore, found: list[Audited]) -> None:
    decision = decide(trial, found)
    assert decision.action == "rollback"
    assert decision.reason.startswith("v0002 is worse than v0001: ")
    assert len(decision.reason.splitlines()) == 1
    assert trial.pointer() == Pointer("v0001")


def test_how_a_trial_ended_is_remembered_while_the_version_is_there(trial: ModelStore) -> None:
    assert verdicts(trial.root) == {}
    decide(trial, pairs("r"))
    assert verdicts(trial.root) == {}
    decision = decide(trial, pairs("rw" * 10))
    (version, found), *_ = verdicts(trial.root).items()
    assert (version, found.action, found.reason) == ("v0002", "rollback", decision.reason)
    assert re.match(r"rolled back on \d{4}-\d\d-\d\dT\d\d:\d\d: v0002 is worse than v0001: ", found.told)
    # A file that nobody can read explains nothing, stops nobody and is written anew.
    (trial.root / "verdicts.json").write_bytes(b"[")
    assert verdicts(trial.root) == {}
    trial.set_candidate("v0002", 0.2)
    decide(trial, pairs("r" * 60, 0.1))
    assert [each.told[:8] for each in verdicts(trial.root).values()] == ["promoted"]


def test_what_a_version_would_have_said_is_no_answer_of_the_champion(trial: ModelStore) -> None:
    """Else the rate that others are held to would be one of questions that the candidate chose."""
    asked = [replace(each, given=each.version == "v0002") for each in pairs("rb" * 6)]
    decision = judge_trial(trial.pointer(), asked, Plan(), NOW)
    assert decision.trial is not None
    assert decision.trial.reference == pytest.approx(0.05)
    assert decision.trial.reference_audited == 0
    assert decision.trial.standing.pairs == 12


def test_a_new_champion_that_fails_goes_back_and_stays_back(store: ModelStore, publish: Publish) -> None:
    store.promote(publish(b"1"))
    store.promote(publish(b"2"))
    assert on_trial(store.pointer()) == ("v0002", "v0001", "champion")
    found = [*audits("v0001", "r" * 38 + "ww"), *audits("v0002", "rw" * 12)]
    decision = decide(store, found)
    assert decision.action == "rollback"
    assert store.pointer() == Pointer("v0001", "v0002")
    # The bad one is now the one before, and no reason to go back to.
    again = decide(store, [*found, *audits("v0001", "w" * 30)])
    assert again.action == "none"
    assert store.pointer() == Pointer("v0001", "v0002")


def test_a_new_champion_that_has_proved_itself_is_on_trial_no_longer(store: ModelStore, publish: Publish) -> None:
    store.promote(publish(b"1"))
    store.promote(publish(b"2"))
    good = audits("v0002", "r" * 60)
    assert decide(store, good[:10]).action == "wait"
    decision = decide(store, [*good, *audits("v0002", "w" * 30)])
    assert (decision.action, decision.reason) == ("none", "v0002 has proved itself")
    assert store.pointer() == Pointer("v0002", "v0001")


def test_a_pinned_version_is_never_moved(trial: ModelStore) -> None:
    trial.pin("v0001")
    decision = decide(trial, [*audits("v0002", "r" * 100), *audits("v0001", "w" * 100)])
    assert (decision.action, decision.reason) == ("none", "v0001 is pinned")
    assert trial.pointer() == Pointer("v0001", None, "v0002", 0.2, pinned=True)


def test_a_trial_s_end_counts_answers_by_how_often_they_were_audited(store: ModelStore, publish: Publish) -> None:
    clocked = ModelStore(store.folder("v0001").parent, clock=lambda: NOW)
    store.promote(publish(b"1"))
    clocked.set_candidate(publish(b"2"), 0.2)
    # All disagreements are audited, and a tenth of the rest: one of 31 answers is wrong, not one of four.
    found = [*audits("v0002", "rrr", 0.1), *audits("v0002", "w", 1.0)]
    decision = decide(store, found, Plan(days=3), NOW + timedelta(days=3))
    assert decision.action == "promote"
    assert "1 of 4 audited answers wrong, about 3% of all" in decision.reason


@pytest.mark.parametrize(
    ("verdicts", "action", "pointer"),
    [
        ("", "promote", Pointer("v0002", "v0001")),
        ("rrrrrrrrrw", "promote", Pointer("v0002", "v0001")),
        ("rrrw", "rollback", Pointer("v0001")),
    ],
)
def test_a_trial_comes_to_an_end_after_its_days(
    store: ModelStore, publish: Publish, verdicts: str, action: str, pointer: Pointer
) -> None:
    clocked = ModelStore(store.folder("v0001").parent, clock=lambda: NOW)
    store.promote(publish(b"1"))
    clocked.set_candidate(publish(b"2"), 0.2)
    found = audits("v0002", verdicts)
    assert decide(store, found, Plan(days=3), NOW + timedelta(days=2, hours=23)).action == "wait"
    decision = decide(store, found, Plan(days=3), NOW + timedelta(days=3))
    assert decision.action == action
    assert "not decided within 3 days" in decision.reason
    assert store.pointer() == pointer


def test_a_beginning_without_a_zone_is_in_utc(trial: ModelStore) -> None:
    pointer = replace(trial.pointer(), candidate_since="2030-01-10T00:00:00")
    found = audits("v0002", "r" * 3)
    assert judge_trial(pointer, found, Plan(days=3), NOW + timedelta(days=2, hours=23)).action == "wait"
    assert judge_trial(pointer, found, Plan(days=3), NOW + timedelta(days=3)).action == "promote"


def test_a_damaged_candidate_goes_back(trial: ModelStore) -> None:
    (trial.folder("v0002") / "tokenizer.json").write_bytes(b"[]")
    decision = decide(trial, audits("v0002", "r" * 60))
    assert decision.action == "rollback"
    assert decision.reason.startswith("v0002 cannot serve: ")
    assert "tokenizer.json: not the bytes" in decision.reason
    assert trial.pointer() == Pointer("v0001")


def test_a_bad_champion_stays_where_the_one_before_is_damaged(store: ModelStore, publish: Publish) -> None:
    store.promote(publish(b"1"))
    store.promote(publish(b"2"))
    (store.folder("v0001") / "tokenizer.json").write_bytes(b"[]")
    decision = decide(store, audits("v0002", "w" * 30))
    assert decision.action == "none"
    assert "; it stays: " in decision.reason
    assert store.pointer() == Pointer("v0002", "v0001")


def test_two_that_decide_at_once_do_it_once(trial: ModelStore) -> None:
    found = audits("v0002", "r" * 60)

    class Late(ModelStore):
        """Another process decides between this one's look and its act."""

        def promote(self, version: str, expected: Pointer | None = None) -> Pointer:
            decide(trial, found)
            return super().promote(version, expected)

    decision = decide(Late(trial.folder("v0001").parent), found)
    assert (decision.action, decision.reason) == ("none", "the versions changed meanwhile: v0002 serves")
    assert trial.pointer() == Pointer("v0002", "v0001")


def test_the_log_keeps_what_audits_found(log: ExchangeLog, home: Home, trial: ModelStore) -> None:
    asked = [Exchange(f"question {n}", "an answer", "neural") for n in range(40)]
    log.add_many(asked)
    for n, exchange in enumerate(asked[:20]):
        at = NOW + timedelta(minutes=n)
        assert log.audit(Audited(exchange.id, "v0002", 0.5, False, "number", at))
        log.audit(Audited(exchange.id, "v0001", 0.5, True, audited_at=at))
        # The first word stands.
        log.audit(Audited(exchange.id, "v0002", 0.5, True, audited_at=at))
    found = log.outcomes(named(trial.pointer()))
    assert [each.agrees for each in found] == [True, False] * 20
    assert [each.exchange_id for each in log.outcomes(["v0002"], limit=3)] == [one.id for one in asked[17:20]]
    assert found[-1] == Audited(asked[19].id, "v0002", 0.5, False, "number", (NOW + timedelta(minutes=19)).replace(tzinfo=None))
    assert log.outcomes([]) == []
    # What is forgotten is no evidence either.
    forget(log, home, Selection(ids=(asked[0].id,)))
    assert len(log.outcomes(["v0001", "v0002"])) == 38
    log.audit(Audited(asked[0].id, "v0001", 0.5, True))
    assert len(log.outcomes(["v0001"])) == 19
    assert decide(trial, log.outcomes(named(trial.pointer()))).action == "rollback"


def test_the_local_share_is_of_answers_given_while_serving_the_newest_first(log: ExchangeLog) -> None:
    for n in range(9):
        log.append(Exchange(f"question {n}", "an answer", "neural" if n % 3 == 0 or n > 6 else "teacher"))
    log.append(Exchange("imported", "an answer", "import", source="import:x"))
    log.append(Exchange("unanswered", "", "teacher"))
    log.append(Exchange("cut", "an", "teacher", complete=False))
    # 8, 7, 6, 5 | 4, 3, 2, 1
    assert log.local_share(4) == [(4, 3), (4, 1)]
    assert log.local_share(6) == [(6, 4), (3, 1)]
    assert log.local_share(100) == [(9, 5)]


def test_exchanges_and_ratings_are_news(log: ExchangeLog) -> None:
    exchange = Exchange("question", "an answer", "teacher")
    log.append(exchange)
    log.append(Exchange("local", "an answer", "neural"))
    assert log.news(datetime(2020, 1, 1)) == 1
    log.rate(Feedback(exchange.id, "good"))
    assert log.news(datetime(2020, 1, 1)) == 2
    assert log.news(datetime.now(UTC) + timedelta(minutes=1)) == 0


def test_ratings_that_a_snapshot_knew_are_no_news_and_those_that_waited_are(log: ExchangeLog, home: Home) -> None:
    exchange = Exchange("question", "an answer", "teacher")
    log.append(exchange)
    log.rate(Feedback(exchange.id, "good"))
    assert log.news(log.snapshot(home.root / "first.parquet")[2]) == 0
    reader = Holder(home.log, "reading")
    try:
        assert not log.rate(Feedback(exchange.id, "bad"))
        _, _, until = log.snapshot(home.root / "second.parquet")
    finally:
        reader.let_go()
    assert log.news(until) == 1


def test_an_audit_waits_in_the_spool_while_the_log_is_taken(log: ExchangeLog, home: Home) -> None:
    exchange = Exchange("question", "an answer", "neural")
    log.append(exchange)
    holder = Holder(home.log)
    try:
        assert not log.audit(Audited(exchange.id, "v0001", 0.3, True))
    finally:
        holder.let_go()
    assert [each.version for each in log.outcomes(["v0001"])] == ["v0001"]


def test_a_backup_holds_what_audits_found(log: ExchangeLog, home: Home, tmp_path: Path) -> None:
    from shammah_data.copies import backup, restore

    exchange = Exchange("question", "an answer", "neural")
    log.append(exchange)
    log.audit(Audited(exchange.id, "v0001", 0.3, True), Audited(exchange.id, "v0002", 0.3, False))
    log.compare(Rival(exchange.id, "v0002", 0.3, "another answer", False))
    backup(log, tmp_path / "copy.duckdb")
    other = ExchangeLog(Home(tmp_path / "other").create())
    restore(other, tmp_path / "copy.duckdb")
    assert other.outcomes(["v0001"]) == log.outcomes(["v0001"])
    assert len(other.outcomes(["v0001"])) == 1
    # The second version did not give its answer: the log knows that only by what it was asked.
    assert [each.given for each in other.outcomes(["v0001", "v0002"])] == [True, False]


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.1, float("nan")])
def test_an_audit_has_a_probability(log: ExchangeLog, probability: float) -> None:
    with pytest.raises(InputError, match="above 0 and up to 1"):
        log.audit(Audited(next(_ids), "v0001", probability, True))
