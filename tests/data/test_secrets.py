"""Secrets are found in a generated corpus, and what only looks like one is left alone."""

import contextlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.credentials import ANCHORED, NAMED, corpus, look_alikes
from shammah_data.errors import LogError
from shammah_data.exchange import Attempt, Exchange, Feedback, Message, RunRecord
from shammah_data.home import Home
from shammah_data.log import ExchangeLog, read_snapshot
from shammah_data.secrets import redact, redact_all


def test_two_thousand_secrets_are_found() -> None:
    missed = Counter(dict.fromkeys((*ANCHORED, *NAMED), 0))
    examples = corpus(2000)
    assert len(ANCHORED) >= 20
    for name, secret, text in examples:
        missed[name] += secret in redact(text)
    print({name: n for name, n in missed.items() if n})
    anchored = [name for name, _, _ in examples if name in ANCHORED]
    assert sum(missed[name] for name in ANCHORED) <= 0.005 * len(anchored)
    assert missed.total() <= 0.01 * len(examples)


def test_two_thousand_look_alikes_are_left_alone() -> None:
    marked = Counter[str]()
    for name, text in look_alikes(2000):
        if redact(text) != text:
            marked[name] += 1
            print(text, "->", redact(text))
    assert marked.total() <= 10, marked


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("sk-ant-api03-" + "a1" * 20, "[secret:anthropic-key]"),
        ("postgres://u:p%40ss@h/db", "postgres://u:[secret:url-password]@h/db"),
        ("password: hunter2!", "password: [secret:password]"),
        ('{"password": "correct horse"}', '{"password": "[secret:password]"}'),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQ", "[secret:private-key]"),
        ("see -----BEGIN PRIVATE KEY-----, then?", "see -----BEGIN PRIVATE KEY-----, then?"),
        ("-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w\\n, he said", "[secret:private-key]\\n, he said"),
        ("ghp_" + "a" * 36, "[secret:github-token]"),
        ("hooks.slack.com/services/T0/B0/" + "a1" * 12, "hooks.slack.com/services/[secret:webhook]"),
        ("my password is hunter2.", "my password is [secret:password]."),
        ("?password=hunter2&page=1", "?password=[secret:password]&page=1"),
        ("the password was changed to Xk9!kd82", "the password was changed to [secret:password]"),
        ("curl -u ann:hunter2 https://h", "curl -u ann:[secret:password] https://h"),
        ('if ("hunter2!" == user.password) {', 'if ("[secret:password]" == user.password) {'),
        ('password "m-nobody$"', 'password "[secret:password]"'),
        ("nothing here", "nothing here"),
    ],
)
def test_marks_name_the_kind_and_leave_the_rest(text: str, left: str) -> None:
    assert redact(text) == left


def test_keys_are_redacted_too_and_none_is_lost() -> None:
    key, other = "ghp_" + "a1" * 18, "ghp_" + "b2" * 18
    assert redact_all({key: [key], "n": 1, 2: (key,)}) == {
        "[secret:github-token]": ["[secret:github-token]"],
        "n": 1,
        2: ["[secret:github-token]"],
    }
    assert redact_all({key: 1, other: 2}) == {"[secret:github-token]": 1, "[secret:github-token] 2": 2}
    assert redact_all({key: 1, "[secret:github-token]": 2}) == {"[secret:github-token] 2": 1, "[secret:github-token]": 2}


@given(st.text() | st.builds("{} {}".format, st.text(), st.sampled_from([text for _, _, text in corpus(230)])))
def test_a_second_pass_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize("taken", [False, True])
def test_nothing_that_is_written_holds_a_secret(tmp_path: Path, taken: bool) -> None:
    home = Home(tmp_path / "home").create()
    log = ExchangeLog(home)
    canaries = [(secret, text) for name, secret, text in corpus(len(ANCHORED)) if name in ANCHORED]
    if taken:
        home.log.write_bytes(b"not a database")  # everything goes to the spool
    kept = pytest.raises(LogError, match="kept in") if taken else contextlib.nullcontext()
    for _, text in canaries:
        exchange = Exchange(
            query=text,
            answer=f"I see {text}",
            tier="teacher",
            context=(Message("user", text), Message("assistant", text)),
            attempts=(Attempt("learned", "declined", f"similarity 0.5 to {text!r}"),),
        )
        with kept:
            log.append(exchange)
        with kept:
            log.rate(Feedback(exchange.id, "bad", correction=text))
    if not taken:
        now = datetime.now(UTC)
        log.record_run(RunRecord("r", now, now, "failed", canaries[0][1], None, {"note": canaries[0][1]}))
        log.snapshot(home.root / "s.parquet")
        assert len(log.recent(1000)) == len(canaries)
    written = b"".join(path.read_bytes() for path in home.root.rglob("*") if path.is_file())
    if not taken:
        # Both files are compressed: what they say is looked at too.
        said = [*log.recent(1000), *(log.find(str(row["id"]))[1] for row in log.recent(1000)), *log.runs()]
        written += repr([said, read_snapshot(home.root / "s.parquet")]).encode()
    for secret, _ in canaries:
        assert secret.splitlines()[-1].encode() not in written or "PRIVATE" in secret
        assert secret.splitlines()[len(secret.splitlines()) // 2].encode() not in written
