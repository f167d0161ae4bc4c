"""The settings in config.toml, validated once. An unknown key is an error that names the nearest known one.

The docstring of a section tells each of its keys in a paragraph `key: meaning`; docs/reference/settings.md is made from them.
"""

import difflib
import math
import os
import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from shammah_data.errors import SettingsError

# Characters of a question; in no table, for whoever reads a question must know where it ends.
LONGEST_QUERY = 100_000

Provider = Literal["auto", "cpu", "cuda"]
# What a graph's weights are exported to, what a version may hold, and what the runtime may be asked for.
Precision = Literal["int8", "int4", "fp32"]
GraphPrecision = Literal["int8", "int4", "fp32", "fp16", "bf16"]
WantedPrecision = Literal["auto", "int8", "int4", "fp32", "fp16", "bf16"]
Method = Literal["full", "lora"]
TeacherKind = Literal["claude", "openai"]
FirstQuery = Literal["wait", "forward"]
Start = Literal["auto", "base", "champion"]
CudaGraph = Literal["auto", "none"]
PersonalData = Literal["keep", "mask"]
_SERVER = re.compile(r"quack:(?:http://)?(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class ServeSettings:
    """How queries are answered, and how the local model draws its answers.

    provider: where the model runs; `auto` takes CUDA where it can really be used.
    precision: which of a version's graphs answers; `auto` takes a CUDA graph where CUDA can be used, else the first CPU graph
        that fits into memory.
    threads: so many for the model on the CPU.
    max_tokens: most tokens of an answer; one that did not end by then is declined.
    temperature: 0 takes the likeliest token; above, one is drawn at random, more evenly the higher.
    top_k: draw among so many likeliest tokens; 0: all.
    top_p: draw among the fewest tokens that are so probable together.
    min_p: draw among tokens at least so likely as this share of the likeliest.
    repetition_penalty: above 1, tokens of the conversation and of the answer so far become less likely.
    seed: the same seed draws the same answer.
    stop: texts before which an answer ends.
    beams: above 1, the likeliest whole answer is searched for with so many beams; not with a temperature.
    length_penalty: of beams: answers are ranked by log-probability / length ^ this.
    context_turns: so many earlier exchanges of a conversation go with a question, to the model and to the teacher.
    learned_threshold: how alike in words a question must be to an earlier one for its answer to be repeated, where the model
        confirms nothing.
    commit_early: show an answer of the local model before it has ended, once one is sure enough of it. One that goes wrong
        afterwards is cut, and says so.
    first_query: whether a session's question waits for a model that still loads (`wait`), or goes to Claude (`forward`).
    """

    provider: Provider = "auto"
    precision: WantedPrecision = "auto"
    threads: int = field(default=2, metadata={"least": 1, "most": 256})
    max_tokens: int = field(default=256, metadata={"least": 1, "most": 1_000_000})
    temperature: float = field(default=0.0, metadata={"least": 0.0, "most": 5.0})
    top_k: int = field(default=0, metadata={"least": 0, "most": 1_000_000})
    top_p: float = field(default=1.0, metadata={"least": 0.0, "most": 1.0})
    min_p: float = field(default=0.0, metadata={"least": 0.0, "most": 1.0})
    repetition_penalty: float = field(default=1.0, metadata={"least": 0.1, "most": 10.0})
    seed: int = field(default=0, metadata={"least": 0, "most": 2**63 - 1})
    stop: tuple[str, ...] = ()
    beams: int = field(default=1, metadata={"least": 1, "most": 32})
    length_penalty: float = field(default=1.0, metadata={"least": -10.0, "most": 10.0})
    context_turns: int = field(default=4, metadata={"least": 0, "most": 100})
    learned_threshold: float = field(default=0.9, metadata={"least": 0.0, "most": 1.0})
    commit_early: bool = False
    first_query: FirstQuery = "wait"


@dataclass(frozen=True)
class ModelPrice:
    """One entry of `teacher.prices`: what a model costs.

    model: its name.
    input: USD per million tokens that it reads.
    output: USD per million tokens that it writes.
    """

    model: str = ""
    input: float = field(default=0.0, metadata={"least": 0.0, "most": 1e6})
    output: float = field(default=0.0, metadata={"least": 0.0, "most": 1e6})


@dataclass(frozen=True)
class TeacherSection:
    """Which large model is asked when nothing local is sure.

    kind: `claude`, or `openai` for any server that speaks OpenAI's chat completions.
    base_url: where it is; for `openai` the address of its /v1, for `claude` empty means what ANTHROPIC_BASE_URL says, else
        Anthropic's own.
    model: the name of the model.
    max_tokens: most tokens of an answer.
    system: a system message that goes with every question.
    first_token_seconds: how long it may take until the first sign of an answer.
    total_seconds: how long it may take until the end of it.
    offline: never ask it.
    prices: prices of one's own, which come before the ones that are built in.
    daily_usd: what may be spent from one midnight to the next; 0: any amount.
    failures: after so many in a row nothing is asked for a while.
    pause_seconds: how long that while is.
    cache: whether Claude is told to remember long beginnings of requests.
    """

    kind: TeacherKind = "claude"
    base_url: str = ""
    model: str = "claude-sonnet-5-5"
    max_tokens: int = field(default=4096, metadata={"least": 1, "most": 64_000})
    system: str = ""
    first_token_seconds: float = field(default=20.0, metadata={"least": 0.1, "most": 600.0})
    total_seconds: float = field(default=45.0, metadata={"least": 0.1, "most": 3600.0})
    offline: bool = False
    prices: tuple[ModelPrice, ...] = ()
    daily_usd: float = field(default=0.0, metadata={"least": 0.0, "most": 1e6})
    failures: int = field(default=3, metadata={"least": 1, "most": 1000})
    pause_seconds: float = field(default=60.0, metadata={"least": 0.0, "most": 86_400.0})
    cache: bool = True


@dataclass(frozen=True)
class RoutingSection:
    """Which questions go where, by regular expressions that are looked for in any case of letters.

    never_local: forwarded without asking a local tier.
    always_local: never sent to the teacher, not even as an earlier turn or for an audit; where both match, this one holds.
    local_seconds: the neural tier gives up after so long; 0: never.
    target_precision: which share of the local answers is to be right: the version answers from its threshold for this target
        on, or for the next higher one that it was measured for; where there is none it answers nothing. 0: the target that
        it was trained for.
    """

    never_local: tuple[str, ...] = ()
    always_local: tuple[str, ...] = ()
    local_seconds: float = field(default=0.0, metadata={"least": 0.0, "most": 3600.0})
    target_precision: float = field(default=0.0, metadata={"least": 0.0, "most": 1.0})


@dataclass(frozen=True)
class AuditSection:
    """How many accepted local answers are also put to the teacher, to measure whether they are right.

    share: the share that is audited of a version that has been audited for a while. With both shares at 0 nothing is audited,
        and nothing is measured.
    new_share: the share of a new version; it falls to `share` as audits add up.
    per_day: most audits from one midnight to the next, which bounds what they cost.
    """

    share: float = field(default=0.02, metadata={"least": 0.0, "most": 1.0})
    new_share: float = field(default=0.3, metadata={"least": 0.0, "most": 1.0})
    per_day: int = field(default=50, metadata={"least": 0, "most": 1_000_000})


@dataclass(frozen=True)
class HttpSettings:
    """How `shammah-serve http` listens and what it bears.

    host: where it listens.
    port: the port; 0: any that is free.
    hosts: names under which others reach a public server.
    busy_wait_ms: how long a query waits for the engine before the next tier is asked.
    queue: queries under way at once; one more is refused with 503.
    connections: connections open at once; one more is closed.
    body_bytes: the largest body of a request.
    header_seconds: how long a client may take to send the head of a request.
    body_seconds: how long it may take to send the body.
    write_seconds: how long it may take to take in what is sent.
    grace_seconds: how long what is under way may go on once the server is told to end.
    plain_systems: system messages that change nothing, so that local tiers may answer; `"*"`: any.
    page: whether there is a page, on which the log can be looked at in a browser.
    """

    host: str = "127.0.0.1"
    port: int = field(default=8484, metadata={"least": 0, "most": 65535})
    hosts: tuple[str, ...] = ()
    busy_wait_ms: int = field(default=1000, metadata={"least": 0, "most": 600_000})
    queue: int = field(default=64, metadata={"least": 1, "most": 1024})
    connections: int = field(default=512, metadata={"least": 1, "most": 65_536})
    body_bytes: int = field(default=2**20, metadata={"least": 1024, "most": 2**30})
    header_seconds: float = field(default=10.0, metadata={"least": 0.01, "most": 600.0})
    body_seconds: float = field(default=30.0, metadata={"least": 0.01, "most": 600.0})
    write_seconds: float = field(default=30.0, metadata={"least": 0.01, "most": 600.0})
    grace_seconds: float = field(default=3.0, metadata={"least": 0.0, "most": 600.0})
    plain_systems: tuple[str, ...] = ("You are a helpful assistant.",)
    page: bool = True


@dataclass(frozen=True)
class TrainSettings:
    """What a night does, when one is due, and how a version that passes comes to serve.

    min_examples: with fewer exchanges to learn from nothing is trained.
    base: the base model: a folder in `bases/`, a folder elsewhere, a GGUF file, or a hub name.
    embedder: what finds earlier answers by meaning, made by the first run of a home without one: this one, a folder with a BERT
        model, or `none`.
    method: `full` trains all weights, `lora` small adapters that are merged into them.
    lora_rank: the rank of these adapters.
    precision: how the weights of the graph are stored.
    cuda: whether a version gets a second graph, for CUDA; `auto` makes and measures one where ONNX Runtime gets CUDA on the
        machine that trains.
    epochs: passes over the data.
    least_steps: from the base, small logs are gone through more often, until so many steps are made.
    learning_rate: the learning rate at its highest.
    batch_size: exchanges in a step.
    context: longest conversation of the graph, in tokens; at most what the base can do.
    max_length: longest exchange that is trained on, in tokens; earlier turns are left out until it fits.
    context_share: to this share of the exchanges an unrelated one is prepended, so that the model learns to ignore it.
    replay: whether everyday exchanges of Shammah's own are trained on beside the log.
    reworded_share: so many of the questions are reworded by rule, so that no single word decides.
    balance: an answer asked for n times is shown n ^ this times as often as one asked for once; 1: as often as it was asked.
    opening: from the fourth showing of an answer on, three of four train on so many of its first tokens only; 0: on all of it.
    threads: so many for the training; 0: one for each core, less one while a session is at work.
    seed: all that is drawn at random follows from it.
    target_precision: how many of the answers above the threshold are to be right.
    keep_versions: so many newest versions and runs are kept.
    new_examples: a run is due with so many exchanges or ratings since the last one.
    max_age_days: it is also due with fewer, when the last one is so many days old.
    local_share_drop: it is also due with fewer, when the share of local answers fell by this.
    candidate_share: the share of sessions that a new version answers until audits have decided; 0 lets it serve at once.
    trial_days: how long that may take at most.
    max_minutes: how long the training may take, evaluation and fitting a base for int4 not counted; 0: as long as it needs.
    checkpoint_seconds: the least time between two checkpoints.
    start: which weights a night starts from: `base`, `champion` wherever they can be used, or what the policy chooses (`auto`).
    restart_nights: after each so many nights that continued from one another, one starts from the base again.
    nice: the priority of the run, from 0 to 19, the lowest.
    """

    min_examples: int = field(default=100, metadata={"least": 1, "most": 10_000_000})
    base: str = "smollm2-135m-instruct"
    embedder: str = "all-minilm-l6-v2"
    method: Method = "full"
    lora_rank: int = field(default=16, metadata={"least": 1, "most": 1024})
    precision: Precision = "int8"
    cuda: CudaGraph = "auto"
    epochs: float = field(default=3.0, metadata={"least": 0.01, "most": 1000.0})
    least_steps: int = field(default=150, metadata={"least": 0, "most": 1_000_000})
    learning_rate: float = field(default=2e-4, metadata={"least": 1e-8, "most": 1.0})
    batch_size: int = field(default=8, metadata={"least": 1, "most": 4096})
    context: int = field(default=2048, metadata={"least": 64, "most": 1_048_576})
    max_length: int = field(default=512, metadata={"least": 16, "most": 131_072})
    context_share: float = field(default=0.15, metadata={"least": 0.0, "most": 1.0})
    replay: bool = True
    reworded_share: float = field(default=0.5, metadata={"least": 0.0, "most": 1.0})
    balance: float = field(default=0.5, metadata={"least": 0.0, "most": 1.0})
    opening: int = field(default=12, metadata={"least": 0, "most": 131_072})
    threads: int = field(default=0, metadata={"least": 0, "most": 1024})
    seed: int = field(default=0, metadata={"least": 0, "most": 2**31 - 1})
    target_precision: float = field(default=0.95, metadata={"least": 0.5, "most": 1.0})
    keep_versions: int = field(default=3, metadata={"least": 2, "most": 1000})
    new_examples: int = field(default=20, metadata={"least": 1, "most": 10_000_000})
    max_age_days: float = field(default=7.0, metadata={"least": 0.0, "most": 3650.0})
    local_share_drop: float = field(default=0.15, metadata={"least": 0.01, "most": 1.0})
    candidate_share: float = field(default=0.0, metadata={"least": 0.0, "most": 1.0})
    trial_days: int = field(default=7, metadata={"least": 1, "most": 3650})
    max_minutes: float = field(default=0.0, metadata={"least": 0.0, "most": 100_000.0})
    checkpoint_seconds: float = field(default=60.0, metadata={"least": 0.0, "most": 86_400.0})
    start: Start = "auto"
    restart_nights: int = field(default=30, metadata={"least": 1, "most": 1000})
    nice: int = field(default=10, metadata={"least": 0, "most": 19})


@dataclass(frozen=True)
class PrivacySettings:
    """What the log keeps, and what of it may be trained on. What is refused when it is logged stays refused until
    `shammah-log trainable` says otherwise.

    personal_data: `mask` replaces e-mail addresses, phone, card and account numbers; `keep` keeps them.
    train_on_teacher: whether the teacher's answers may be trained on.
    train_on_imports: whether imported exchanges may be trained on.
    """

    personal_data: PersonalData = "keep"
    train_on_teacher: bool = True
    train_on_imports: bool = True


@dataclass(frozen=True)
class Settings:
    """All of config.toml: one table per section, and one key before them.

    log: the server that keeps the log, as in `quack:localhost:9494`; empty: a file in the home. Another machine's is spoken to
    through TLS, or as `quack:http://HOST:PORT` in plain HTTP.
    """

    log: str = ""
    http: HttpSettings = HttpSettings()
    privacy: PrivacySettings = PrivacySettings()
    serve: ServeSettings = ServeSettings()
    teacher: TeacherSection = TeacherSection()
    routing: RoutingSection = RoutingSection()
    audit: AuditSection = AuditSection()
    train: TrainSettings = TrainSettings()

    @property
    def target_precision(self) -> float:
        """What audits are held against: the target that is wanted by day, else that of the nights."""
        return self.routing.target_precision or self.train.target_precision

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """Read a TOML file; a missing file means the defaults.

        Raises SettingsError for unreadable TOML, unknown keys, wrong types and values out of range.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise SettingsError(f"{path}: cannot be read as TOML: {error}") from error
        sections = {item.name: type(item.default) for item in fields(cls)}
        _known(path, "", raw, sections)
        built: dict[str, Any] = {}
        for name, table in raw.items():
            if name == "log":
                built[name] = _server(path, table)
                continue
            if not isinstance(table, dict):
                raise SettingsError(f"{path}: {name} must be a table, written [{name}]")
            built[name] = _section(path, name, sections[name], table)
        if "train" in built:
            built["train"] = replace(built["train"], base=os.path.expanduser(built["train"].base))
        settings = cls(**built)
        _possible(path, settings)
        return settings


def _known(path: Path, section: str, given: dict[str, Any], known: Any) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise SettingsError(f"{path}: unknown key {section + '.' if section else ''}{key}; {hint}")


def _possible(path: Path, settings: "Settings") -> None:
    """What no key says by itself."""
    for key in ("never_local", "always_local"):
        for pattern in getattr(settings.routing, key):
            try:
                re.compile(pattern)
            except re.error as error:
                raise SettingsError(f"{path}: routing.{key}: {pattern!r} is no regular expression: {error}") from error
    serve, teacher = settings.serve, settings.teacher
    if serve.beams > 1 and serve.temperature > 0.0:
        both = f"serve.beams = {serve.beams} and serve.temperature = {serve.temperature}"
        raise SettingsError(f"{path}: {both}: a beam search draws nothing, set one of them")
    if teacher.base_url and not re.fullmatch(r"https?://\S+", teacher.base_url):
        raise SettingsError(f'{path}: teacher.base_url must be an address, as in base_url = "http://127.0.0.1:8000/v1"')
    if teacher.kind == "openai" and not teacher.base_url:
        raise SettingsError(f'{path}: teacher.kind = "openai" needs teacher.base_url, as in "http://127.0.0.1:8000/v1"')
    if any(not price.model for price in teacher.prices):
        raise SettingsError(f'{path}: each [[teacher.prices]] needs a model, as in model = "claude-sonnet-5-5"')


def _tables(path: Path, where: str, kind: type, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise SettingsError(f"{path}: {where} must be a list of tables, each written [[{where}]]")
    return tuple(_section(path, where, kind, one) for one in value)


def _server(path: Path, value: Any) -> str:
    if not isinstance(value, str) or not (found := _SERVER.fullmatch(value)) or not 0 < int(found["port"]) < 65536:
        raise SettingsError(f'{path}: log = {value!r}; it must name a server, as in log = "quack:localhost:9494"')
    return value


def _section(path: Path, name: str, kind: type, table: dict[str, Any]) -> Any:
    known = {item.name: item for item in fields(kind)}
    _known(path, name, table, known)
    values = {}
    for key, value in table.items():
        item = known[key]
        where = f"{path}: {name}.{key}"
        if get_origin(item.type) is Literal:
            choices = get_args(item.type)
            if value not in choices:
                raise SettingsError(f"{where} = {value!r}; one of {', '.join(choices)}")
        elif item.type == tuple[str, ...]:
            if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
                raise SettingsError(f"{where} = {value!r}; it must be a list of texts, none of them empty")
            value = tuple(value)
        elif item.type == tuple[ModelPrice, ...]:
            value = _tables(path, f"{name}.{key}", ModelPrice, value)
        elif item.type is float and type(value) is int:
            value = float(value)
        elif type(value) is not item.type:
            raise SettingsError(f"{where} = {value!r}; it must be of type {getattr(item.type, '__name__', item.type)}")
        least, most = item.metadata.get("least", -math.inf), item.metadata.get("most", math.inf)
        if isinstance(value, int | float) and not isinstance(value, bool) and not least <= value <= most:
            raise SettingsError(f"{where} = {value}; it must lie between {least} and {most}")
        values[key] = value
    return kind(**values)
