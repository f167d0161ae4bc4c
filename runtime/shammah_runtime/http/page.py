"""The page: who may see it, and its paths. Knows requests and forms; what is shown comes from `overview` and `exchanges`.

A browser shows the token once and gets a cookie instead; forms hold a word that no other site can know. No path of it grants
anything to other origins, and nothing on it comes from elsewhere.
"""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from shammah_data import served
from shammah_data.errors import ArtifactError, InputError, LogError
from shammah_data.pages import environment, style
from shammah_data.session import Session
from shammah_data.text import printable
from shammah_runtime import why
from shammah_runtime.appliance import Appliance
from shammah_runtime.http import exchanges, overview
from shammah_runtime.http.browsers import SECONDS, Browsers
from shammah_runtime.http.feedback_api import FeedbackRequest
from shammah_runtime.http.guard import allowed
from shammah_runtime.http.service import Service

_FOLDER = Path(__file__).parent / "templates"
_FILES = {"page.css": "text/css", "page.js": "text/javascript", "page.svg": "image/svg+xml"}
_MOST_SHOWN = 50
_MOST_WORDS = 20
_LONGEST_SEARCH = 200
_MOST_FIELDS = 10
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: a form would then name `null` as its origin, which the guard refuses.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

_FOREIGN = "This form is not from here, or too old: go back, load the page again and repeat it."
_UNKNOWN = "There is no such exchange here."

# A path's function gets the request and the word of the browser's forms.
Signed = Callable[[Request, str], Awaitable[Response]]


