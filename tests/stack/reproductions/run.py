"""One reproduction from a healthy workspace to a healed run, and what was seen on the way."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from doctor.findings import precise
from tests.stack.environments import Environment
from tests.stack.reproductions.place import Place

Inject = Callable[[Place], None]
TAIL = 2500  # characters of a log shown when something is not as expected


@dataclass(frozen=True)
class Reproduction:
    """A fault, and how it is healed.

    `only`: what `fix` is told to heal, a cause or one fix of it. `arguments` of `fix` may hold {model} and {data}.
    `before`: what must hold for the fault to show and to be healed, such as a port that is held or a server that runs.
    `seen_by_check`/`seen_in_log`: where the doctor must name the cause. `by_hand`: what a manual fix tells the user to do.
    `survives`: the package does not fail; the run must train and check must still speak of the cause.
    """

    cause: str
    inject: Inject
    name: str = ""
    stack: str = "sky-t1"
    only: str = ""
    arguments: tuple[str, ...] = ()
    processes: int = 1
    torchrun: bool = False
    seen_by_check: bool = True
    seen_in_log: bool = True
    by_hand: Inject | None = None
    survives: bool = False
    changes_packages: bool = False
    around: Callable[[Place], AbstractContextManager[Any]] = field(default=lambda place: nullcontext())
    packages: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.name or self.cause

    def needing(self, *packages: str) -> Reproduction:
        """The same, with more packages whose versions matter."""
        return replace(self, packages=(*self.packages, *packages))

    def changing_packages(self) -> Reproduction:
        return replace(self, changes_packages=True)


@dataclass
class Seen:
    """What a reproduction showed. `log` is the failed run's, with neutral paths."""

    check_named: bool = False
    failed_before: bool = False
    diagnosed: list[str] = field(default_factory=list)
    fix: str | None = None
    outcome: str | None = None
    reason: str | None = None
    trained_after: bool = False
    seconds: float = 0.0
    log: str = ""
    notes: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def reproduce(case: Reproduction, environment: Environment, root: Path) -> Seen:
    """Raises nothing of its own: what was not as expected is read from `Seen` (see `faults`)."""
    started = time.monotonic()
    seen = Seen()
    place = Place(root, environment)
    torchrun = case.torchrun or case.processes > 1
    place.environ |= {"NPROC_PER_NODE": str(case.processes), "FORCE_TORCHRUN": "1" if torchrun else "0"}
    case.inject(place)
    with case.around(place):
        _heal(case, place, seen)
    seen.versions = _versions(environment, ("llamafactory", "transformers", "torch", *case.packages))
    seen.seconds = round(time.monotonic() - started, 1)
    return seen


def _heal(case: Reproduction, place: Place, seen: Seen) -> None:
    environment = place.environment
    found = [precise(finding) for finding in environment.check(place.root, **place.environ)["findings"]]
    seen.check_named = case.cause in found
    failed = environment.doctor("train", "--force", "--no-rehearse", cwd=place.root, **place.environ)
    seen.failed_before = failed.returncode != 0
    log = newest_log(place.root)
    seen.log = place.neutral(log.read_text(errors="replace")) if log else failed.stdout
    if log and seen.failed_before:
        answer = environment.doctor("diagnose", str(log), "--format", "json", cwd=place.root)
        seen.diagnosed = [precise(finding) for finding in last_document(answer.stdout)["findings"]]
    if case.survives or not seen.failed_before:
        seen.trained_after = place.trained()
        return
    _fix(case, place, seen, log)
    done = environment.doctor("train", "--force", "--no-rehearse", cwd=place.root, **place.environ)
    seen.trained_after = done.returncode == 0 and place.trained()
    if not seen.trained_after:
        seen.notes += done.stdout[-TAIL:]


def _fix(case: Reproduction, place: Place, seen: Seen, log: Path | None) -> None:
    if case.by_hand:
        case.by_hand(place)
        seen.fix, seen.outcome = case.only, "by hand"
        return
    given = [text.format(model=place.model, data=place.data, root=place.root.parent) for text in case.arguments]
    if not seen.check_named and log:
        given += ["--from-log", str(log)]
    only = case.only or case.cause
    words = ("fix", "--apply", "--yes", "--only", only, *given, "--format", "json")
    answer = place.environment.doctor(*words, cwd=place.root, **place.environ)
    document = last_document(answer.stdout)
    for outcome in document.get("outcomes", []):
        if precise(outcome) == case.cause:
            seen.fix, seen.outcome, seen.reason = outcome["fix"], outcome["outcome"], outcome["reason"]
    if seen.outcome not in ("verified", "unverified"):
        seen.notes += answer.stdout[-TAIL:]


def faults(case: Reproduction, seen: Seen) -> list[str]:
    """What was not as the knowledge base says, in words; empty when all of it was."""
    if case.survives:
        said = ["the run fails after all"] if seen.failed_before else []
        return said if seen.check_named or not case.seen_by_check else [*said, "check does not name the cause"]
    said = []
    if case.seen_by_check and not seen.check_named:
        said.append("check does not name the cause")
    if not seen.failed_before:
        said.append("the run does not fail")
        return said
    if case.seen_in_log and seen.diagnosed[:1] != [case.cause]:
        said.append(f"diagnose says {seen.diagnosed[:3]}")
    if seen.outcome not in ("verified", "unverified", "by hand"):
        said.append(f"fix {seen.fix} is {seen.outcome}: {seen.reason}")
    if not seen.trained_after:
        said.append("the run fails after the fix")
    return said


def newest_log(root: Path) -> Path | None:
    return max((root / ".skyt1-doctor/runs").glob("*/train.log"), default=None, key=lambda path: path.stat().st_mtime)


def last_document(text: str) -> dict[str, Any]:
    """The JSON document in output that may have notes before and after it."""
    at = re.search(r"(?m)^\{", text)
    return json.JSONDecoder().raw_decode(text[at.start() :])[0] if at else {"findings": []}


def _versions(environment: Environment, names: tuple[str, ...]) -> dict[str, str]:
    installed = dict(line.partition("==")[::2] for line in environment.freeze() if "==" in line)
    return {name: installed[name] for name in dict.fromkeys(names) if name in installed}
