"""The stages of a rehearsal, one after another: model, train with evaluation and save, resume beside load."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from doctor import redact
from doctor.errors import BadInput
from doctor.facts import Facts
from doctor.findings import Evidence, Finding, Severity
from doctor.recipe import yaml_recipe
from doctor.rehearse import cpu, data, fingerprint, launches, model, plan, record
from doctor.rehearse.context import Context, Stop
from doctor.rehearse.judge import EVALUATE, SAVE, TRAIN, Watch
from doctor.rehearse.launches import LATE, Launch, Outcome
from doctor.rehearse.notes import note
from doctor.rehearse.record import PASSED, Rehearsal
from doctor.target import Target
from doctor.train import launch
from fixes.edit import yaml_text
from fixes.errors import CannotEdit
from knowledge_base.schema import Text

RESUME, LOAD = "resume", "load"
LOADER = Path(__file__).parent / "load_child.py"
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.*")


def run(target: Target, facts: Facts, progress: Callable[[Text], None], seconds: float) -> Rehearsal:
    """See `doctor.rehearse.rehearse`."""
    name = fingerprint.of(target, facts)
    directory = record.folder(target.workdir, name)
    try:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    except OSError as error:
        raise BadInput(f"{directory} cannot be made ({error.strerror}); make the working directory writable.") from None
    started = time.monotonic()
    result = Rehearsal(PASSED, 0.0, name, str(directory.relative_to(target.workdir)))
    stages = _Stages(target, facts, progress, directory, result, started + seconds)
    try:
        stages.run()
    except Stop:
        pass
    except OSError as error:
        raise BadInput(f"The rehearsal cannot write its files ({error}); make room or make them writable.") from None
    finally:
        stages.clean_up()
    result.seconds = round(time.monotonic() - started, 1)
    result.findings = _once(result.findings)  # in the order of the stages, each as its diagnosis ranked them
    record.write(result, directory)
    record.prune(target.workdir, name)
    return result


def _once(findings: list[Finding]) -> list[Finding]:
    """The first finding of each cause."""
    return list({finding.cause: finding for finding in reversed(findings)}.values())[::-1]


class _Stages(Context):
    environ: dict[str, str]
    made: plan.Plan
    prepared: data.Data

    # -- the road -------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        if refused := plan.refused(self.values, self.target.environ):
            self.nothing(refused)
        launch.command(self.target, Path("recipe.yaml"))  # raises BadInput where there is no llamafactory-cli
        self.work.mkdir()
        small, making = model.start(self)
        try:
            self.prepare(model.vocabulary(small.config))
            model.finish(self, small, making)
        finally:
            if making.running.poll() is None:
                making.end()
        self.train(self.made)
        self.resume_and_load(self.made)

    def prepare(self, vocabulary: int) -> None:
        """The data, and what is changed in the recipe; while a child makes the model."""
        machine = self.machine(vocabulary)
        count = data.wanted(self.values, machine.processes, plan.STEPS)
        self.progress(note("sampling"))
        self.prepared = data.prepare(self.target, self.facts, self.work / "data", count, self.progress)
        deepspeed = self.facts.get("deepspeed.config")
        self.made = plan.make(self.values, machine, self.prepared, vocabulary, deepspeed)
        self.result.not_rehearsed += [*self.made.notes, *self.prepared.notes]
        self.result.limit = {key: {"recipe": old, "rehearsed": new} for key, (old, new) in self.made.limits.items()}
        self.environ = launches.environment(self.target, self.made.processes, machine.gpus)
        if machine.gpus == 0 and self.made.processes > 1 and self.values.get("deepspeed"):
            self.environ = cpu.await_gathers(self.environ, self.work / "site")

    def machine(self, vocabulary: int) -> plan.Machine:
        gpus = self.facts.get("gpu.count") or 0
        nodes = self.facts.get("launch.nnodes") or 1
        real = self.facts.get("launch.world_size") or 1
        if not gpus and not self.facts.get("launch.nproc_given") and self.values.get("deepspeed"):
            real = max(real, 2)  # no GPU to count, and DeepSpeed is there for several
        return plan.Machine(gpus=gpus, real=real, nodes=nodes, bf16_on_cpu=cpu.takes_bf16(self.target, vocabulary))

    # -- train, evaluate, save ------------------------------------------------------------------------------------------
    def train(self, made: plan.Plan) -> None:
        recipe = self.write_recipe("recipe.yaml", made, {"output_dir": self.target.shown(self.output)})
        watch = Watch(made.steps, self.progress, time.monotonic)
        self.progress(note("starting", stage=TRAIN, processes=made.processes, steps=made.steps))
        argv = launch.command(self.target, recipe)
        outcome = Launch(argv, self.environ, self.target.workdir, self.directory / "train.log").wait(
            self.until, watch.line
        )
        launches.interrupted(outcome)
        watch.finish()
        if outcome.how == LATE:
            self.out_of_time(TRAIN, outcome)
        findings, unrecognised = self.diagnosed(outcome)
        if outcome.passed and (watch.exploded or watch.dead):
            findings.append(self.exploded(watch, outcome))
        broken = watch.failed_in() if not outcome.passed else TRAIN if findings else None
        if broken is None and not self.weights(self.output):
            broken, findings = SAVE, [*findings, *self.nothing_saved(outcome)]
            unrecognised = None if findings else {"exception": "", "message": "the run saved no weights", "rank": None}
        for stage in (TRAIN, EVALUATE, SAVE):
            if stage == EVALUATE and not made.evaluates:
                self.skip(EVALUATE, made.skips[EVALUATE])
            elif broken is not None and stage != broken and not self.done(stage, watch, broken):
                self.skip(stage, note("failed_before"))
            else:
                passed = stage != broken
                self.result.stages.append(self.stage(stage, passed, watch.seconds[stage], outcome.log))
        self.conclude(broken, findings, unrecognised, outcome)

    def exploded(self, watch: Watch, outcome: Outcome) -> Finding:
        told = " → ".join(f"{loss:.4g}" for loss in watch.losses)
        if watch.dead:
            told += ", grad_norm " + " → ".join(f"{norm:.4g}" for norm in watch.norms)
        what = f"loss {told} at learning_rate {self.values.get('learning_rate')}"
        details = {"finetuning_full": self.values.get("finetuning_type") == "full"}
        where = self.target.shown(outcome.log)
        return Finding("train-loss-spike", (Evidence(what, where),), severity=Severity.ERROR, details=details)

    def done(self, stage: str, watch: Watch, broken: str) -> bool:
        """Whether a stage had come to its end before another one failed."""
        if stage == TRAIN:
            return broken in (EVALUATE, SAVE)
        return watch.evaluated if stage == EVALUATE else False

    def weights(self, folder: Path) -> list[Path]:
        return [path for pattern in _WEIGHTS for path in folder.glob(pattern)]

    def nothing_saved(self, outcome: Outcome) -> list[Finding]:
        zero = (self.facts.get("deepspeed.config") or {}).get("zero_optimization")
        if not isinstance(zero, dict) or zero.get("stage") != 3:
            return []
        names = sorted(item.name for item in self.output.iterdir())[:12] if self.output.is_dir() else []
        what = f"the output directory holds no weights, only: {', '.join(names)}"
        details = {"ds_config": self.facts.get("deepspeed.config_path")}
        where = self.target.shown(outcome.log)
        return [Finding("ckpt-zero-not-consolidated", (Evidence(what, where),), details=details)]

    # -- resume beside load ---------------------------------------------------------------------------------------------
    def resume_and_load(self, made: plan.Plan) -> None:
        loading = self.start_loading()
        try:
            if RESUME in made.skips:
                self.skip(RESUME, made.skips[RESUME])
            else:
                self.resume(made)
            outcome = loading.wait(self.until)
            launches.interrupted(outcome)
        finally:
            if loading.running.poll() is None:
                loading.end()
        if outcome.how == LATE:
            self.out_of_time(LOAD, outcome)
        findings, unrecognised = self.diagnosed(outcome)
        self.result.stages.append(self.stage(LOAD, outcome.passed, outcome.seconds, outcome.log))
        self.conclude(None if outcome.passed else LOAD, findings, unrecognised, outcome)

    def start_loading(self) -> Launch:
        self.progress(note("loading"))
        argv = [str(self.target.python), str(self.child(LOADER)), str(self.output), str(self.twin), self.remote()]
        return Launch(argv, launches.child_environment(self.target), self.work, self.directory / "load.log")

    def resume(self, made: plan.Plan) -> None:
        found = [(int(p.name.rpartition("-")[2]), p) for p in self.output.glob("checkpoint-[0-9]*")]
        if not found:
            self.skip(RESUME, note("no_saving"))
            return
        step, checkpoint = min(found)
        self.progress(note("resuming", checkpoint=checkpoint.name))
        last = max(made.steps, step + 1)
        changed = {"output_dir": self.target.shown(self.resumed), "max_steps": last}
        changed["resume_from_checkpoint"] = self.target.shown(checkpoint)
        recipe = self.write_recipe("resume.yaml", made, changed)
        environ = {**self.environ, "MASTER_PORT": str(launches.free_port())}
        on_cpu = made.processes > 1 and not self.facts.get("gpu.count") and not self.values.get("deepspeed")
        if on_cpu and cpu.resumes_alone(self.target):
            environ["NPROC_PER_NODE"] = "1"
            self.result.not_rehearsed.append(note("resume_alone"))
        watch = Watch(last - step, self.progress, time.monotonic)
        log = self.directory / "resume.log"
        argv = launch.command(self.target, recipe)
        outcome = Launch(argv, environ, self.target.workdir, log).wait(self.until, watch.line)
        launches.interrupted(outcome)
        if outcome.how == LATE:
            self.out_of_time(RESUME, outcome)
        findings, unrecognised = self.diagnosed(outcome)
        passed = outcome.passed and not findings
        self.result.stages.append(self.stage(RESUME, passed, outcome.seconds, outcome.log))
        self.conclude(None if passed else RESUME, findings, unrecognised, outcome, go_on=True)

    # -- shared ---------------------------------------------------------------------------------------------------------
    def write_recipe(self, name: str, made: plan.Plan, changed: dict[str, Any]) -> Path:
        """Write the recipe of one launch, and its record with secrets masked. Returns it relative to the workdir."""
        values = {**made.values, **self.prepared.values, **changed, "model_name_or_path": self.target.shown(self.twin)}
        if made.deepspeed is not None:
            path = self.directory / "deepspeed.json"
            path.write_text(json.dumps(made.deepspeed, indent=1) + "\n", encoding="utf-8")
            values["deepspeed"] = self.target.shown(path)
        text = self.target.recipe.read_bytes()
        shown = self.target.shown(self.target.recipe)
        try:
            if self.target.overrides:
                text = yaml_text.set_values(text, yaml_recipe.parse_overrides(self.target.overrides), shown)
            text = yaml_text.unset(
                text, [key for key in [*made.unset, *self.prepared.unset] if key not in values], shown
            )
            text = yaml_text.set_values(text, values, shown)
        except CannotEdit as error:
            raise BadInput(str(error)) from None
        except yaml.YAMLError as error:
            raise BadInput(f"{shown} cannot be changed for a rehearsal ({error}).") from None
        (self.directory / name).write_text(redact.text(text.decode("utf-8-sig")), encoding="utf-8")
        (self.work / name).write_bytes(text)
        return (self.work / name).relative_to(self.target.workdir)
