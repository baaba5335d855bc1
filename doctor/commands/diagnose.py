"""`diagnose`: the cause of a failed run from its logs, or the plain answer that it is not known."""

from __future__ import annotations

from typing import Any

import msgspec

from doctor.commands.output import print_json
from doctor.exit_codes import ExitCode
from doctor.facts import Facts
from doctor.report import document
from doctor.report.words import language


def facts_beside(workdir: str | None) -> Facts | None:
    """Versions of the target of a working directory, when one was named."""
    if workdir is None:
        return None
    from doctor import examine, target
    from doctor.probes import all_probes

    found = target.find(None, workdir, offline=True)
    return examine.collect(found, all_probes(), examine.DEFAULT_BUDGET)[0]


def run(*, logs: tuple[str, ...], form: str, lang: str | None, workdir: str | None) -> int:
    from doctor.diagnose import diagnose

    lang = language(lang)
    result = diagnose(list(logs) or ["-"], facts_beside(workdir))
    unrecognised: Any = msgspec.to_builtins(result.unrecognised) if result.unrecognised else None
    content = document.envelope("diagnose", result.findings, lang, unrecognised=unrecognised, notes=list(result.notes))
    content["healthy"] = not result.findings and unrecognised is None
    if form == "json":
        print_json(content)
    else:
        from doctor.report import text

        text.diagnosis(text.console(), content, lang)
    return exit_code(content)


def exit_code(content: dict[str, Any]) -> int:
    if content["findings"]:
        return ExitCode.FINDINGS
    return ExitCode.OK if content["unrecognised"] is None else ExitCode.UNKNOWN_FAILURE
