"""Secrets are found in a generated corpus, and what only looks like one is left alone."""

import base64
import contextlib
import hashlib
import json
import random
import string
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shammah_data.errors import LogError
from shammah_data.exchange import Attempt, Exchange, Feedback, Message, RunRecord
from shammah_data.home import Home
from shammah_data.log import ExchangeLog, read_snapshot
from shammah_data.secrets import redact

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
URLSAFE = ALNUM + "-_"
Draw = Callable[[random.Random], str]


def of(alphabet: str, count: int) -> Draw:
    return lambda rng: "".join(rng.choice(alphabet) for _ in range(count))


def after(prefix: str, rest: Draw) -> Draw:
    return lambda rng: prefix + rest(rng)


def jwt(rng: random.Random) -> str:
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": of("0123456789", 10)(rng), "iat": rng.randrange(10**9)}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, of(URLSAFE, 43)(rng)])


def private_key(rng: random.Random) -> str:
    kind = rng.choice(["RSA ", "EC ", "OPENSSH ", ""])
    body = "\n".join(of(ALNUM + "+/", 64)(rng) for _ in range(6))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"


ANCHORED: dict[str, Draw] = {
    "anthropic": after("sk-ant-api03-", of(URLSAFE, 93)),
    "openai": after("sk-proj-", of(URLSAFE, 60)),
    "openai, older": after("sk-", of(ALNUM, 48)),
    "openrouter": after("sk-or-v1-", of(HEX, 64)),
    "github": after("ghp_", of(ALNUM, 36)),
    "github, fine-grained": lambda rng: f"github_pat_{of(ALNUM, 22)(rng)}_{of(ALNUM, 59)(rng)}",
    "gitlab": after("glpat-", of(URLSAFE, 20)),
    "aws": after("AKIA", of(string.ascii_uppercase + "234567", 16)),
    "google": after("AIza", of(URLSAFE, 35)),
    "google client": after("GOCSPX-", of(URLSAFE, 28)),
    "slack": lambda rng: f"xoxb-{of(string.digits, 12)(rng)}-{of(string.digits, 12)(rng)}-{of(ALNUM, 24)(rng)}",
    "slack webhook": lambda rng: (
        f"https://hooks.slack.com/services/T{of(ALNUM, 8)(rng)}/B{of(ALNUM, 8)(rng)}/{of(ALNUM, 24)(rng)}"
    ),
    "stripe": after("sk_live_", of(ALNUM, 24)),
    "huggingface": after("hf_", of(string.ascii_letters, 34)),
    "npm": after("npm_", of(ALNUM, 36)),
    "pypi": after("pypi-AgEIcHlwaS5vcmc", of(URLSAFE, 130)),
    "sendgrid": lambda rng: f"SG.{of(URLSAFE, 22)(rng)}.{of(URLSAFE, 43)(rng)}",
    "twilio": after("SK", of(HEX, 32)),
    "digitalocean": after("dop_v1_", of(HEX, 64)),
    "telegram": lambda rng: f"{rng.randrange(10**8, 10**10)}:AA{of(URLSAFE, 33)(rng)}",
    "shopify": after("shpat_", of(HEX, 32)),
    "databricks": after("dapi", of(HEX, 32)),
    "groq": after("gsk_", of(ALNUM, 52)),
    "replicate": after("r8_", of(ALNUM, 37)),
    "vault": after("hvs.", of(URLSAFE, 90)),
    "docker": after("dckr_pat_", of(URLSAFE, 27)),
    "jwt": jwt,
    "private key": private_key,
}
# The value alone is the secret: what it is assigned to stays.
NAMED: dict[str, tuple[str, Draw]] = {
    "url": ("postgres://shop:{}@db.example.org:5432/shop", of(ALNUM + "!*-_.", 14)),
    "password=": ("password={}", of(ALNUM + "!*-_", 12)),
    "json": ('{{"user": "ann", "password": "{}"}}', of(ALNUM + "!*-_ ", 14)),
    "env": ("export DB_PASSWORD='{}'", of(ALNUM + "!*-_", 12)),
    "api key": ("api_key: {}", of(ALNUM, 32)),
    "aws secret": ("aws_secret_access_key = {}", of(ALNUM + "+/", 40)),
    "bearer": ("curl -H 'Authorization: Bearer {}' https://api.example.org", of(ALNUM, 40)),
    "prose": ("the token for the build server is {}, do not tell", of(HEX, 40)),
    "told": ("here is my secret from the console {}", of(ALNUM, 36)),
}
SENTENCES = (
    "{}",
    "Why does {} not work?",
    "I set it to {}\nand restarted",
    "key = '{}',",
    "see:{}.",
    "<{}>",
    "`{}` is refused",
)

