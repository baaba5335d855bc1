"""One run from the launch to its end: attempt after attempt, watched, recorded, diagnosed, healed where that is sound."""

from __future__ import annotations

import shlex
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec

from doctor.diagnose import Diagnosis, diagnose
from doctor.errors import BadInput
from doctor.facts import Facts
from doctor.findings import Finding
from doctor.report import document
from doctor.target import Target
from doctor.train import alarms, healing, launch, resume, run_directory
from doctor.train.record import EVENTS, Record
from doctor.train.run_directory import RunDirectory
from doctor.train.settings import from_facts
from doctor.train.sizes import nice_seconds
from doctor.train.tail import Tail
from doctor.train.view import View
from doctor.train.watch import Watch, alarm_text

# A hang that was told is left to the user; with --heal the ranks are ended when it lasts as long again, two minutes at
# least: what was only slow has then shown it.
HANG_ENDED = 120.0
DISK_WAIT, DISK_LOOK = 600.0, 5.0  # seconds that room on the disk is waited for with --heal; between two looks
PORT_WAIT = 1.0  # seconds for the kernel to close the sockets of ranks that were killed

# Applies the safe fixes for a finding and says what came of it: (the target as it is then, its facts, texts of what was
# done). None when no safe fix applies or it did not heal.
Fix = Callable[[Finding], "Mended | None"]
Text = dict[str, str]


class Mended(msgspec.Struct):
    """What a fix left behind."""

    target: Target
    facts: Facts
    done: tuple[Text, ...]


class Ended(msgspec.Struct):
    """How a run ended. `code` is the trainer's own, 130 after an interruption; `diagnosis` of the last failure."""

    code: int
    interrupted: bool
    diagnosis: Diagnosis | None = None
    attempts: int = 1


