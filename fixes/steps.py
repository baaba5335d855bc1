"""A plan as data: its steps, their outcomes, the shared package step; saved, read back, compared with the world."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from packaging.utils import canonicalize_name

from doctor import redact
from doctor.target import Target
from fixes import actions, files
from fixes.errors import Refused, WorldChanged
from fixes.packages import fingerprint, installed
from fixes.resolve import Packages
from knowledge_base import load
from knowledge_base.schema import FixClass

FORMAT = 1  # of a saved plan


@dataclass(frozen=True)
class PlannedAction:
    """One action and what it would do, secrets masked in `diff`."""

    kind: str
    args: dict[str, Any]
    target: str
    diff: str


@dataclass(frozen=True)
class Alternative:
    """A fix of the same cause that was not chosen, and why (None: it would apply as well)."""

    fix: str
    class_: str
    title: dict[str, str]
    reason: str | None


@dataclass(frozen=True)
class Step:
    """One fix for one cause. `agreed`: it may be applied as things stand; else `consent` says what it waits for."""

    cause: str
    fix: str
    class_: str
    title: dict[str, str]
    actions: tuple[PlannedAction, ...]
    agreed: bool
    consent: str | None = None
    alternatives: tuple[Alternative, ...] = ()

    @property
    def manual(self) -> bool:
        return self.class_ == FixClass.MANUAL.value


@dataclass(frozen=True)
class Outcome:
    """planned | verified | unverified | rolled back | refused | nothing to do, with the reason.

    `code` tells refusals apart: consent, argument, manual, conflict, changed, failed.
    """

    cause: str
    fix: str | None
    outcome: str
    reason: str | None = None
    code: str | None = None

    def document(self) -> dict[str, Any]:
        return {
            **load.named(self.cause),
            "fix": self.fix,
            "outcome": self.outcome,
            "reason": redact.text(self.reason) if self.reason else None,
        }


@dataclass(frozen=True)
class Plan:
    """Steps in the order in which they are applied, the package step that they share, and what will not be done."""

    target: dict[str, str]
    steps: tuple[Step, ...]
    packages: Packages | None = None
    refused: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()
    world: dict[str, str | None] = field(default_factory=dict)  # file → hash when planned, None: was not there
    package_set: str | None = None

    @property
    def outcomes(self) -> list[Outcome]:
        """What a dry run reports."""
        planned = [Outcome(s.cause, s.fix, "planned", s.consent) for s in self.steps if not s.manual]
        manual = [by_hand(s) for s in self.steps if s.manual]
        return [*planned, *manual, *self.refused]

    def contract(self) -> list[dict[str, Any]]:
        """`plan` of the JSON contract; the package list stands in the diff of the first package action."""
        return [
            {
                **load.named(step.cause),
                "fix": step.fix,
                "class": step.class_,
                "actions": [{"kind": a.kind, "target": a.target, "diff": a.diff} for a in step.actions],
            }
            for step in self.steps
        ]

    def save(self, path: Path) -> None:
        """Write the plan for `load_plan`. Raises Refused when it would hold a secret, Failed when it cannot be written."""
        document = json.loads(json.dumps(to_document(self)))
        if redact.document(document) != document:
            raise Refused("The plan holds a secret, so it is not written to a file; apply it directly.")
        try:
            path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise files.sentence(error, f"write the plan {path}") from error


def by_hand(step: Step) -> Outcome:
    said = "; ".join(a.diff.splitlines()[0] for a in step.actions if a.diff) or "see explain"
    return Outcome(step.cause, step.fix, "refused", f"to be done by hand: {said}", "manual")


def package_wishes(steps: list[Step]) -> tuple[dict[str, list[str]], dict[str, list[str]], tuple[str, ...]]:
    """What package actions ask for: requirements by cause, removals by cause, names to put again."""
    requirements: dict[str, list[str]] = {}
    removals: dict[str, list[str]] = {}
    again: list[str] = []
    for step in steps:
        installed_by_it = {
            name
            for a in step.actions
            if a.kind == "install"
            for _, name in actions.load("install").claims(a.args, None)
        }
        for action in step.actions:
            if action.kind == "install":
                requirements.setdefault(step.cause, []).extend(action.args["packages"])
                if action.args.get("reinstall"):
                    again += [name for _, name in actions.load("install").claims(action.args, None)]
            elif action.kind == "uninstall":  # a fix that takes a package out and installs it puts it again
                names = {canonicalize_name(name): name for name in action.args["packages"]}
                again += [name for name in names if name in installed_by_it]
                if gone := [given for name, given in names.items() if name not in installed_by_it]:
                    removals.setdefault(step.cause, []).extend(gone)
    return requirements, removals, tuple(again)


def target_names(target: Target) -> dict[str, str]:
    return {
        "python": str(target.python),
        "prefix": str(target.prefix),
        "workdir": str(target.workdir),
        "recipe": str(target.recipe),
    }


def check_world(plan: Plan, target: Target) -> None:
    """Raises WorldChanged when the target is another one, or not as it was when the plan was made."""
    now = target_names(target)
    for name, value in plan.target.items():
        if now[name] != value:
            raise WorldChanged(f"The plan was made for the {name} {value}, not for {now[name]}; run fix again.")
    for path, digest in plan.world.items():
        if files.sha256_file(Path(path)) != digest:
            raise WorldChanged(f"{path} was changed since the plan was made; run fix again to plan anew.")
    if plan.package_set is not None and fingerprint(installed(target)) != plan.package_set:
        raise WorldChanged("The installed packages were changed since the plan was made; run fix again to plan anew.")


def to_document(plan: Plan) -> dict[str, Any]:
    return {"format": FORMAT, **asdict(plan)}


def load_plan(path: Path) -> Plan:
    """Read a saved plan. Raises Refused when it is none of ours."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise ValueError("another format")
        return msgspec.convert(document, Plan)
    except OSError as error:
        raise files.sentence(error, f"read the plan {path}") from error
    except (ValueError, KeyError, AttributeError, msgspec.ValidationError) as error:
        raise Refused(f"{path} is not a plan that this version can apply ({error}).") from None
