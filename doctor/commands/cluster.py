"""`check --slurm` and `check --ray`: the same examination on many nodes, judged in one place."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import msgspec

from doctor import launch_profile, target
from doctor.cluster import judge, render
from doctor.cluster.capture import Capture
from doctor.commands.output import print_json
from doctor.errors import BadInput
from doctor.exit_codes import ExitCode
from doctor.report.words import language

BUDGET = 10.0  # seconds for the nodes; starting a task on each takes some of it
DEEP_BUDGET = 120.0


def is_capture(path: str) -> bool:
    """Whether a file of --from holds the facts of many nodes."""
    try:
        return '"cluster_facts"' in Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False  # told by the reader of the facts of one machine


def read_capture(path: str) -> Capture:
    """Raises BadInput."""
    try:
        return Capture.from_json(json.loads(Path(path).read_text(encoding="utf-8"))["cluster_facts"])
    except OSError as error:
        raise BadInput(f"The facts file {path} cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{path} holds no facts of nodes; write them with `check --slurm --save-facts FILE`.") from None


def request(
    recipe: str | None, workdir: str | None, python: str | None, env: str | None, deep: bool = False
) -> dict[str, Any]:
    """What the collectors are asked for: this command's target, its paths as they will be looked for on the nodes."""
    import os

    here = Path(workdir).absolute() if workdir else Path.cwd()
    environ = {**os.environ, **launch_profile.read(here)}
    chosen, _ = target.choose_python(python, env, here, environ)
    return {"workdir": str(here), "recipe": recipe, "python": str(chosen), "deep": deep}


def collect(wanted: dict[str, Any], slurm: bool, options: str | None, ray: str | None, budget: float) -> Capture:
    """Raises BadInput."""
    if ray and (slurm or options):
        raise BadInput("Give --slurm or --ray, not both.")
    if ray:
        from doctor.cluster import ray as over_ray

        return over_ray.collect(wanted, ray, budget)
    from doctor.cluster import slurm as over_slurm

    return over_slurm.collect(wanted, budget, slurm_words(options))


def slurm_words(options: str | None) -> list[str]:
    """The words of --slurm-options. Raises BadInput."""
    try:
        return shlex.split(options or "")
    except ValueError as error:
        raise BadInput(f"--slurm-options cannot be read ({error}).") from None


def check(
    *,
    recipe: str | None,
    workdir: str | None,
    python: str | None,
    env: str | None,
    deep: bool,
    captured: str | None,
    save_facts: str | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    budget: float | None,
    form: str,
    lang: str | None,
    why: bool,
    slurm: bool,
    slurm_options: str | None,
    ray: str | None,
    **_: Any,
) -> int:
    """Exit code 1: findings of severity error. A node that did not answer is unknown, which is no finding."""
    lang = language(lang)
    seconds = budget or (DEEP_BUDGET if deep else BUDGET)
    if captured:
        capture = read_capture(captured)
    else:
        wanted = request(recipe, workdir, python, env, deep)
        capture = collect(wanted, slurm, slurm_options, ray, seconds)
    judged = judge.judge(capture)
    judged.findings = [
        across
        for across in judged.findings
        if (not only or across.finding.cause in only or across.finding.source.removeprefix("probe:") in only)
        and across.finding.cause not in skip
    ]
    content = render.document("check", capture, judged, lang, with_facts=form == "json" or bool(save_facts))
    if save_facts:
        _write(save_facts, content["cluster_facts"])
    if form == "json":
        print_json(content)
    else:
        from doctor.report import text

        out = text.console()
        for line in render.lines(content, lang, why):
            out.print(line, soft_wrap=True, markup=False)
    return ExitCode.OK if content["healthy"] else ExitCode.FINDINGS


def _write(path: str, facts: dict[str, Any]) -> None:
    try:
        Path(path).write_bytes(msgspec.json.format(msgspec.json.encode({"cluster_facts": facts}), indent=1) + b"\n")
    except OSError as error:
        raise BadInput(f"The facts cannot be written to {path} ({error.strerror}).") from None
