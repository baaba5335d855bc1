"""Applies a plan: packages first, then cause by cause, each verified before the next; what does not heal is taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doctor import __version__, redact
from doctor.facts import Facts
from doctor.target import Target
from fixes import actions, history, journal, lock, swap
from fixes.context import Context
from fixes.door import Door, Why
from fixes.errors import FixError, Refused
from fixes.journal import STATE, Journal
from fixes.resolve import Packages, resolve
from fixes.steps import Outcome, Plan, PlannedAction, Step, by_hand, check_world, package_wishes
from fixes.verify import Verify, VerifyResult

Say = Callable[[str], None]


@dataclass(frozen=True)
class Applied:
    """What came of a plan. `journal` is None when nothing was changed."""

    outcomes: tuple[Outcome, ...]
    journal: str | None
    notes: tuple[str, ...] = ()

    @property
    def rolled_back(self) -> bool:
        return any(o.outcome == "rolled back" for o in self.outcomes)


def apply_plan(
    plan: Plan,
    target: Target,
    facts: Facts,
    verify: Verify,
    *,
    command: str = "fix --apply",
    say: Say = lambda text: None,
    still_there: Callable[[str], bool] = lambda cause: True,
) -> Applied:
    """Apply every agreed step. `say` gets progress notes for people. `still_there` is asked before a cause is mended after
    others were: what another model or data file has healed needs no fix of its own.

    Raises LockHeld when another run is writing and WorldChanged when the plan no longer fits; nothing is changed then.
    An interruption (Ctrl-C) takes back what this call did and is raised on.
    """
    state, note = journal.home(target.workdir)
    notes = [note] if note else []
    with lock.hold(_lock_places(plan, target, state), command):
        notes += history.recover_locked(target.workdir)
        check_world(plan, target)
        run = _Run(plan, target, facts, verify, state, command, say, still_there)
        try:
            run.all_steps()
        except BaseException:
            run.take_all_back()
            raise
        run.close()
    # A download that turned out to be complete opened a journal and changed nothing.
    changed = run.journal if run.journal and run.journal.actions() else None
    return Applied(tuple(run.outcomes), changed.id if changed else None, tuple([*notes, *run.notes]))


def _lock_places(plan: Plan, target: Target, state: Path) -> list[Path]:
    """The working directory's state, and the environment's when packages change: two directories may share one."""
    agreed = {step.cause for step in plan.steps if step.agreed}
    packages = plan.packages is not None and plan.packages.causes & agreed
    return [state, *([target.prefix.resolve() / STATE] if packages else [])]


@dataclass
class _Run:
    plan: Plan
    target: Target
    facts: Facts
    verify: Verify
    state: Path
    command: str
    say: Say
    still_there: Callable[[str], bool]
    journal: Journal | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    package_action: int | None = None
    package_causes: list[str] = field(default_factory=list)  # causes whose package changes are in place

    def all_steps(self) -> None:
        groups: dict[str, list[Step]] = {}
        for step in self.plan.steps:
            if step.agreed:
                groups.setdefault(step.cause, []).append(step)
        self._packages([c for c, steps in groups.items() if any(_has_packages(s) for s in steps)], groups)
        # Fixes that share the package step are whole before the first is judged: deepspeed 0.15.4 on a CPU is healthy
        # only with the variable that the same fix sets.
        shared = {cause: self._do(cause, groups) for cause in groups if cause in self.package_causes}
        for cause in groups:
            if cause not in shared and self.journal is not None and not self.still_there(cause):
                self._settle(Outcome(cause, _fixes_of(groups[cause]), "nothing to do", "the fixes before it healed it"))
            if not self._settled(cause):
                numbers = shared[cause] if cause in shared else self._do(cause, groups)
                if not self._settled(cause):
                    self._judge_done(cause, numbers, groups)
        for step in self.plan.steps:
            if step.manual:
                self._settle(by_hand(step))
            elif not step.agreed:
                self._settle(Outcome(step.cause, step.fix, "refused", step.consent, "consent"))
        self.outcomes += self.plan.refused

    # -- packages ------------------------------------------------------------------------------------------------

    def _packages(self, causes: list[str], groups: dict[str, list[Step]]) -> None:
        """Put the package changes of these causes in place, as one step. A failure settles all of them."""
        if not causes:
            return
        try:
            packages = self._resolved(causes, groups)
            if packages.changes:
                self.say("packages: " + ", ".join(change.shown for change in packages.changes))
                first = groups[causes[0]][0]
                self.package_action = swap.carry_out(self._door(), self.target, packages, first.cause, first.fix)
            self.package_causes = list(causes)
        except FixError as error:
            for cause in causes:
                outcome = "refused" if isinstance(error, Refused) else "rolled back"
                self._settle(Outcome(cause, groups[cause][0].fix, outcome, str(error), "failed"))

    def _resolved(self, causes: list[str], groups: dict[str, list[Step]]) -> Packages:
        planned = self.plan.packages
        if planned is not None and planned.causes == set(causes):
            return planned
        return resolve(self.target, self.facts, *package_wishes([s for c in causes for s in groups[c]]))

    def _without(self, cause: str, groups: dict[str, list[Step]]) -> None:
        """Take the package changes of one cause back: all are taken back, and the others' put in place again."""
        if cause not in self.package_causes:
            return
        left = [c for c in self.package_causes if c != cause]
        if self.package_action is not None:
            self._door().take_back(self.package_action)
        self.package_action, self.package_causes = None, []
        settled = [o for o in self.outcomes if o.cause in left]
        self.outcomes = [o for o in self.outcomes if o.cause not in left]
        self._packages(left, groups)
        for outcome in settled:  # verified before with other packages in place: look again
            if not any(o.cause == outcome.cause for o in self.outcomes):
                self._judge(outcome.cause, outcome.fix or "", [], groups)

    # -- one cause -----------------------------------------------------------------------------------------------

    def _settled(self, cause: str) -> bool:
        return any(outcome.cause == cause for outcome in self.outcomes)

    def _do(self, cause: str, groups: dict[str, list[Step]]) -> list[int]:
        """Carry out the actions of a cause; the numbers of what went through the door. A failure settles the cause."""
        steps = groups[cause]
        self.say(f"{cause}: {_fixes_of(steps)}")
        try:
            return [number for step in steps for action in step.actions for number in self._act(step, action)]
        except FixError as error:
            self._take_back_cause(cause, groups)
            self._without(cause, groups)
            outcome = "refused" if isinstance(error, Refused) else "rolled back"
            self._settle(Outcome(cause, _fixes_of(steps), outcome, str(error), "failed"))
            return []

    def _judge_done(self, cause: str, numbers: list[int], groups: dict[str, list[Step]]) -> None:
        packages_changed = cause in self.package_causes and self.package_action is not None
        if not numbers and not packages_changed:
            self._settle(Outcome(cause, _fixes_of(groups[cause]), "nothing to do", "it is so already"))
        else:
            self._judge(cause, _fixes_of(groups[cause]), numbers, groups)

    def _act(self, step: Step, action: PlannedAction) -> list[int]:
        """Do one action on the world as it is now; the numbers of what went through the door."""
        if action.kind in actions.PACKAGE_KINDS or action.kind == "instruct":
            return []
        context = Context(self.target, self.facts)
        module = actions.load(action.kind)
        change = module.preview(action.args, context)
        if change is None:
            return []
        door = self._door()
        done = {a.number for a in door.journal.actions()}
        why = Why(step.cause, step.fix, action.kind, change.target, change.diff)
        if hasattr(module, "apply"):
            module.apply(change, action.args, door, context, why)
        else:
            door.write(change.path, change.data, change.before, why)
        return [a.number for a in door.journal.actions() if a.number not in done]

    def _judge(self, cause: str, fix: str, numbers: list[int], groups: dict[str, list[Step]]) -> None:
        result = self.verify(cause)
        said = _objection(result)
        if said is None and result.healed is None:
            self._settle(Outcome(cause, fix, "unverified", result.reason or "it could not be looked at"))
        elif said is None:
            self._settle(Outcome(cause, fix, "verified"))
        else:
            self._take_back_cause(cause, groups)
            self._without(cause, groups)
            self._settle(Outcome(cause, fix, "rolled back", said, "failed"))

    def _numbers_of(self, cause: str) -> list[int]:
        """Actions of a cause that are in place, the shared package step left out."""
        if self.journal is None:
            return []
        return [
            a.number
            for a in self.journal.actions()
            if a.cause == cause and a.state != "back" and a.number != self.package_action
        ]

    # -- journal -------------------------------------------------------------------------------------------------

    def _door(self) -> Door:
        if self.journal is None:
            header: dict[str, Any] = {
                "command": redact.text(self.command),
                "version": __version__,
                "target": self.plan.target,
                "steps": [{"cause": s.cause, "fix": s.fix} for s in self.plan.steps if s.agreed],
            }
            self.journal = Journal.create(self.state, header)
        return Door(self.journal)

    def _take_back_cause(self, cause: str, groups: dict[str, list[Step]]) -> None:
        """Take the edits of a cause back. Later edits of the same files by other causes go back too, and are done again."""
        mine = self._numbers_of(cause)
        if not mine or self.journal is None:
            return
        standing = {a.number: a for a in self.journal.actions() if a.state != "back"}
        files = {standing[number].intent.get("path") for number in mine} - {None}
        others = [
            a for a in standing.values() if a.number > min(mine) and a.intent.get("path") in files and a.cause != cause
        ]
        for number in sorted({*mine, *(a.number for a in others)}, reverse=True):
            self._door().take_back(number)
        for other in dict.fromkeys(a.cause for a in others):
            self._do(other, groups)

    def _settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if self.journal is not None:
            self.journal.append("outcome", **outcome.document())

    def take_all_back(self) -> None:
        if self.journal is not None:
            self.notes += history.take_back_all(self.journal, by="interruption")

    def close(self) -> None:
        if self.journal is None:
            return
        self.journal.append("close")
        history.drop_staging(self.journal)
        if all(a.state == "back" for a in self.journal.actions()):
            self.journal.append("undone", by="rollback")


def _fixes_of(steps: list[Step]) -> str:
    return ", ".join(dict.fromkeys(step.fix for step in steps))


def _has_packages(step: Step) -> bool:
    return any(a.kind in actions.PACKAGE_KINDS for a in step.actions)


def _objection(result: VerifyResult) -> str | None:
    """Why a fix must be taken back, None when it may stay."""
    if result.healed is False:
        return "the fault is still there after the fix" + (f" ({result.reason})" if result.reason else "")
    if result.newly_broken:
        return f"something that worked is broken now: {', '.join(result.newly_broken)}"
    return None
