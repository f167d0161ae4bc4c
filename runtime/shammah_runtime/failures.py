"""What a failure of the teacher means and what to do about it, in one line without the key. Knows statuses, no network."""

import email.utils
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from shammah_data.text import one_line, printable

TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504, 529})
# What a proxy or a firewall says too, but not in JSON.
_AT_THE_DOOR = frozenset({401, 403, 404, 405, 407, 451})
# What one question did wrong says nothing of the next.
OF_THE_QUESTION = frozenset({400, 413})
# An error event in the middle of a stream has HTTP status 200; its type says which status it would have had.
STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "insufficient_quota": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
WHAT_AND_WHAT_TO_DO = {
    300: ("{who}'s address sends elsewhere, which is not followed", "check {address}"),
    400: ("{who} rejected the request", "check teacher.model and teacher.max_tokens"),
    401: ("{who} refused the API key", "check {key}"),
    402: ("{who} reports a billing problem", "check the plan and the spend limit of this API key"),
    403: ("{who} does not let this API key ask", "check its permissions and {key}"),
    404: ("{who} does not know the model {model}", "check teacher.model and {address}"),
    413: ("The request is too long for {who}", "shorten the query or lower serve.context_turns"),
    429: ("{who} is rate limited", "ask again later"),
    500: ("{who} had an error of its own", "ask again"),
    504: ("{who} took too long", "ask again"),
    529: ("{who} is overloaded", "ask again in a minute"),
}
# A spent limit comes as a bad request, or as one too many.
_SPENT = re.compile(
    r"credit balance|usage limit|spend(ing)? limit|insufficient_quota|exceeded your current quota", re.IGNORECASE
)
LONGEST_MESSAGE = 300
LONGEST_DETAIL = 140


@dataclass(frozen=True)
class Failure:
    """No whole answer: `transient` ones may be tried again; `of_the_question` ones say nothing of the teacher."""

    message: str
    transient: bool = False
    retry_after: float | None = None
    cause: Exception | None = None
    of_the_question: bool = False


@dataclass(frozen=True)
class Called:
    """How a teacher is called in a message: its name, whose its answers are, where its key and address come from, its model."""

    who: str
    whose: str
    key: str
    address: str
    model: str

    def fill(self, text: str) -> str:
        """A message with these names in it."""
        return text.format(who=self.who, key=self.key, address=self.address, model=self.model)


def status_failure(
    called: Called, status: int, kind: str, detail: str, headers: Mapping[str, str], in_stream: bool, cause: Exception | None
) -> Failure:
    """What an HTTP status, or the type of an error in a stream, means; `detail` is the service's own word, without the key."""
    if in_stream:
        status = STATUS_OF_TYPE.get(kind, 0)
    spent = status in (400, 403, 429) and _SPENT.search(f"{kind} {detail}") is not None
    shown = 402 if spent else status
    family = status // 100 * 100 if status // 100 in (3, 5) else 0
    what, todo = WHAT_AND_WHAT_TO_DO.get(shown, WHAT_AND_WHAT_TO_DO.get(family, ("{who} answered with an error", "ask again")))
    if shown in _AT_THE_DOOR and headers.get("content-type", "").startswith("text/html"):
        what, todo = "Something on the way answered for {who} with a page", "check the network and {address}"
    transient = status in TRANSIENT_STATUS and not spent
    wait = retry_after(headers.get("retry-after", ""))
    if wait is not None and transient:
        todo = f"it asks to wait {wait:.0f} s"
    label = f"{kind or 'error'} in mid-answer" if in_stream else str(status)
    message = f"{called.fill(what)} ({label}): {called.fill(todo)}{f' [{detail}]' if detail else ''}"
    return Failure(message, transient, wait, cause, of_the_question=shown in OF_THE_QUESTION)


def retry_after(header: str) -> float | None:
    """Seconds from a retry-after header, a number or a date (RFC 9110, 10.2.3); None when absent or unusable."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def safe(text: str, key: str, longest: int) -> str:
    """The text without the key, without what could drive a terminal, in one line and no longer than that."""
    shown = printable(text)
    # Before it is shortened: half a key is a leak too.
    return one_line(shown.replace(key, "[key]") if key else shown, longest)
