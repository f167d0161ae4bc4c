"""The OpenAPI description of the server, made from the requests' own types. Pure."""

from importlib import metadata
from typing import Any

from pydantic.json_schema import models_json_schema

from shammah_runtime.http.anthropic_api import MessagesRequest
from shammah_runtime.http.asking import MODELS
from shammah_runtime.http.feedback_api import FeedbackRequest
from shammah_runtime.http.openai_api import ChatRequest

_REFERENCE = "#/components/schemas/{model}"
_PROBLEMS = {
    "400": "The request cannot be used; the message says why.",
    "401": "No token, or a wrong one.",
    "403": "Asked by a page of another site.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "421": "Asked under a name that is not this server's.",
}
_NO_ANSWER = {
    "422": "No local answer is sure enough, and nobody else may be asked.",
    "502": "The teacher failed.",
    "503": "Busy, or the teacher is left alone after failures: ask again after Retry-After seconds.",
}
# Either of the two is enough.
_TOKEN = {"token": {"type": "http", "scheme": "bearer"}, "key": {"type": "apiKey", "in": "header", "name": "x-api-key"}}
_PROVENANCE = {
    "type": "object",
    "description": "Where the answer came from.",
    "required": ["exchange", "tier", "confidence", "version", "teacher_model", "latency_ms", "attempts"],
    "properties": {
        "exchange": {"type": "string", "format": "uuid"},
        "tier": {"enum": ["neural", "learned", "template", "teacher"]},
        "confidence": {"type": ["number", "null"]},
        "version": {"type": ["string", "null"]},
        "teacher_model": {"type": ["string", "null"]},
        "latency_ms": {"type": "number"},
        "attempts": {"type": "array", "items": {"type": "object"}},
    },
}


def description() -> dict[str, Any]:
    """The whole document."""
    requests: tuple[Any, ...] = (ChatRequest, MessagesRequest, FeedbackRequest)
    _, made = models_json_schema([(one, "validation") for one in requests], ref_template=_REFERENCE)
    schemas = {**made["$defs"], "Provenance": _PROVENANCE, "Error": _object(error={"type": "object"})}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shammah",
            "version": metadata.version("shammah"),
            "description": "Answers by a small local model where it is sure, and by Claude where it is not.",
        },
        "components": {"schemas": schemas, "securitySchemes": _TOKEN},
        "security": [{name: []} for name in _TOKEN],
        "paths": {
            "/v1/chat/completions": {"post": _answering("OpenAI's chat completions", "ChatRequest", "choices")},
            "/v1/messages": {"post": _answering("Anthropic's messages", "MessagesRequest", "content")},
            "/v1/models": {"get": _reading("The names to ask by, in both APIs' shape", _object(data={"type": "array"}))},
            "/v1/models/{name}": {"get": _model()},
            "/v1/feedback": {
                "post": {
                    "summary": "Rate an answer",
                    "requestBody": _body("FeedbackRequest"),
                    "responses": {
                        "200": _json(
                            "The rating holds: in the log where `kept` is true, else while the server runs.",
                            _object(id={"type": "string"}, rating={"type": "string"}, kept={"type": "boolean"}),
                        ),
                        "404": _error("There is no such answer."),
                        "503": _error("The log cannot be written."),
                        **{status: _error(told) for status, told in _PROBLEMS.items()},
                    },
                }
            },
            "/healthz": {
                "get": {**_reading("Whether the server is there", _object(status={"type": "string"})), "security": []}
            },
            "/metrics": {"get": _text("What the log holds and what the server has seen, for Prometheus")},
            "/openapi.json": {"get": _reading("This description", _object(openapi={"type": "string"}))},
        },
    }


def _answering(summary: str, request: str, field: str) -> dict[str, Any]:
    answer = _object(**{field: {"type": "array"}, "shammah": {"$ref": _REFERENCE.format(model="Provenance")}})
    told = _json("An answer; with `stream`, server-sent events.", answer)
    told["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    told["headers"] = {
        name: {"schema": {"type": "string"}, "description": "Of an answer that is not streamed."}
        for name in ("x-shammah-exchange", "x-shammah-tier", "x-shammah-confidence", "x-shammah-version")
    }
    problems = {status: _error(text) for status, text in {**_PROBLEMS, **_NO_ANSWER}.items()}
    return {"summary": summary, "requestBody": _body(request), "responses": {"200": told, **problems}}


def _model() -> dict[str, Any]:
    told = _reading("One of the names to ask by, in both APIs' shape", _object(id={"type": "string"}))
    told["parameters"] = [
        {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "examples": list(MODELS)}}
    ]
    told["responses"]["404"] = _error("There is no such name.")
    return told


def _reading(summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    problems = {status: _error(_PROBLEMS[status]) for status in ("401", "403", "421")}
    return {"summary": summary, "responses": {"200": _json("As it says.", schema), **problems}}


def _text(summary: str) -> dict[str, Any]:
    told = _reading(summary, {})
    told["responses"]["200"] = {"description": "As it says.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return told


def _body(name: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model=name)}}}}


def _json(told: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": told, "content": {"application/json": {"schema": schema}}}


def _error(told: str) -> dict[str, Any]:
    return _json(told, {"$ref": _REFERENCE.format(model="Error")})


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": sorted(properties), "properties": properties}