LOOK_ALIKES: dict[str, Draw] = {
    "sha256": lambda rng: f"the image digest is sha256:{hashlib.sha256(rng.randbytes(8)).hexdigest()}",
    "commit": lambda rng: f"git revert {of(HEX, 40)(rng)} breaks the build",
    "short commit": lambda rng: f"since {of(HEX, 7)(rng)} it fails",
    "uuid": lambda rng: f"order {uuid.UUID(int=rng.getrandbits(128), version=4)} is late",
    "uuid told": lambda rng: f"token id: {uuid.UUID(int=rng.getrandbits(128), version=4)}",
    "code": lambda rng: f"password = os.environ['DB_{of(string.ascii_uppercase, 6)(rng)}']",
    "shell": lambda rng: f"export API_KEY=${{{of(string.ascii_uppercase, 8)(rng)}}}",
    "call": lambda rng: f"token = get_token(user_{of(string.ascii_lowercase, 6)(rng)})",
    "placeholder": lambda rng: f"set api_key: your-{of(string.ascii_lowercase, 5)(rng)}-key-here",
    "prose": lambda rng: (
        f"The password is {rng.choice(['required', 'wrong', 'optional', 'too short', 'expired'])} for user {rng.randrange(99)}"
    ),
    "question": lambda rng: f"How do I reset the password of account {rng.randrange(10**6)}?",
    "url": lambda rng: f"https://example.org:{rng.randrange(1000, 9999)}/{of(ALNUM, 12)(rng)}?page={rng.randrange(99)}",
    "mail": lambda rng: f"ssh://git@example.org/{of(string.ascii_lowercase, 8)(rng)}.git",
    "base64 picture": lambda rng: f"data:image/png;base64,{of(ALNUM + '+/', 64)(rng)}",
    "path": lambda rng: f"/usr/lib/python3.11/site-packages/{of(string.ascii_lowercase, 20)(rng)}/secrets/token.py",
    "identifier": lambda rng: f"class {of(string.ascii_letters, 24)(rng)}TokenFactory2: pass",
    "kebab": lambda rng: f"sk-learn-{of(string.ascii_lowercase, 8)(rng)} and task-{of(string.ascii_lowercase, 20)(rng)}",
    "type": lambda rng: f"def login(password: str, token: Optional[str] = None, n={rng.randrange(99)})",
    "number": lambda rng: f"token count: {rng.randrange(10**6)}, budget {rng.randrange(10**12)}",
    "sum": lambda rng: f"What is {rng.randrange(100)} + {rng.randrange(100)}?",
}


def corpus(count: int) -> list[tuple[str, str, str]]:
    """(shape, secret, the text that holds it)."""
    rng = random.Random(11)
    shapes: list[tuple[str, Draw, tuple[str, ...]]] = [(name, draw, SENTENCES) for name, draw in ANCHORED.items()]
    shapes += [(name, draw, (template,)) for name, (template, draw) in NAMED.items()]
    found = []
    for n in range(count):
        name, draw, sentences = shapes[n % len(shapes)]
        secret = draw(rng)
        found.append((name, secret, rng.choice(sentences).format(secret)))
    return found


def test_a_thousand_secrets_are_found() -> None:
    missed = Counter(dict.fromkeys((*ANCHORED, *NAMED), 0))
    examples = corpus(1000)
    assert len(missed) >= 20
    for name, secret, text in examples:
        missed[name] += secret in redact(text)
    print({name: n for name, n in missed.items() if n})
    anchored = [name for name, _, _ in examples if name in ANCHORED]
    assert sum(missed[name] for name in ANCHORED) <= 0.01 * len(anchored)
    assert missed.total() <= 0.02 * len(examples)


def test_a_thousand_look_alikes_are_left_alone() -> None:
    rng = random.Random(12)
    marked = Counter[str]()
    for n in range(1000):
        name = list(LOOK_ALIKES)[n % len(LOOK_ALIKES)]
        text = LOOK_ALIKES[name](rng)
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
        ("nothing here", "nothing here"),
    ],
)
def test_marks_name_the_kind_and_leave_the_rest(text: str, left: str) -> None:
    assert redact(text) == left


@given(st.text() | st.builds("{} {}".format, st.text(), st.sampled_from([text for _, _, text in corpus(74)])))
def test_a_second_pass_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize("taken", [False, True])
def test_nothing_that_is_written_holds_a_secret(tmp_path: Path, taken: bool) -> None:
    home = Home(tmp_path / "home").create()
    log = ExchangeLog(home)
    canaries = [(secret, text) for name, secret, text in corpus(37) if name in ANCHORED]
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
