"""Teachers behind OpenAI's chat completions, streamed: an open model, for one, on whatever serves it. Knows that wire format.

It is read here, in a hundred lines over the HTTP client that anthropic brings along, which takes 0.07 s of CPU to import; the
openai package takes 0.4 s and 30 MB (https://platform.openai.com/docs/api-reference/chat/streaming).
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from shammah_runtime.failures import LONGEST_DETAIL, Failure, safe, status_failure
from shammah_runtime.request import Delta, End, Request, count_of, text_of

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
_OPENAI = "https://api.openai.com/"
_LONGEST_ERROR = 20_000


class OpenAIRequest(Request):
    """One POST to /chat/completions."""

    def request(self) -> End | Failure:
        import httpx2

        base = (self.settings.base_url or "").rstrip("/")
        url = httpx2.URL(f"{base}/chat/completions")
        self.where = f"{url.scheme}://{url.netloc.decode()}"  # without user and password
        with contextlib.ExitStack() as stack:
            client = self.http_client
            if client is None:
                # No redirects: they would carry the key to another host.
                client = stack.enter_context(
                    httpx2.Client(timeout=self.seconds, follow_redirects=False, event_hooks={"request": [self.watch]})
                )
            headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
            response = stack.enter_context(client.stream("POST", url, json=self._body(base), headers=headers))
            if response.status_code != 200:
                return self._refused(response)
            try:
                return self._read(lines(response.iter_bytes()))
            except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
                return self.no_answer(error)
            except httpx2.TransportError as error:
                failure = self.network_failure(error, error, in_answer=True)
                assert failure is not None
                return failure

    def _body(self, base: str) -> dict[str, Any]:
        system = [{"role": "system", "content": self.settings.system}] if self.settings.system else []
        # OpenAI's own models have dropped the name that all the other servers know.
        most = "max_completion_tokens" if f"{base}/".startswith(_OPENAI) else "max_tokens"
        return {
            "model": self.settings.model,
            most: self.settings.max_tokens,
            "messages": [*system, *({"role": one.role, "content": one.content} for one in self.messages)],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def _read(self, told: Iterable[str]) -> End | Failure:
        model, stop_reason = self.settings.model, ""
        tokens_in: int | None = None
        tokens_out: int | None = None
        begun = False
        for data in events(told):
            if self.aborted or data == "[DONE]":
                break
            chunk = json.loads(data)
            if error := chunk.get("error"):
                return self._said(200, error, {}, in_stream=True)
            begun = True
            model = safe(str(chunk.get("model") or model), self.key, 100)
            if usage := chunk.get("usage"):
                tokens_in, tokens_out = count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens"))
            for choice in chunk.get("choices") or ():
                # A choice may bring no text, but what a filter made of it.
                self.events.put(Delta(text_of((choice.get("delta") or {}).get("content") or "")))
                stop_reason = choice.get("finish_reason") or stop_reason
        if stop_reason:
            reason = STOP_REASONS.get(stop_reason, safe(str(stop_reason), self.key, 40))
            return End(model, reason, tokens_in, tokens_out)
        return self.broken_off() if begun else self.no_answer()

    def _refused(self, response: Any) -> Failure:
        text = ""
        for piece in response.iter_text():
            text += piece
            if len(text) > _LONGEST_ERROR:
                break
        try:
            error = json.loads(text)
        except ValueError:
            error = ""
        told = error.get("error", error) if isinstance(error, dict) else error
        return self._said(response.status_code, told, response.headers, in_stream=False)

    def _said(self, status: int, error: Any, headers: Any, in_stream: bool) -> Failure:
        told = error if isinstance(error, dict) else {"message": error if isinstance(error, str) else ""}
        detail = safe(str(told.get("message") or ""), self.key, LONGEST_DETAIL)
        kind = safe(str(told.get("type") or told.get("code") or ""), self.key, LONGEST_DETAIL)
        return status_failure(self.called, status, kind, detail, headers, in_stream, None)

    def failure(self, error: Exception) -> Failure:
        """Say in one line what an exception of the network means."""
        try:
            import httpx2  # noqa: F401
        except ImportError:
            return Failure(f"The httpx2 package cannot be imported ({error}): install shammah again", cause=error)
        return self.network_failure(error, error, in_answer=False) or self.not_made(error, error)


def lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines of a stream of events: CR, LF or both end one, and none of the other letters that end a line of text."""
    held: list[bytes] = []
    for piece in pieces:
        held.append(piece)
        if b"\n" in piece or b"\r" in piece:
            found = b"".join(held).splitlines(keepends=True)
            # A CR may be the first half of both.
            held = [] if found[-1].endswith(b"\n") else [found.pop()]
            yield from (line.rstrip(b"\r\n").decode("utf-8", "replace") for line in found)
    yield from (line.decode("utf-8", "replace") for line in b"".join(held).splitlines())


def events(lines: Iterable[str]) -> Iterator[str]:
    """The data of each server-sent event (WHATWG HTML, 9.2.6); an event without its blank line is none."""
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
