"""The commands of shammah-log that look after it: forget, verify, backup, restore, compact, repair, serve."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shammah_data.choosing import Before, Ids, Search, Since, Source, TeacherModel, chosen, open_log
from shammah_data.database import FileDatabase
from shammah_data.errors import InputError
from shammah_data.home import Home
from shammah_data.present import print_exchanges, print_json, size
from shammah_data.settings import Settings
from shammah_data.text import counted, printable

if TYPE_CHECKING:
    from shammah_data.forget import Forgotten

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for one in (forget, verify, backup, restore, compact, repair, serve):
        app.command()(one)


def forget(
    ids: Ids = None,
    search: Search = None,
    since: Since = None,
    before: Before = None,
    source: Source = None,
    teacher_model: TeacherModel = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List them, and forget nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete exchanges from the log and from everything that was made from it."""
    from shammah_data.forget import doomed, unfinished
    from shammah_data.forget import forget as forget_them

    home, log = open_log()
    # Of an interrupted call the rows are gone perhaps, but not all copies: its ids still select, and so does nothing at all.
    left = unfinished(home)
    new = [one for one in ids or () if not any(known.startswith(one.lower()) for known in left)]
    other = bool(search or since or before or source or teacher_model)
    selection = None
    if new or other or not left:
        selection = chosen(log, new, search, since, before, source, teacher_model)
    found = log.read(lambda session: doomed(session, selection), wait=10.0) if selection else []
    by_name = bool(ids) and not other
    if dry_run or not (found or left):
        if as_json:
            print_json({"would_forget": found})
        elif found:
            print_exchanges(found)
            print(f"{counted(len(found), 'exchange')} would be forgotten")
        else:
            print("no exchange is selected")
        return
    if found and not (yes or by_name):
        first, last = (str(one["created_at"].date()) for one in (found[0], found[-1]))
        of = f"of {first}" if first == last else f"from {first} to {last}"
        _confirm(f"{counted(len(found), 'exchange')}, {of}")
    told = forget_them(log, home, selection)
    if as_json:
        print_json(asdict(told))
        return
    names = dict.fromkeys([*left, *(str(row["id"]) for row in found)])
    print(f"forgotten: {', '.join(names) if by_name else counted(told.exchanges, 'exchange')}")
    _tell(told)


def _tell(told: "Forgotten") -> None:
    if told.quoted:
        print(f"taken out of what {counted(told.quoted, 'later turn')} quoted")
    for line in told.removed:
        print(f"removed: {printable(line)}")
    for line in told.remaining:
        print(f"still there: {printable(line)}")
    if told.versions:
        print(
            f"{', '.join(told.versions)}: trained before this, may know it. The next run of shammah-train starts again from "
            "the base without it, and then deletes what had seen it"
        )


def _confirm(what: str) -> None:
    if not sys.stdin.isatty():
        raise InputError(f"this would forget {what}: add --yes, or look first with --dry-run")
    if not typer.confirm(f"forget {what}?"):
        raise InputError("nothing was forgotten")


def verify(as_json: AsJson = False) -> None:
    """Check the log, its spool, snapshots, versions and who can read them."""
    from shammah_data.verify import verify as check

    home, log = open_log()
    findings = check(log, home)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{finding.level:<8}{finding.name:<10} {printable(finding.told)}")
    if any(finding.level == "problem" for finding in findings):
        sys.exit(1)


def backup(path: Annotated[Path, typer.Argument(help="The file to write.")], as_json: AsJson = False) -> None:
    """Write the whole log to one file, for `shammah-log restore`."""
    from shammah_data.copies import backup as write

    if path.exists():
        raise InputError(f"{path}: is there already; name a new file")
    count = write(open_log()[1], path)
    if as_json:
        print_json({"file": str(path), "exchanges": count, "bytes": path.stat().st_size})
    else:
        print(f"{counted(count, 'exchange')} in {printable(str(path))} ({size(path.stat().st_size)})")


def restore(path: Annotated[Path, typer.Argument(help="A file that `backup` wrote.")], as_json: AsJson = False) -> None:
    """Add what a backup holds and the log does not; nothing that is there is changed."""
    from shammah_data.copies import restore as read

    forgotten: list[Forgotten] = []
    new, known = read(open_log()[1], path, forgotten.append)
    if as_json:
        more = {"forgotten": asdict(forgotten[0])} if forgotten else {}
        print_json({"file": str(path), "new": new, "known": known, **more})
        return
    print(f"{printable(path.name)}: {counted(new, 'exchange')} restored, {known} already there or forgotten")
    for told in forgotten:
        print(f"forgotten, as in the backup: {counted(told.exchanges, 'exchange')}")
        _tell(told)


def compact(as_json: AsJson = False) -> None:
    """Write the database file anew, without the space of what was deleted."""
    home, log = open_log()
    file = log.file
    if file is not None:
        log.change(lambda _: None)  # makes it where there is none, and drains the spool
    elif home.log.exists() and _served_here(home):
        file = FileDatabase(home.log)
    else:
        raise InputError("the log is on a server: run `shammah-log compact` there, while it does not serve")
    before, after = file.rewrite(10.0)
    if as_json:
        print_json({"file": str(home.log), "bytes_before": before, "bytes_after": after})
    else:
        print(f"{printable(str(home.log))}: {size(before)} -> {size(after)}")


def _served_here(home: Home, port: int | None = None) -> bool:
    """Whether the server that the settings name is one of this machine, at that port."""
    from shammah_data.remote import parsed

    found = parsed(Settings.load(home.settings).log)
    return found.here and port in (None, found.port)


def repair(as_json: AsJson = False) -> None:
    """Set a damaged database aside, and go on with what can be read of it."""
    from shammah_data.repair import repair as mend

    home = Home.find().create()
    told = mend(home)
    if as_json:
        print_json(asdict(told))
        return
    lost = f" of {told.exchanges}" if told.saved < told.exchanges else ""
    print(f"set aside: {printable(str(told.aside))}; {counted(told.saved, 'exchange')} saved{lost}")
    if told.wal_bytes:
        print(f"of the write-ahead log, {told.wal_read} of {counted(told.wal_bytes, 'byte')} could be read")
    print("if you have a backup, `shammah-log restore FILE` adds what is missing")


def serve(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where it listens.")] = 9494,
    host: Annotated[str, typer.Option("--host", help="Loopback unless you say otherwise.")] = "localhost",
) -> None:
    """Let several machines share this log: serve it through DuckDB's Quack protocol until Ctrl-C."""
    from shammah_data.server import serve as run

    home = Home.find().create()
    if Settings.load(home.settings).log and not _served_here(home, port):
        raise InputError(f'{home.settings}: log names another server; that of this one may only be "quack:localhost:{port}"')
    run(home, host, port, lambda line: print(printable(line), flush=True))
