"""What all stages of a rehearsal share: where its files are, what it has shown so far, how it ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from doctor.examine import severity_of
from doctor.facts import Facts
from doctor.findings import Evidence, Finding, Severity
from doctor.rehearse.launches import HANGS, Outcome
from doctor.rehearse.notes import note
from doctor.rehearse.record import FAILED, NOT_REHEARSED, PASSED, Rehearsal, Stage
from doctor.target import Target
from knowledge_base.schema import Text


class Stop(Exception):
    """The rehearsal ends here, with the verdict that stands in the record."""


class Context:
    """One rehearsal. `result` grows; `until` is when its time is over, by the monotonic clock."""

    def __init__(
        self,
        target: Target,
        facts: Facts,
        progress: Callable[[Text], None],
        directory: Path,
        result: Rehearsal,
        until: float,
    ) -> None:
        self.target, self.facts, self.progress = target, facts, progress
        self.directory, self.result, self.until = directory, result, until
        self.work = directory / "work"
        self.twin = self.work / "model"
        self.values: dict[str, Any] = facts["recipe.values"]
        self.output = self._output()
        self.resumed = self.output.with_name(self.output.name + "-resumed")
        self.existed = [p for p in (self.output, *self.output.parents) if p.exists()]

    def _output(self) -> Path:
        """Inside the recipe's own output directory: the same disk, quota and permissions as the real run's."""
        given = self.values.get("output_dir")
        base = self.target.workdir / given if isinstance(given, str) and given else self.work / "output"
        return base / f".rehearsal-{self.directory.name[:8]}"

    def child(self, script: Path) -> Path:
        """A copy in a folder of its own: python puts a script's folder first on its path."""
        folder = self.work / "children"
        folder.mkdir(exist_ok=True)
        shutil.copyfile(script, folder / script.name)
        return folder / script.name

    def remote(self) -> str:
        return "remote" if self.values.get("trust_remote_code") is True else "plain"

    # -- what a launch showed ------------------------------------------------------------------------------------------
    def diagnosed(self, outcome: Outcome) -> tuple[list[Finding], dict[str, Any] | None]:
        """Errors that the log shows, and a failure that nothing explains. A hang is a finding of its own."""
        from doctor.diagnose import diagnose

        shown = self.target.shown(outcome.log)
        if outcome.how == HANGS:
            what = f"no output and no work of any process after {outcome.seconds:.0f} s"
            if outcome.locks:
                older = Evidence("a build that has ended left its lock", outcome.locks[0])
                return [
                    Finding("ds-op-build-lock", (Evidence(what, shown), older), details={"lock": outcome.locks[0]})
                ], None
            return [Finding("train-hang", (Evidence(what, shown),))], None
        told = diagnose([outcome.log], self.facts)
        findings = [_placed(finding, shown) for finding in told.findings]
        if outcome.passed:
            return [finding for finding in findings if severity_of(finding) is Severity.ERROR], None
        unrecognised = msgspec.to_builtins(told.unrecognised) if told.unrecognised else None
        if not findings and unrecognised is None:
            message = f"it ended with exit code {outcome.code} and no message"
            unrecognised = {"exception": "", "message": message, "rank": None, "where": shown, "excerpt": ""}
        return findings, unrecognised

    def conclude(
        self,
        broken: str | None,
        findings: list[Finding],
        unrecognised: dict[str, Any] | None,
        outcome: Outcome,
        go_on: bool = False,
    ) -> None:
        """Take over what a launch showed; a broken one ends the rehearsal unless another stage is still running."""
        self.result.findings += findings
        if broken is None:
            return
        self.result.verdict = FAILED
        if not findings and self.result.unrecognised is None:
            self.result.unrecognised = unrecognised
        if not go_on:
            raise Stop

    def stage(self, name: str, passed: bool, seconds: float, log: Path) -> Stage:
        self.progress(note("stage_passed" if passed else "stage_failed", stage=name, seconds=seconds))
        return Stage(name, passed, round(seconds, 1), log=self.target.shown(log))

    def skip(self, name: str, why: Text) -> None:
        self.result.stages.append(Stage(name, skipped=why))

    def failed(self) -> NoReturn:
        self.result.verdict = FAILED
        raise Stop

    def nothing(self, why: Text) -> NoReturn:
        """Nothing can be rehearsed, and that says nothing about the recipe."""
        self.result.verdict = NOT_REHEARSED
        self.result.not_rehearsed.append(why)
        raise Stop

    def out_of_time(self, stage: str, outcome: Outcome) -> NoReturn:
        """The time is over before anything was shown to be wrong."""
        why = note("time", stage=stage, seconds=outcome.seconds)
        self.skip(stage, why)
        if self.result.verdict == PASSED:
            self.nothing(why)
        raise Stop

    def clean_up(self) -> None:
        """Take away the twin, its data and what it saved; logs and recipes stay. No folder of ours is left."""
        shutil.rmtree(self.work, ignore_errors=True)
        for path in (self.output, self.resumed):
            shutil.rmtree(path, ignore_errors=True)
        for parent in self.output.parents:
            if parent in self.existed:
                break
            try:
                parent.rmdir()
            except OSError:  # somebody else's file is in it by now
                break


def _placed(finding: Finding, log: str) -> Finding:
    """Its evidence with the log's name: several logs belong to a rehearsal."""
    evidence = tuple(
        Evidence(item.what, f"{log}:{item.where[5:]}" if item.where.startswith("line ") else item.where)
        for item in finding.evidence
    )
    return msgspec.structs.replace(finding, evidence=evidence)