class Page:
    """The routes of the page. `refused` hears of each wrong token; `clock` gives the time of day."""

    def __init__(
        self,
        appliance: Appliance,
        service: Service,
        token: str,
        refused: Callable[[], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._appliance = appliance
        self._service = service
        self._token = token
        self._refused = refused
        self._browsers = Browsers()
        self._clock = clock

    @property
    def routes(self) -> list[Route]:
        """What the page answers to; every path but the way in and the files needs a signed-in browser."""
        return [
            Route("/", self._signed_in(self._overview)),
            Route("/exchanges", self._signed_in(self._list)),
            Route("/exchanges/{id}", self._signed_in(self._one)),
            Route("/exchanges/{id}/rating", self._signed_in(self._rate, form=True), methods=["POST"]),
            Route("/sign-out", self._signed_in(self._leave, form=True), methods=["POST"]),
            Route("/sign-in", self._enter, methods=["POST"]),
            *(Route(f"/{name}", _file) for name in _FILES),
        ]

    # -- who may see it -----------------------------------------------------------------------------------------------

    def _signed_in(self, work: Signed, form: bool = False) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            word = self._browsers.word(request.cookies.get(_cookie(request), ""))
            if word is None:
                return _sign_in()
            if form and not hmac.compare_digest((await _form(request)).get("form", "").encode(), word.encode()):
                return _problem(403, _FOREIGN, word)
            return await work(request, word)

        return answer

    async def _enter(self, request: Request) -> Response:
        if not allowed(self._token, {"x-api-key": [(await _form(request)).get("token", "").strip()]}):
            self._refused()
            return _sign_in("That is not the token.")
        self._browsers.leave(request.cookies.get(_cookie(request), ""))
        answer = _to("/")
        # Where a proxy speaks TLS for us, the origin says so.
        secure = request.headers.get("origin", "").startswith("https:")
        name = self._browsers.enter()
        answer.set_cookie(_cookie(request), name, SECONDS, httponly=True, samesite="strict", secure=secure)
        return answer

    async def _leave(self, request: Request, _: str) -> Response:
        self._browsers.leave(request.cookies.get(_cookie(request), ""))
        answer = _to("/")
        answer.delete_cookie(_cookie(request), httponly=True, samesite="strict")
        return answer

    # -- what is shown ------------------------------------------------------------------------------------------------

    async def _overview(self, _: Request, word: str) -> Response:
        def work() -> str:
            appliance = self._appliance
            known = overview.gather(appliance.home, appliance.log, self._clock(), appliance.target, appliance.wanted)
            rows = [exchanges.shown(row) for row in known.recent]
            more = known.served is not None and known.served.asked > len(rows)
            return _filled("overview", word, keeps=self._appliance.keeps, rows=rows, more=more, **overview.parts(known))

        return _html(await self._service.page(work))

    async def _list(self, request: Request, word: str) -> Response:
        before = request.query_params.get("before")
        find = printable(request.query_params.get("find", "")).strip()[:_LONGEST_SEARCH]
        words = find.split()[:_MOST_WORDS]

        def read(session: Session) -> list[dict[str, Any]]:
            return served.asked(session, _MOST_SHOWN + 1, before, words)

        def work() -> str:
            log = self._appliance.log
            rows = log.read(read, overview.READ_SECONDS) if log.exists() else []
            older = None
            if len(rows) > _MOST_SHOWN:
                rows = rows[:_MOST_SHOWN]
                older = urlencode({"before": served.cursor(rows[-1]), **({"find": find} if find else {})})
            shown = [exchanges.shown(row) for row in rows]
            return _filled(
                "exchanges", word, keeps=self._appliance.keeps, rows=shown, older=older, find=find, first=before is None
            )

        try:
            return _html(await self._service.page(work))
        except InputError as error:
            return _problem(400, str(error), word)
        except LogError as error:
            return _problem(503, str(error), word)

    async def _one(self, request: Request, word: str) -> Response:
        identity = request.path_params["id"]
        noted = "Noted." if "noted" in request.query_params else ""

        def work() -> str:
            row, attempts = self._appliance.log.find(identity)
            facts = exchanges.why(why.told(self._appliance.home, self._appliance.log, identity, self._appliance.index))
            shown = exchanges.alone({**row, "attempts": attempts}, noted)
            return _filled("exchange", word, row=shown, keeps=self._appliance.keeps, facts=facts)

        return await self._found(identity, work, word)

    async def _part(self, identity: str, word: str, given: FeedbackRequest) -> Response:
        """The place of one exchange in a list, after something was done to it."""

        def work() -> str:
            row, attempts = self._appliance.log.find(identity)
            shown = exchanges.shown({**row, "attempts": attempts}, exchanges.noted(given, row))
            return _filled("part", word, row=shown, keeps=True)

        return await self._found(identity, work, word)

    async def _found(self, identity: str, work: Callable[[], str], word: str) -> Response:
        if _ID.fullmatch(identity) is None:
            return _problem(404, _UNKNOWN, word)
        try:
            return _html(await self._service.page(work))
        except (LogError, ArtifactError) as error:
            gone = str(error).startswith("no exchange")
            return _problem(404 if gone else 503, _UNKNOWN if gone else str(error), word)

    async def _rate(self, request: Request, word: str) -> Response:
        identity = request.path_params["id"]
        try:
            given = exchanges.read(identity, await _form(request))
            kept = await self._service.rate(given.id, given.rating, given.correction, float(given.weight))
        except InputError as error:
            return _problem(400, str(error), word)
        except LogError as error:
            return _problem(503, str(error), word)
        if kept is None:
            return _problem(404, _UNKNOWN, word)
        if "x-part" in request.headers:
            return await self._part(identity, word, given)
        return _to(f"/exchanges/{identity}?noted")


async def _form(request: Request) -> dict[str, str]:
    try:
        return dict(parse_qsl((await request.body()).decode("utf-8", "replace"), True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        return {}


def _cookie(request: Request) -> str:
    """A cookie holds for all ports of a host: two servers on one machine must not share its name."""
    server = request.scope.get("server")
    return f"shammah-{server[1] if server else 0}"


@cache
def _text(name: str) -> str:
    return style(_FOLDER, name) if name.endswith(".css") else (_FOLDER / name).read_text(encoding="utf-8")


@cache
def _address(name: str) -> str:
    return f"/{name}?{hashlib.sha256(_text(name).encode()).hexdigest()[:12]}"


async def _file(request: Request) -> Response:
    name = request.url.path.removeprefix("/")
    kept = {**_HEADERS, "cache-control": "public, max-age=31536000, immutable"}
    return Response(_text(name), media_type=_FILES[name], headers=kept)


def _filled(template: str, word: str | None, **given: Any) -> str:
    return environment(_FOLDER).get_template(f"{template}.html.j2").render(address=_address, word=word, **given)


def _html(text: str, status: int = 200) -> HTMLResponse:
    # Half a surrogate pair of a damaged log must not cost the page.
    return HTMLResponse(text.encode("utf-8", "replace"), status, headers=_HEADERS)


def _problem(status: int, told: str, word: str | None) -> Response:
    return _html(_filled("problem", word, told=told), status)


def _sign_in(wrong: str = "") -> Response:
    answer = _html(_filled("sign_in", None, wrong=wrong), 401)
    answer.headers["www-authenticate"] = "Bearer"
    return answer


def _to(path: str) -> RedirectResponse:
    return RedirectResponse(path, 303, headers=_HEADERS)
