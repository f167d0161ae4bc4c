"""Secrets replaced by typed marks before anything is written. Knows the shapes of credentials, not who writes them.

Three kinds of evidence: a shape that its issuer made recognisable (a prefix, a block, a URL with a password), a password
assigned by name, and a random-looking token beside a word that tells what it is. A hash or an id on its own is none.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MARK = "[secret:{}]"


@dataclass(frozen=True)
class _Shape:
    """A credential that is known by its form; the pattern is only tried where one of the literals occurs."""

    kind: str
    literals: tuple[str, ...]
    pattern: re.Pattern[str]


def _shape(kind: str, literals: str, pattern: str) -> _Shape:
    return _Shape(kind, tuple(literals.split()), re.compile(pattern))


# Not inside a longer word, which is then something else.
_START, _END = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])"
_ID = r"[A-Za-z0-9_-]"

_SHAPES = (
    _shape(
        "private-key",
        "PRIVATE",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[^-]*(?:-(?!----END)[^-]*)*"
        r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)?",
    ),
    _shape("age-key", "AGE-SECRET-KEY-", r"AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    _shape("anthropic-key", "sk-ant-", rf"{_START}sk-ant-{_ID}{{16,}}"),
    _shape("openrouter-key", "sk-or-", rf"{_START}sk-or-{_ID}{{16,}}"),
    _shape("openai-key", "sk-", rf"{_START}sk-(?:(?:proj|svcacct|admin|None)-{_ID}{{20,}}|[A-Za-z0-9]{{32,}}{_END})"),
    _shape("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", rf"{_START}gh[pousr]_[A-Za-z0-9]{{30,}}"),
    _shape("github-token", "github_pat_", rf"{_START}github_pat_\w{{22,}}"),
    _shape("gitlab-token", "glpat- gldt- glrt-", rf"{_START}gl(?:pat|dt|rt)-{_ID}{{20,}}"),
    _shape("aws-key-id", "AKIA ASIA", rf"{_START}A(?:KI|SI)A[A-Z2-7]{{16}}{_END}"),
    _shape("google-key", "AIza", rf"{_START}AIza{_ID}{{35}}"),
    _shape("google-token", "ya29. GOCSPX-", rf"{_START}(?:ya29\.{_ID}{{20,}}|GOCSPX-{_ID}{{28}})"),
    _shape("slack-token", "xox xapp-", rf"{_START}(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{{10,}}"),
    _shape("slack-webhook", "hooks.slack.com", r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,}"),
    _shape("stripe-key", "sk_live_ rk_live_ sk_test_ rk_test_", rf"{_START}[sr]k_(?:live|test)_[A-Za-z0-9]{{16,}}"),
    _shape("webhook-secret", "whsec_", rf"{_START}whsec_[A-Za-z0-9+/=]{{20,}}"),
    _shape("huggingface-token", "hf_", rf"{_START}hf_[A-Za-z0-9]{{30,}}"),
    _shape("npm-token", "npm_", rf"{_START}npm_[A-Za-z0-9]{{36}}"),
    _shape("pypi-token", "pypi-", rf"{_START}pypi-{_ID}{{50,}}"),
    _shape("sendgrid-key", "SG.", rf"{_START}SG\.{_ID}{{16,}}\.{_ID}{{30,}}"),
    _shape("twilio-key", "SK", rf"{_START}SK[0-9a-f]{{32}}{_END}"),
    _shape("mailgun-key", "key-", rf"{_START}key-[0-9a-f]{{32}}{_END}"),
    _shape("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", rf"{_START}do[opr]_v1_[0-9a-f]{{64}}"),
    _shape("telegram-token", ":AA", rf"{_START}\d{{8,10}}:AA{_ID}{{33}}"),
    _shape("discord-token", ".", rf"{_START}[MNO]{_ID}{{23,25}}\.{_ID}{{6}}\.{_ID}{{27,}}"),
    _shape("shopify-token", "shpat_ shpca_ shppa_ shpss_", rf"{_START}shp(?:at|ca|pa|ss)_[0-9a-fA-F]{{32}}"),
    _shape("databricks-token", "dapi", rf"{_START}dapi[0-9a-f]{{32}}"),
    _shape("groq-key", "gsk_", rf"{_START}gsk_[A-Za-z0-9]{{40,}}"),
    _shape("xai-key", "xai-", rf"{_START}xai-[A-Za-z0-9]{{40,}}"),
    _shape("perplexity-key", "pplx-", rf"{_START}pplx-[A-Za-z0-9]{{40,}}"),
    _shape("replicate-token", "r8_", rf"{_START}r8_[A-Za-z0-9]{{30,}}"),
    _shape("linear-key", "lin_api_", rf"{_START}lin_api_[A-Za-z0-9]{{32,}}"),
    _shape("notion-token", "ntn_ secret_", rf"{_START}(?:ntn|secret)_[A-Za-z0-9]{{40,}}"),
    _shape("vault-token", "hvs. hvb.", rf"{_START}hv[sb]\.{_ID}{{24,}}"),
    _shape("docker-token", "dckr_pat_", rf"{_START}dckr_pat_{_ID}{{20,}}"),
    _shape("atlassian-token", "ATATT3", rf"{_START}ATATT3[A-Za-z0-9_=-]{{50,}}"),
    _shape("figma-token", "figd_", rf"{_START}figd_{_ID}{{30,}}"),
    _shape("postman-key", "PMAK-", rf"{_START}PMAK-[0-9a-f]{{24}}-[0-9a-f]{{34}}"),
    _shape("grafana-token", "glsa_ glc_", rf"{_START}gl(?:sa|c)_[A-Za-z0-9_+/=]{{30,}}"),
    _shape("azure-key", "AccountKey=", r"(?<=AccountKey=)[A-Za-z0-9+/]{80,}={0,2}"),
    _shape("jwt", "eyJ", rf"{_START}eyJ{_ID}{{8,}}\.eyJ{_ID}{{8,}}\.{_ID}*"),
    # The user and the host stay; greedy up to the last @ before the path, for a password may hold one.
    _shape("url-password", "://", r"(?<=://)(?P<keep>[^\s:/@\"'<>]*:)(?!\[secret:)[^\s/\"'<>]+(?=@[A-Za-z0-9\[])"),
)

_BY_LITERAL = tuple((literal, shape) for shape in _SHAPES for literal in shape.literals)

_PASSWORD = r"password|passwd|passphrase|pwd|passwort|mot de passe|contrase(?:ñ|n)a"
_TOKEN = (
    r"secret|token|api[ _-]?key|apikey|access[ _-]?key|auth[ _-]?key|"
    r"account[ _-]?key|private[ _-]?key|credentials?|bearer|authorization"
)
# Every alternative above holds one of these in lower case.
_TELLING_PARTS = ("pass", "pwd", "contrase", "secret", "token", "key", "credential", "bearer", "authorization")
_TELLING = re.compile(rf"{_PASSWORD}|{_TOKEN}", re.IGNORECASE)
_PASSWORDS = re.compile(_PASSWORD, re.IGNORECASE)
# What stands between a name and its value: an assignment, a JSON member, a header, "is"; in a URL's query too.
_ASSIGNED = re.compile(
    rf"(?P<keep>(?P<name>{_PASSWORD}|{_TOKEN})[\w-]*[\"'`]?\s*(?P<sign>:=|=>|=|:|\bis\b)\s*(?:(?:bearer|basic|token)\s+)?)"
    r"(?:(?P<quote>[\"'`])(?P<quoted>[^\"'`\n]{4,200})(?P=quote)|(?P<bare>[^\s\"'`,;&<>()\[\]{}]{4,}))",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<keep>\b(?:bearer|basic)\s+)(?P<bare>[A-Za-z0-9._~+/=-]{16,})", re.IGNORECASE)
_CANDIDATE = re.compile(r"(?<![\w/.+-])[A-Za-z0-9_+/=-]{20,200}(?![\w/.+-])")
# A value that names where the secret is, or that there is none.
_PLACEHOLDER = re.compile(
    r"\$|%|\*{3}|\.{3}|x{4,}|(?:your|my|the|some)[-_ ]|example|changeme|placeholder|redacted|hidden|none\b|null\b|true\b|"
    r"false\b|os\.|env|getenv|process\.|config|settings|args|self\.|str\b|string\b|optional\b|required\b|input|\[secret:",
    re.IGNORECASE,
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NEAR = 40
_RANDOM_BITS = 3.5


def redact(text: str) -> str:
    """The text with every recognised secret replaced by `[secret:KIND]`; a second pass changes nothing."""
    # Most texts hold none of the literals: this pass is what a row costs.
    for literal, shape in _BY_LITERAL:
        if literal in text:
            text = shape.pattern.sub(_marked(shape.kind), text)
    lowered = text.lower()
    if any(word in lowered for word in _TELLING_PARTS) and _TELLING.search(text):
        text = _ASSIGNED.sub(_assigned, text)
        text = _BEARER.sub(lambda m: m["keep"] + MARK.format("token") if _random(m["bare"]) else m[0], text)
        text = _CANDIDATE.sub(_beside_a_telling_word(text), text)
    return text


def redact_all(value: Any) -> Any:
    """A JSON-able value with every string in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_all(each) for key, each in value.items()}
    return [redact_all(each) for each in value] if isinstance(value, list | tuple) else value


