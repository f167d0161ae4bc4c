"""shammah-serve: the terminal session, one question, and a check of the installation."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from shammah_data import command
from shammah_data.errors import InputError
from shammah_data.home import Home
from shammah_data.settings import Provider, Settings, WantedPrecision
from shammah_data.text import counted, printable

app = typer.Typer(
    help="Answer questions, locally where it is sure and through Claude where it is not.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
ProviderOption = Annotated[Provider | None, typer.Option("--provider", help="Where the model runs (default: config.toml).")]
PrecisionOption = Annotated[
    WantedPrecision | None, typer.Option("--precision", help="Which of a version's graphs answers (default: config.toml).")
]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask Claude.")]
NoLog = Annotated[bool, typer.Option("--no-log", help="Write nothing to the exchange log.")]

# How the local model's answers are drawn: None leaves what config.toml says.
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Most tokens of an answer.")]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="0 takes the likeliest token, 1 draws as it is likely.")
]
TopK = Annotated[int | None, typer.Option("--top-k", help="Draw among so many likeliest tokens (0: all).")]
TopP = Annotated[float | None, typer.Option("--top-p", help="Draw among the fewest tokens that are so probable together.")]
MinP = Annotated[
    float | None, typer.Option("--min-p", help="Draw among tokens at least so likely as a share of the likeliest.")
]
Penalty = Annotated[
    float | None, typer.Option("--repetition-penalty", help="Above 1: what was said before becomes less likely.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed draws the same answer.")]
Stop = Annotated[list[str] | None, typer.Option("--stop", help="End an answer before this text; may be given several times.")]
Beams = Annotated[
    int | None, typer.Option("--beams", help="Search for the likeliest whole answer with so many beams (1: off).")
]
LengthPenalty = Annotated[float | None, typer.Option("--length-penalty", help="Of beams: above 0 favours longer answers.")]


def _warn(text: str) -> None:
    print(f"shammah-serve: {printable(text)}", file=sys.stderr)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items() if value is not None}


def _store(home: Home) -> Any:
    """The store of models, which verifies the one that serves while all else is imported."""
    from shammah_data.store import ModelStore

    store = ModelStore(home.models)
    store.verify_ahead()
    return store


def _appliance(warn: Callable[[str], None] = _warn, **options: Any) -> Any:
    home = Home.find().create()
    settings, store = Settings.load(home.settings), _store(home)
    from shammah_runtime.appliance import Appliance, Options

    appliance = Appliance(home, settings, Options(**options), warn, store)
    appliance.start()
    return appliance


@app.callback()
def serve(
    context: typer.Context,
    provider: ProviderOption = None,
    precision: PrecisionOption = None,
    offline: Offline = False,
    no_log: NoLog = False,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: Penalty = None,
    seed: Seed = None,
    stop: Stop = None,
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
    resume: Annotated[bool, typer.Option("--continue", "-c", help="Go on with the last session.")] = False,
    session: Annotated[str | None, typer.Option("--session", help="Go on with a session, by its id.")] = None,
    version: command.ShowVersion = False,
) -> None:
    """Open the terminal session (without a command)."""
    decoding = _given(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
        beams=beams,
        length_penalty=length_penalty,
    )
    if context.invoked_subcommand is not None:
        if provider or precision or offline or no_log or decoding or resume or session is not None:
            raise InputError(f"give these options after the command: shammah-serve {context.invoked_subcommand} --offline ...")
        return
    if no_log and (resume or session is not None):
        raise InputError("--continue and --session go on with what is logged, and with --no-log nothing is")
    home = Home.find().create()
    settings, store = Settings.load(home.settings), _store(home)
    from shammah_runtime.repl import open_session

    def make(warn: Callable[[str], None]) -> Any:
        from shammah_runtime.appliance import Appliance, Options

        options = Options(provider=provider, precision=precision, offline=offline, no_log=no_log, decoding=decoding)
        appliance = Appliance(home, settings, options, warn, store)
        if resume or session is not None:
            warn(appliance.resume(session))
        appliance.start()
        return appliance

    if ended := open_session(home, make, keep=not no_log):
        # As a shell tells a program that a signal ended.
        sys.exit(128 + ended)


@app.command()
def ask(
    question: Annotated[list[str] | None, typer.Argument(help="The question; read from standard input if left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    provider: ProviderOption = None,
    precision: PrecisionOption = None,
    offline: Offline = False,
    no_log: NoLog = False,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: Penalty = None,
    seed: Seed = None,
    stop: Stop = None,
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
    answers: Annotated[int | None, typer.Option("--answers", help="With --json and --beams: also tell the next best.")] = None,
    logprobs: Annotated[
        int | None, typer.Option("--logprobs", help="With --json: tell the tokens, each with so many likeliest in its place.")
    ] = None,
) -> None:
    """Answer one question."""
    text = " ".join(question) if question else "" if sys.stdin.isatty() else sys.stdin.read()
    if not text.strip():
        raise InputError('no question: shammah-serve ask "What is ...?", or give it on standard input')
    if not as_json and (answers is not None or logprobs is not None):
        raise InputError("--answers and --logprobs are told in JSON: give --json too")
    decoding = _given(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
        beams=beams,
        length_penalty=length_penalty,
        answers=answers,
        logprobs=logprobs,
    )
    # Behind the answer: one that came within it would stand in its line.
    notes: list[str] = []
    appliance = _appliance(
        notes.append, provider=provider, precision=precision, offline=offline, no_log=no_log, watch=False, decoding=decoding
    )
    from shammah_runtime.terminal import Terminal

    terminal = Terminal()
    try:
        reply = appliance.conversation.ask(text, (lambda _: None) if as_json else terminal.stream)
    finally:
        if not as_json:
            terminal.end()
        for note in [*notes, *appliance.models.notes()]:
            _warn(note)
    if as_json:
        proposal = reply.proposal
        shown = {
            "answer": reply.text or None,
            "tier": proposal.attempt.tier if proposal.attempt.outcome == "accepted" else None,
            "confidence": proposal.attempt.confidence,
            "latency_ms": round(reply.latency_ms, 1),
            "model_version": proposal.model_version,
            "teacher_model": proposal.teacher_model,
            "complete": reply.answered,
            "error": reply.error,
            "attempts": [asdict(attempt) for attempt in reply.attempts],
        }
        if logprobs is not None:
            shown["tokens"] = [_told(token) for token in reply.tokens]
        if answers is not None:
            shown["others"] = list(reply.others)
        print(json.dumps(shown, ensure_ascii=False))
    elif reply.error is None and sys.stderr.isatty():
        from shammah_runtime.repl import summary

        Terminal(sys.stderr).remark(summary(reply))
    elif reply.error is None and not reply.interrupted and not reply.answered:
        _warn(f"the answer is incomplete: {reply.proposal.attempt.reason}")
    terminal.check()
    if reply.interrupted:
        sys.exit(130)
    if reply.error is not None:
        if not as_json:
            _warn(reply.error)
        sys.exit(3)


def _told(token: Any) -> dict[str, Any]:
    told = {"id": token.id, "text": printable(token.text), "logprob": round(token.logprob, 6)}
    return told | ({"top": [_told(one) for one in token.top]} if token.top else {})


@app.command()
def audit() -> None:
    """Put the local answers that were drawn for it to Claude now, and say what came of it; sessions do so by themselves."""
    from shammah_runtime.audits import Auditor
    from shammah_runtime.status import precision_line

    appliance = _appliance(watch=False)
    auditor: Auditor | None = appliance.auditor
    if auditor is None:
        raise InputError(f"no audits: {appliance.why_no_audits}")
    auditor.count()
    done = auditor.run()
    for note in appliance.models.notes():
        print(note)
    print(f"audited: {done}; precision: {precision_line(auditor.judged())}")


@app.command()
def why(
    exchange: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Its id or the beginning of one; the newest if left out.")
    ] = None,
) -> None:
    """Explain a past answer: tiers tried, confidence and its parts, thresholds, nearest exchange, audit, cost."""
    from shammah_data.log import ExchangeLog
    from shammah_runtime.why import why as explain

    home = Home.find()
    for line in explain(home, ExchangeLog(home, Settings.load(home.settings)), exchange):
        print(printable(line))


@app.command()
def similar(
    text: Annotated[list[str] | None, typer.Argument(help="What to look for; read from standard input if left out.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many, nearest first.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find exchanges whose questions mean much the same."""
    from shammah_data.log import ExchangeLog
    from shammah_runtime.similar import find_similar, told

    wanted = " ".join(text) if text else "" if sys.stdin.isatty() else sys.stdin.read()
    if not wanted.strip():
        raise InputError("nothing to look for: shammah-serve similar TEXT, or give it on standard input")
    home = Home.find().create()
    terminal = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if terminal:
            print(
                f"\r{done} of {counted(total, 'new question')} embedded",
                end="\n" if done == total else "",
                file=sys.stderr,
                flush=True,
            )

    settings = Settings.load(home.settings)
    found = find_similar(home, ExchangeLog(home, settings), wanted, limit, settings.serve.threads, progress)
    if as_json:
        shown = [{**one.row, "similarity": round(one.similarity, 4)} for one in found]
        # Pure ASCII: no letter can drive the terminal or be lost in its encoding.
        print(json.dumps(shown, default=str, indent=1))
        return
    for one in found:
        print(told(one))
    if not found:
        print("the log is empty: ask something with shammah-serve, or run `shammah-log import FILE`")


