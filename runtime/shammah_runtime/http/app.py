"""The ASGI application: paths, and what stands between a request and the service. Knows both APIs by their functions."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from shammah_data.errors import InputError, LogError
from shammah_data.text import printable
from shammah_runtime.appliance import Appliance
from shammah_runtime.http import anthropic_api, feedback_api, openai_api, telling
from shammah_runtime.http.asking import MODELS, Limits, Wanted
from shammah_runtime.http.figures import Figures
from shammah_runtime.http.guard import Guard, Rules, retry_headers
from shammah_runtime.http.openapi import description
from shammah_runtime.http.service import Job, Outcome, Service
from shammah_runtime.http.telling import Problem

_LAG_SECONDS = 0.05


@dataclass(frozen=True)
class Api:
    """One API's functions: from a body to what is asked, from an outcome to a body, a stream, an error."""

    read: Callable[[bytes, Limits], tuple[Any, Wanted]]
    answer: Callable[[Any, Outcome], dict[str, Any]]
    stream: Callable[[Any, Job, str | Outcome], AsyncIterator[bytes]]
    error: Callable[[Problem], dict[str, Any]]


OPENAI = Api(openai_api.read, openai_api.answer, openai_api.stream, openai_api.error)
ANTHROPIC = Api(anthropic_api.read, anthropic_api.answer, anthropic_api.stream, anthropic_api.error)


def api_of(path: str) -> Api:
    """Whose shape an error has."""
    return ANTHROPIC if path.startswith("/v1/messages") else OPENAI


class Server:
    """An appliance's answers over HTTP: `app` is the ASGI application."""

    def __init__(
        self, appliance: Appliance, service: Service, limits: Limits, rules: Rules, warn: Callable[[str], None]
    ) -> None:
        self._appliance = appliance
        self._service = service
        self._limits = limits
        self._began = int(time.time())
        self.figures = Figures(appliance.log, self._version, lambda: service.under_way)
        routes = [
            Route("/v1/chat/completions", self._answering(OPENAI), methods=["POST"]),
            Route("/v1/messages", self._answering(ANTHROPIC), methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/v1/models/{name}", self._model),
            Route("/v1/feedback", self._feedback, methods=["POST"]),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
        ]
        if rules.page:
            # Jinja2 takes its time to import, and whoever switched the page off need not have it.
            from shammah_runtime.http.page import Page

            routes += Page(appliance, service, rules.token, lambda: self.figures.refused.labels("token").inc()).routes
        handlers: dict[Any, Any] = {HTTPException: _not_found, Exception: _fault}
        inner = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)
        self.app = Guard(self._counted(inner), rules, _refusal, lambda kind: self.figures.refused.labels(kind).inc(), warn)

    # -- the life of the process --------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        watch = asyncio.create_task(self._watch_lag())
        yield
        watch.cancel()
        self._service.stop_all()
        await asyncio.to_thread(self._service.close)

    async def _watch_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_SECONDS
            await asyncio.sleep(_LAG_SECONDS)
            self.figures.lag.observe(max(loop.time() - due, 0.0))

    def _counted(self, app: Starlette) -> Any:
        routes = [route for route in app.routes if isinstance(route, Route)]

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            async def watched(message: Any) -> None:
                if message["type"] == "http.response.start":
                    # As a route has it: a name that a client invents must not become one of a metric.
                    path = next((route.path for route in routes if route.matches(scope)[0] is not Match.NONE), "other")
                    self.figures.requests.labels(path, str(message["status"])).inc()
                await send(message)

            await app(scope, receive, watched)

        return counted

    # -- answers ------------------------------------------------------------------------------------------------------

    def _answering(self, api: Api) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                asked, wanted = api.read(await request.body(), self._limits)
            except (InputError, ValidationError) as error:
                return _failed(api, _unusable(error))
            job = self._service.begin(wanted)
            if job is None:
                return _failed(api, telling.FULL)
            watch = asyncio.create_task(_watch(request.receive, job))
            kept = False
            try:
                event = await job.next()
                if wanted.stream and (isinstance(event, str) or telling.problem(event) is None):
                    kept = True
                    return _EventStream(api.stream(asked, job, event), job, watch)
                while isinstance(event, str):
                    event = await job.next()
                if (wrong := telling.problem(event)) is not None:
                    return _failed(api, wrong)
                return JSONResponse(api.answer(asked, event), headers=telling.headers(event))
            except asyncio.CancelledError:
                job.stop.ask()
                raise
            finally:
                if not kept:
                    watch.cancel()

        return answer

    async def _feedback(self, request: Request) -> Response:
        try:
            given = feedback_api.read(await request.body())
        except (InputError, ValidationError) as error:
            return _failed(OPENAI, _unusable(error))
        try:
            kept = await self._service.rate(given.id, given.rating, given.correction, float(given.weight))
        except LogError as error:
            return _failed(OPENAI, Problem(503, "log", str(error), again=True))
        if kept is None:
            return _failed(OPENAI, Problem(404, "not_found", "there is no answer with this id", param="id"))
        return JSONResponse({"id": given.id, "rating": given.rating, "kept": kept})

    # -- what can be looked up ----------------------------------------------------------------------------------------

    def _named(self, name: str) -> dict[str, Any]:
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._began))
        theirs = {"object": "model", "created": self._began, "owned_by": "shammah"}
        return {"id": name, **theirs, "type": "model", "display_name": name, "created_at": created}

    async def _models(self, _: Request) -> Response:
        names = list(MODELS)
        return JSONResponse(
            {
                "object": "list",
                "data": [self._named(name) for name in names],
                "has_more": False,
                "first_id": names[0],
                "last_id": names[-1],
            }
        )

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in MODELS:
            return _failed(OPENAI, Problem(404, "model_not_found", f"no model {name!r}: {', '.join(MODELS)}", param="model"))
        return JSONResponse(self._named(name))

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _metrics(self, _: Request) -> Response:
        text = await self._service.aside(self.figures.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, _: Request) -> Response:
        return JSONResponse(description())

    def _version(self) -> str | None:
        # At once, without a wait for what is still being loaded.
        if not self._appliance.models.wait(0.0):
            return None
        model = self._appliance.models.serving()
        return None if model is None else model.manifest.version