class Session:
    """`run` launches and stays until the run has ended."""

    def __init__(
        self, target: Target, facts: Facts, directory: RunDirectory, view: View, heal: int = 0, fix: Fix | None = None
    ) -> None:
        self.target, self.facts, self.directory, self.view = target, facts, directory, view
        self.heal, self.fix = heal, fix
        self.record = Record(directory.path)
        self.settings = from_facts(facts, target.workdir)
        self.running: launch.Running | None = None
        self.watch: Watch | None = None
        self.findings: list[Finding] = []  # alarms of all attempts
        self.started = time.time()
        self.commands: list[dict[str, Any]] = []
        self._oom_before = healing.oom_kills()
        self._healed: set[str] = set()

    def run(self) -> Ended:
        resumed: resume.Resume | None = None
        attempt = 1
        with launch.signals_passed_on(lambda: self.running, self._signalled) as received:
            while True:
                self.record.attempt = attempt
                offset = self.directory.log.stat().st_size if self.directory.log.exists() else 0
                try:
                    code = self._attempt(attempt, resumed, received)
                except OSError as error:  # a full or read-only disk: without a recipe nothing can be launched
                    if attempt == 1:
                        place = self.directory.relative
                        raise BadInput(f"The run cannot be recorded in {place} ({error.strerror}).") from None
                    self._stop(f"the attempt cannot be recorded ({error.strerror})", f"无法记录（{error.strerror}）")
                    break
                if received:
                    ended = Ended(128 + signal.SIGINT, True, None, attempt)
                    break
                if code == 0:
                    ended = Ended(0, False, None, attempt)
                    break
                diagnosis = self._diagnosed(code, offset)
                ended = Ended(code, False, diagnosis, attempt)
                if attempt > self.heal or not self._healable(diagnosis, received):
                    break
                resumed = resume.prepare(self.settings, self.started)
                attempt += 1
        self.event("end", _end_text(ended), code=ended.code)
        self._write_findings(ended)
        return ended

    # -- one attempt ---------------------------------------------------------------------------------------------

    def _attempt(self, attempt: int, resumed: resume.Resume | None, received: list[int]) -> int:
        name = "recipe.yaml" if attempt == 1 else f"recipe-{attempt}.yaml"
        more: dict[str, Any] = {}
        if resumed is not None:
            self._tell_resume(resumed)
            if resumed.checkpoint is not None:
                more["resume_from_checkpoint"] = str(resumed.checkpoint.path)
        recipe = run_directory.effective_recipe(self.target, self.directory, name, more)
        environ = launch.environment(self.target, self.facts.get("gpu.count"))
        argv = launch.command(self.target, recipe)
        self._record_command(attempt, argv, environ)
        self.watch = Watch(self.settings, self.record, self.view.event, self._processes)
        tail = Tail(self.directory.log, self.directory.log.stat().st_size if self.directory.log.exists() else 0)
        try:
            if received:  # asked to end while nothing ran
                return 128 + signal.SIGINT
            self.running = launch.Running(
                argv,
                environ,
                self.target.workdir,
                self.directory.log,
                self.directory.path / EVENTS,
                self.settings.saves_on_sigterm,
            )
            return self._stay(self.running, self.watch, tail)
        finally:
            self.running = None
            self.findings += self.watch.findings
            run_directory.remove_private(recipe)

    def _stay(self, running: launch.Running, watch: Watch, tail: Tail) -> int:
        while (code := running.poll()) is None:
            self._read(tail, watch)
            watch.tick()
            self.view.update(watch)
            self._end_a_hang(running, watch)
            time.sleep(launch.LOOK_SECONDS)
        while self._read(tail, watch):
            pass
        watch.finish()
        self.view.update(watch, last=True)
        return code

    def _read(self, tail: Tail, watch: Watch) -> bool:
        data = tail.read()
        if data:
            self.view.output(data, watch.feed(data))
        return bool(data)

    def _end_a_hang(self, running: launch.Running, watch: Watch) -> None:
        """With --heal left, ranks that stand still for good are ended, so that the run can go on from its checkpoint."""
        attempt = self.record.attempt or 1
        if watch.hanging_since is None or attempt > self.heal or watch.progress.phase != "training":
            return
        lasting = time.monotonic() - watch.hanging_since
        if lasting > max(HANG_ENDED, alarms.hang_limit(watch.progress)) and "train-hang" not in self._healed:
            watch.hanging_since = None
            shown = nice_seconds(lasting)
            text = {
                "en": f"the ranks are ended: still no step after {shown}",
                "zh": f"{shown}后仍无进展，终止所有 rank",
            }
            self.event("heal", text)
            running.kill()

    def _processes(self) -> list[Any]:
        return self.running.processes() if self.running is not None else []

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        how, how_zh = "the run is being ended", "正在结束训练"
        if self.settings.saves_on_sigterm:
            how, how_zh = "the trainer saves a checkpoint and ends", "训练程序将保存检查点后结束"
        text = {
            "en": f"{name}: {how}; a second signal ends it at once",
            "zh": f"收到 {name}：{how_zh}；再次发送将立即终止",
        }
        self.event("signal", text)

    # -- record --------------------------------------------------------------------------------------------------

    def event(self, kind: str, text: Text, finding: Finding | None = None, code: int | None = None) -> None:
        self.record.event(kind, text, document.describe(finding) if finding else None, code)
        self.view.event(kind, text, finding)

    def _record_command(self, attempt: int, argv: list[str], environ: Mapping[str, str]) -> None:
        shown = {
            "attempt": attempt,
            "command": argv,
            "environment": launch.changed_variables(environ),
            "launch": launch.shown_variables(environ),
            "workdir": str(self.target.workdir),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        self.commands.append(shown)
        more = {"attempts": self.commands} if attempt > 1 else {}
        self.directory.write_json("command.json", {**self.commands[0], **more})
        line = command_line(argv, environ)
        self.event("launch", {"en": line, "zh": line})

    def _tell_resume(self, resumed: resume.Resume) -> None:
        for name, why in resumed.aside:
            text = {"en": f"set aside as {name}: {why}", "zh": f"已移开为 {name}：{why}"}
            self.event("heal", text)
        found = resumed.checkpoint
        if found is None:
            text = {"en": "no complete checkpoint: the run begins anew", "zh": "没有完整的检查点：从头开始训练"}
        else:
            text = {"en": f"resumed from {found.path.name}", "zh": f"从 {found.path.name} 续训"}
        self.event("resume", text)

    def _write_findings(self, ended: Ended) -> None:
        """The diagnosis of the last failure, then what the alarms raised."""
        found = ended.diagnosis
        findings = [*(found.findings if found else ()), *self.findings]
        unrecognised = msgspec.to_builtins(found.unrecognised) if found and found.unrecognised else None
        notes = list(found.notes) if found else []
        content = document.envelope("train", findings, "en", unrecognised=unrecognised, notes=notes)
        with suppress(OSError):  # a full disk: the findings were told
            self.directory.write_json("findings.json", content)

    # -- failure -------------------------------------------------------------------------------------------------

    def _diagnosed(self, code: int, offset: int) -> Diagnosis:
        text = {"en": f"training failed with exit code {code}", "zh": f"训练失败，退出码 {code}"}
        self.event("failure", text, code=code)
        found = diagnose([self._log_of_attempt(offset)], self.facts)
        hang = next((one for one in reversed(self.findings) if one.cause == "train-hang"), None)
        if hang is not None and self.watch is not None and self.watch.progress.phase == "training" and code == 137:
            found = msgspec.structs.replace(found, findings=(hang, *found.findings), unrecognised=None)
        if found.findings:
            self.event("diagnosis", alarm_text(found.findings[0]), found.findings[0])
        else:
            said = found.unrecognised
            shown = f": {said.exception}: {said.message[:200]}" if said else ""
            text = {"en": f"the cause is not known{shown}", "zh": f"原因未知{shown}"}
            self.event("diagnosis", text)
        return found

    def _log_of_attempt(self, offset: int) -> Path:
        """What this attempt wrote, in a file whose lines are numbered as those of the whole log are."""
        if offset == 0:
            return self.directory.log
        with self.directory.log.open("rb") as file:
            before, own = file.read(offset), file.read()
        place = self.directory.path / "attempt.log"
        try:
            place.write_bytes(b"\n" * before.count(b"\n") + own)
        except OSError:  # a full disk: the whole log, of which the diagnosis takes the last run
            return self.directory.log
        return place

    def _healable(self, diagnosis: Diagnosis, received: list[int]) -> bool:
        """Do what makes another attempt sound; False, and said why, when nothing does."""
        if not diagnosis.findings:
            return self._stop("the cause is not known", "原因未知")
        finding = diagnosis.findings[0]
        if finding.cause in self._healed:
            return self._stop(f"{finding.cause} came back after it was healed", f"{finding.cause} 修复后再次出现")
        self._healed.add(finding.cause)
        time.sleep(PORT_WAIT)
        if (mended := self._mend(finding)) is not None:
            if _ranks(mended.facts) != _ranks(self.facts):
                return self._stop("the fix would change the number of ranks", "修复会改变 rank 数量")
            self.target, self.facts = mended.target, mended.facts
            for text in mended.done:
                self.event("heal", text)
            return True
        return self._transient(finding, received)

    def _mend(self, finding: Finding) -> Mended | None:
        if self.fix is None or finding.confidence < healing.ENOUGH_CONFIDENCE:
            return None
        return self.fix(finding)

    def _transient(self, finding: Finding, received: list[int]) -> bool:
        deadline = time.monotonic() + DISK_WAIT
        told = False
        while not received:
            why = healing.transient(finding, self._situation())
            if why is None:
                return self._stop(
                    f"nothing that heals {finding.cause} may be done by itself", f"{finding.cause} 无法自动修复"
                )
            if not why.wait:
                en = f"resumed without a fix: {why.en}"
                self.event("heal", {"en": en, "zh": f"无需修复即可续训：{why.zh}"}, finding)
                return True
            if not told:
                told = True
                self.event("heal", {"en": why.en, "zh": why.zh})
            if time.monotonic() > deadline:
                shown = nice_seconds(DISK_WAIT)
                return self._stop(f"the disk got no room within {shown}", f"{shown}内磁盘没有腾出空间")
            time.sleep(DISK_LOOK)
        return False

    def _situation(self) -> healing.Situation:
        assert self.watch is not None
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port = str(launch.environment(self.target).get("MASTER_PORT", ""))
            busy = port.isdigit() and probe.connect_ex(("127.0.0.1", int(port))) == 0
        return healing.Situation(
            samples=list(self.watch.samples),
            oom_kills=healing.oom_kills() - self._oom_before,
            checkpoint_bytes=self.settings.checkpoint_bytes,
            disk_free=self.watch.machine.disk_free() if self.watch.machine else None,
            port_busy=busy,
        )

    def _stop(self, en: str, zh: str) -> bool:
        self.event("heal", {"en": f"not resumed: {en}", "zh": f"未续训：{zh}"})
        return False


def command_line(argv: list[str], environ: Mapping[str, str]) -> str:
    """What one would type for this launch."""
    variables = [f"{name}={shlex.quote(value)}" for name, value in launch.shown_variables(environ).items()]
    return " ".join([*variables, shlex.join(argv)])


def _ranks(facts: Facts) -> Any:
    return facts.get("launch.world_size")


def _end_text(ended: Ended) -> Text:
    if ended.interrupted:
        return {"en": "interrupted", "zh": "已中断"}
    if ended.code == 0:
        return {"en": "training ended well", "zh": "训练顺利结束"}
    return {"en": f"ended with exit code {ended.code}", "zh": f"以退出码 {ended.code} 结束"}


__all__ = ["Ended", "Mended", "Session", "command_line"]