@app.command()
def http(
    host: Annotated[str | None, typer.Option("--host", help="Where to listen (default: config.toml, else 127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="The port (default: config.toml, else 8484; 0: any).")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let other machines reach it.")] = False,
    provider: ProviderOption = None,
    precision: PrecisionOption = None,
    offline: Offline = False,
    no_log: NoLog = False,
) -> None:
    """Serve OpenAI's and Anthropic's APIs (pip install 'shammah[http]')."""
    try:
        from shammah_runtime.http.server import serve as serve_http
    except ModuleNotFoundError as error:
        raise InputError(f"the HTTP server is not installed ({error}): pip install 'shammah[http]'") from error
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = replace(Settings.load(Home.find().settings).http, **given)  # type: ignore[arg-type]
    appliance = _appliance(
        provider=provider,
        precision=precision,
        offline=offline,
        no_log=no_log,
        watch=True,
        engine_wait=settings.busy_wait_ms / 1000.0,
    )
    try:
        serve_http(appliance, settings, public, no_log, _warn)
    finally:
        appliance.close()


@app.command()
def doctor() -> None:
    """Check the installation: ONNX Runtime, home, settings, log, base, model, API key."""
    from shammah_runtime.doctor import examine

    checks = examine(Home.find())
    for check in checks:
        print(printable(str(check)))
    if any(check.level == "fail" for check in checks):
        sys.exit(1)


def main() -> None:
    """Entry point of `shammah-serve`."""
    # A byte that is no text in the terminal's encoding must not end a session.
    reconfigure = getattr(sys.stdin, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="replace")
    command.leave_threads_behind(app, "shammah-serve")


if __name__ == "__main__":
    main()
