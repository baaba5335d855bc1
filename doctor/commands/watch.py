"""`watch`: join a run that was started by hand, from its log or its directory; ends with the diagnosis if it fails."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from doctor import examine, target
from doctor.diagnose import Diagnosis, UnreadableLog, diagnose
from doctor.errors import BadInput
from doctor.exit_codes import ExitCode
from doctor.facts import Facts
from doctor.report import document
from doctor.report.words import language, say
from doctor.train import joined, launch, run_directory
from doctor.train.keeper import Log, masked
from doctor.train.record import Record
from doctor.train.run_directory import RunDirectory
from doctor.train.settings import Settings, from_facts
from doctor.train.tail import Tail
from doctor.train.view import View, open_view
from doctor.train.watch import Watch

# A log that nobody on this machine writes (another node, a network disk): it has ended when it says so, or has been
# silent for this long.
SILENT_END = 600.0
WRITERS_SECONDS = 2.0  # between two looks at who has the log open: all of /proc is read


def run(*, place: str, workdir: str | None, lang: str | None) -> int:
    from doctor.report import text

    lang = language(lang)
    notes = text.console(stderr=True)
    here = Path(workdir).absolute() if workdir else Path.cwd()
    found = joined.find(Path(place))
    facts = _facts(here)
    settings = from_facts(facts, here) if facts is not None else Settings()
    settings.world_size = None  # launch variables of this shell are not those of the run
    if found.output is not None:
        settings.output = found.output
    notes.print(say("watching", lang, log=str(found.log)), soft_wrap=True)
    directory = _new_record(found, here, facts)
    if directory is not None:
        notes.print(f"{say('run_directory', lang)}: {directory.relative}", soft_wrap=True)
    view = open_view(lang)
    watched = Watch(settings, Record(directory.path if directory else None), view.event, found.processes)
    try:
        _follow(found, watched, view, directory)
    finally:
        view.close()
    well = watched.progress.phase == "done" or found.at_its_last_step(watched.progress)
    if well:
        notes.print(say("watch_ended_well", lang), style="green")
    code = ExitCode.OK if well else _diagnosed(found.log, facts, directory, notes, lang)
    if directory is not None:  # the trainer's own code is known only of a run that ended well
        text_of_end = {"en": "the run that was watched has ended", "zh": "所观察的训练已结束"}
        watched.record.event("end", text_of_end, code=ExitCode.OK if well else None)
    return code


def _new_record(found: joined.Joined, here: Path, facts: Facts | None) -> RunDirectory | None:
    """A run that is going on and has no record of ours gets one, so that `report` can show it; else None."""
    if (found.log.parent / "command.json").exists() or not found.is_written():
        return None
    try:
        directory = run_directory.create(here)
    except BadInput:  # a folder that is only looked at
        return None
    directory.write_json("command.json", {"joined": str(found.log), "workdir": str(here)})
    if facts is not None:
        directory.write_json("facts.json", facts.to_json())
    return directory


def _facts(here: Path) -> Facts | None:
    """What the working directory's recipe says of checkpoints and ranks; None where there is no recipe."""
    try:
        where = target.find(None, str(here), offline=True)
    except BadInput:
        return None
    if not where.recipe.exists():
        return None
    from doctor.probes import all_probes

    return examine.collect(where, all_probes(), examine.DEFAULT_BUDGET)[0]


def _follow(found: joined.Joined, watched: Watch, view: View, directory: RunDirectory | None) -> None:
    """Read until the run has ended. Ctrl-C leaves the run alone and raises KeyboardInterrupt."""
    tail = Tail(found.log)
    copy = Log(directory.log) if directory is not None else None
    grown = looked = time.monotonic()
    writing = True
    while True:
        data = tail.read()
        now = time.monotonic()
        if data:
            grown = now
            if copy is not None:
                copy.feed(data)
            view.output(masked(data), watched.feed(data))
            continue
        watched.tick()
        view.update(watched)
        if now - looked >= WRITERS_SECONDS:
            looked = now
            writing = found.is_written()
        quiet = now - grown
        if quiet > WRITERS_SECONDS and not writing and (found.over(watched.progress) or quiet > SILENT_END):
            break
        time.sleep(launch.LOOK_SECONDS)
    if copy is not None:
        copy.close()
    watched.finish()
    view.update(watched, last=True)


def _diagnosed(log: Path, facts: Facts | None, directory: RunDirectory | None, notes: Any, lang: str) -> int:
    from doctor.report import text

    try:
        found: Diagnosis = diagnose([log], facts)
    except UnreadableLog as error:
        raise BadInput(f"{error}.") from None
    unrecognised = msgspec.to_builtins(found.unrecognised) if found.unrecognised else None
    more: dict[str, Any] = {"unrecognised": unrecognised, "notes": list(found.notes)}
    content = document.envelope("watch", found.findings, lang, facts_known=facts is not None, **more)
    text.diagnosis(notes, content, lang)
    if directory is not None:
        directory.write_json("findings.json", content)
    if found.findings:
        return ExitCode.FINDINGS
    return ExitCode.UNKNOWN_FAILURE if unrecognised else ExitCode.OK
