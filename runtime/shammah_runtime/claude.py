"""Claude's Messages API through the anthropic SDK, streamed. Knows its events and errors; no deadlines and no retries.

The SDK is imported by `import_sdk` or the first question: it costs over a second.
"""

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from shammah_runtime.caching import marked, plain
from shammah_runtime.failures import LONGEST_DETAIL, Failure, safe, status_failure
from shammah_runtime.request import Delta, End, Request, count_of, text_of

if TYPE_CHECKING:
    import anthropic
    from anthropic.types import RawMessageStreamEvent, Usage

_IMPORTING = threading.Lock()


def import_sdk() -> Any:
    """The SDK."""
    # One thread at a time: a second import meets the package's lazy attributes half made.
    with _IMPORTING:
        import anthropic
        import anthropic.resources.messages

        return anthropic


class ClaudeRequest(Request):
    """One call of messages.create."""

    def request(self) -> End | Failure:
        anthropic = import_sdk()
        timeout = anthropic.Timeout(self.seconds)
        with contextlib.ExitStack() as stack:
            client = self.http_client
            if client is None:
                # No redirects: they would carry the key to another host.
                client = anthropic.DefaultHttpxClient(
                    timeout=timeout, follow_redirects=False, event_hooks={"request": [self.watch]}
                )
                stack.callback(client.close)
            sdk = anthropic.Anthropic(
                api_key=self.key,
                base_url=self.settings.base_url,
                max_retries=0,
                timeout=timeout,
                http_client=client,
                # A collector of traces would be told of each question, and by some settings what it says.
                open_telemetry=False,
            )
            if sdk.base_url.host:
                self.where = f"{sdk.base_url.scheme}://{sdk.base_url.netloc.decode()}"  # without user and password
            system, turns = plain(self.settings.system, self.messages)
            if self.settings.cache:
                system, turns = marked(self.settings.system, self.messages, self.settings.cache_turns)
            stream = sdk.messages.create(
                model=self.settings.model,
                max_tokens=self.settings.max_tokens,
                system=system or anthropic.omit,
                messages=turns,
                stream=True,
            )
            stack.enter_context(stream)
            try:
                return self._read(stream)
            except (ValueError, TypeError, AttributeError) as error:
                return self.no_answer(error)

    def _read(self, stream: "anthropic.Stream[RawMessageStreamEvent]") -> End | Failure:
        model = self.settings.model
        stop_reason: str | None = None
        read: tuple[int | None, int, int] = (None, 0, 0)
        tokens_out: int | None = None
        for event in stream:
            if self.aborted:
                break
            if event.type == "message_start":
                model = safe(str(event.message.model), self.key, 100)
                read = _read_tokens(_usage(event.message))
                self.begun = End(model, "", read[0], None, *read[1:])
            elif event.type == "content_block_start":
                self.events.put(Delta(text_of(event.content_block.text) if event.content_block.type == "text" else ""))
            elif event.type == "content_block_delta":
                self.events.put(Delta(text_of(event.delta.text) if event.delta.type == "text_delta" else ""))
            elif event.type == "message_delta":
                stop_reason = event.delta.stop_reason
                usage = _usage(event)
                tokens_out = count_of(getattr(usage, "output_tokens", None))
                if count_of(getattr(usage, "input_tokens", None)):
                    read = _read_tokens(usage)
            elif event.type == "message_stop" and isinstance(stop_reason, str):
                return End(model, stop_reason, read[0], tokens_out, *read[1:])
        return self.broken_off() if self.begun else self.no_answer()

    def failure(self, error: Exception) -> Failure:
        """Say in one line what an exception of the SDK or the network means."""
        try:
            import anthropic
            import httpx2  # noqa: F401
        except ImportError:
            return Failure(f"The anthropic package cannot be imported ({error}): install shammah again", cause=error)
        if isinstance(error, anthropic.APIStatusError):
            detail = safe(error.api_message, self.key, LONGEST_DETAIL) if isinstance(error.api_message, str) else ""
            in_stream = error.status_code == 200
            kind = safe(str(error.type or ""), self.key, LONGEST_DETAIL)
            return status_failure(self.called, error.status_code, kind, detail, error.response.headers, in_stream, error)
        # The SDK wraps what happens before the answer begins and leaves bare what happens in its midst.
        wrapped = isinstance(error, anthropic.APIConnectionError)
        cause = (error.__cause__ or error) if wrapped else error
        return self.network_failure(error, cause, not wrapped) or self.not_made(error, cause)


def _usage(told: Any) -> "Usage | Any":
    """The tokens of a message or an event; None where a gateway leaves them out, for which no answer is to be lost."""
    return getattr(told, "usage", None)


def _read_tokens(usage: "Usage | Any") -> tuple[int | None, int, int]:
    """(all that was read, written to the cache, read from it); the API counts the three apart."""
    plain = count_of(getattr(usage, "input_tokens", None))
    written = count_of(getattr(usage, "cache_creation_input_tokens", None)) or 0
    cached = count_of(getattr(usage, "cache_read_input_tokens", None)) or 0
    return (None if plain is None else plain + written + cached), written, cached
