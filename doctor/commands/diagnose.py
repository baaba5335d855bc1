"""`diagnose`: the cause of a failed run from its logs, or the plain answer that it is not known."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from doctor.commands.output import print_json
from doctor.exit_codes import ExitCode
from doctor.facts import Facts
from doctor.findings import Finding
from doctor.report import document
from doctor.report.words import language, say

RUN_LOG = "train.log"  # of a run directory, facts.json beside it


def facts_beside(workdir: str | None, logs: tuple[str, ...]) -> Facts | None:
    """Facts of the target that ran: of the working directory that was named, or as `train` recorded them with the log."""
    if workdir is None:
        return _recorded(Path(logs[0])) if len(logs) == 1 else None
    from doctor import examine, target
    from doctor.probes import all_probes

    found = target.find(None, workdir, offline=True)
    return examine.collect(found, all_probes(), examine.DEFAULT_BUDGET)[0]


def _recorded(log: Path) -> Facts | None:
    """The facts in the record of the run that `log` belongs to; None for a log of another origin."""
    record = log.parent / "facts.json"
    if log.name != RUN_LOG or not record.is_file():
        return None
    from doctor.commands.check import read_facts

    return read_facts(str(record))


def run(*, logs: tuple[str, ...], form: str, lang: str | None, workdir: str | None) -> int:
    from doctor.diagnose import diagnose

    lang = language(lang)
    facts = facts_beside(workdir, logs)
    result = diagnose(list(logs) or ["-"], facts)
    findings: Sequence[Finding] = result.findings
    if facts is not None:
        from doctor import examine
        from doctor.diagnose.confirm import confirm

        findings = confirm(findings, examine.replay(facts).findings)
    unrecognised: Any = msgspec.to_builtins(result.unrecognised) if result.unrecognised else None
    more: dict[str, Any] = {"unrecognised": unrecognised, "notes": list(result.notes)}
    content = document.envelope("diagnose", findings, lang, facts_known=facts is not None, **more)
    content["healthy"] = not findings and unrecognised is None
    if form == "json":
        print_json(content)
    else:
        from doctor.report import text

        text.diagnosis(text.console(), content, lang)
        if any(finding["may_apply"] for finding in content["findings"]):
            log = shlex.quote(logs[0]) if len(logs) == 1 and logs[0] != "-" else "LOG"
            text.console().print(say("tell_which", lang, command=f"skyt1-doctor fix RECIPE --from-log {log}"))
    return exit_code(content)


def exit_code(content: dict[str, Any]) -> int:
    if content["findings"]:
        return ExitCode.FINDINGS
    return ExitCode.OK if content["unrecognised"] is None else ExitCode.UNKNOWN_FAILURE