class _EventStream(Response):
    """A stream of events; who hangs up ends its query."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], job: Job, watch: "asyncio.Task[None]") -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._events = events
        self._job = job
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in self._events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._job.stop.ask()
            self._watch.cancel()


async def _watch(receive: Receive, job: Job) -> None:
    """End the query once its client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    job.stop.ask()


def _unusable(error: InputError | ValidationError) -> Problem:
    if isinstance(error, InputError):
        name = str(error).partition(":")[0]
        return Problem(400, "invalid_request", str(error), param=name if name.isidentifier() else None)
    found = error.errors(include_url=False, include_input=False, include_context=False)
    # Where a field may be one of several things, the one that was meant is the one that was read furthest.
    field = found[0]["loc"][:-1] or found[0]["loc"]
    first = max((one for one in found if one["loc"][: len(field)] == field), key=lambda one: len(one["loc"]))
    where = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
    told = f"{where}: {first['msg']}" if where else str(first["msg"])
    return Problem(400, "invalid_request", printable(told), param=printable(where) or None)


def _failed(api: Api, wrong: Problem) -> Response:
    return JSONResponse(api.error(wrong), status_code=wrong.status, headers=retry_headers(wrong))


def _refusal(path: str, wrong: Problem) -> bytes:
    return json.dumps(api_of(path).error(wrong)).encode()


async def _fault(request: Request, _: Exception) -> Response:
    return _failed(api_of(request.url.path), telling.FAULT)


async def _not_found(request: Request, error: HTTPException) -> Response:
    wrong = Problem(error.status_code, "not_found" if error.status_code == 404 else "invalid_request", str(error.detail))
    return JSONResponse(api_of(request.url.path).error(wrong), status_code=wrong.status, headers=error.headers)