def _marked(kind: str) -> Callable[[re.Match[str]], str]:
    return lambda match: match.groupdict().get("keep", "") + MARK.format(kind)


def _assigned(match: re.Match[str]) -> str:
    value = match["quoted"] or match["bare"]
    quote = match["quote"] or ""
    if _PLACEHOLDER.match(value) or _UUID.fullmatch(value):
        return match[0]
    if _PASSWORDS.fullmatch(match["name"]):
        # In prose ("the password is required") a value must look like one; assigned in quotes, anything is.
        plain = value.isalpha() or not value.strip(".!?")
        if plain and not (quote and match["sign"] != "is"):
            return match[0]
        return f"{match['keep']}{quote}{MARK.format('password')}{quote}"
    if not _random(value):
        return match[0]
    return f"{match['keep']}{quote}{MARK.format('token')}{quote}"


def _beside_a_telling_word(text: str) -> Callable[[re.Match[str]], str]:
    def replaced(match: re.Match[str]) -> str:
        before = text[max(0, match.start() - _NEAR) : match.start()]
        told = _TELLING.search(before) is not None and "\n" not in before[_last_telling(before) :]
        return MARK.format("token") if told and _random(match[0]) and not _UUID.fullmatch(match[0]) else match[0]

    return replaced


def _last_telling(text: str) -> int:
    return max((match.start() for match in _TELLING.finditer(text)), default=0)


def _random(token: str) -> bool:
    """Whether a token looks drawn rather than written: long, with digits and letters, and no symbol much more common."""
    if len(token) < 12 or not any(c.isdigit() for c in token) or not any(c.isalpha() for c in token):
        return False
    counts = Counter(token)
    entropy = -sum(n / len(token) * math.log2(n / len(token)) for n in counts.values())
    # The most that a token of this length, or one of hexadecimal digits, can have.
    return entropy >= min(_RANDOM_BITS, 0.8 * math.log2(len(token)))
