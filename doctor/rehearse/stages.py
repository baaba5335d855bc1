"""The stages of a rehearsal, one after another: model, train with evaluation and save, resume beside load."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import yaml

from doctor import redact
from doctor.errors import BadInput
from doctor.examine import likely_root_first, severity_of
from doctor.facts import Facts, UnknownFact
from doctor.findings import Evidence, Finding, Severity
from doctor.recipe import yaml_recipe
from doctor.recipe.source_tree import package_root
from doctor.rehearse import data, fingerprint, launches, model, plan, record
from doctor.rehearse.judge import EVALUATE, SAVE, TRAIN, Watch
from doctor.rehearse.launches import HANGS, LATE, Launch, Outcome
from doctor.rehearse.notes import note
from doctor.rehearse.record import FAILED, NOT_REHEARSED, PASSED, Rehearsal, Stage
from doctor.rehearse.shrink import Shrunk, shrink
from doctor.target import Target
from doctor.train import launch
from fixes.edit import yaml_text
from fixes.errors import CannotEdit
from knowledge_base.schema import Text

MODEL, RESUME, LOAD = "model", "resume", "load"
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.*")


class _Stop(Exception):
    """The rehearsal ends here, with the verdict that stands in the record."""


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
    stages = _Stages(target, facts, progress, directory, started + seconds)
    stages.result = Rehearsal(PASSED, 0.0, name, str(directory.relative_to(target.workdir)))
    try:
        stages.run()
    except _Stop:
        pass
    except OSError as error:
        raise BadInput(f"The rehearsal cannot write its files ({error}); make room or make them writable.") from None
    finally:
        stages.clean_up()
    result = stages.result
    result.seconds = round(time.monotonic() - started, 1)
    result.findings = likely_root_first(_once(result.findings))
    record.write(result, directory)
    record.prune(target.workdir, name)
    return result


def _once(findings: list[Finding]) -> list[Finding]:
    """The first finding of each cause."""
    return list({finding.cause: finding for finding in reversed(findings)}.values())[::-1]


class _Stages:
    result: Rehearsal

    def __init__(
        self, target: Target, facts: Facts, progress: Callable[[Text], None], directory: Path, until: float
    ) -> None:
        self.target, self.facts, self.progress, self.directory, self.until = target, facts, progress, directory, until
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

    # -- the road -------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        if refused := plan.refused(self.values, self.target.environ):
            self.nothing(refused)
        launch.command(self.target, Path("recipe.yaml"))  # raises BadInput where there is no llamafactory-cli
        self.work.mkdir()
        config, making = self.start_model()
        machine = self.machine()
        records = data.wanted(self.values, machine.processes, plan.STEPS)
        self.progress(note("sampling"))
        prepared = data.prepare(self.target, self.facts, self.work / "data", records, self.progress)
        deepspeed = self.facts.get("deepspeed.config")
        made = plan.make(self.values, machine, prepared.records, model.vocabulary(config.config), deepspeed)
        self.finish_model(config, making)
        self.result.not_rehearsed += [*made.notes, *prepared.notes]
        self.result.limit = {key: {"recipe": old, "rehearsed": new} for key, (old, new) in made.limits.items()}
        cache = self.work / "cache" if prepared.own else None
        self.environ = launches.environment(self.target, made.processes, machine.gpus, cache)
        self.train(made, prepared)
        self.resume_and_load(made, prepared)

    def machine(self) -> plan.Machine:
        gpus = self.facts.get("gpu.count") or 0
        nodes = self.facts.get("launch.nnodes") or 1
        real = self.facts.get("launch.world_size") or 1
        if not gpus and not self.facts.get("launch.nproc_given") and self.values.get("deepspeed"):
            real = max(real, 2)  # no GPU to count, and DeepSpeed is there for several
        return plan.Machine(gpus=gpus, real=real, nodes=nodes, bf16_on_cpu=self.bf16_on_cpu())

    def bf16_on_cpu(self) -> bool:
        """Whether this transformers takes bf16 where there is no GPU: later releases ask for one unless use_cpu is set."""
        root = package_root("transformers", self.target.site)
        try:
            source = (root / "training_args.py").read_text(encoding="utf-8") if root else ""
        except OSError:
            return False
        return "if torch.cuda.is_available() and not is_torch_bf16_gpu_available()" in source

    # -- the model ------------------------------------------------------------------------------------------------------
    def start_model(self) -> tuple[Shrunk, Launch]:
        """The twin's configuration, and the child that makes its weights."""
        name = self.facts.get("model.name") or "the model"
        found = self.model_findings()
        if found:
            self.result.findings += found
            self.result.stages.append(Stage(MODEL))
            self.failed()
        config, real = self.facts.get("model.config"), model.source(self.facts)
        if real is None or config is None:
            self.nothing(note("no_model", model=name))
        try:
            small = shrink(config)
        except (ValueError, TypeError, KeyError) as error:
            self.nothing(note("no_shrink", model=name, reason=error))
        layers = next((small.config[n] for n in ("num_hidden_layers", "n_layer") if n in small.config), 2)
        self.progress(note("making", architecture=model.architecture(small.config), layers=layers))
        model.write(real, self.twin, small.config)
        argv = [str(self.target.python), str(self.child(model.MAKER)), str(self.twin), self.remote()]
        environ = launches.child_environment(self.target)
        return small, Launch(argv, environ, self.work, self.directory / "model.log")

    def model_findings(self) -> list[Finding]:
        """What keeps the real model from being loaded, which its random twin would not show."""
        from doctor.probes.model import JUDGEMENTS

        found: list[Finding] = []
        for judgement in JUDGEMENTS:
            try:
                found += judgement(self.facts)
            except UnknownFact:
                continue
        return [finding for finding in found if severity_of(finding) is Severity.ERROR]

    def child(self, script: Path) -> Path:
        """A copy in a folder of its own: python puts a script's folder first on its path."""
        folder = self.work / "children"
        folder.mkdir(exist_ok=True)
        shutil.copyfile(script, folder / script.name)
        return folder / script.name

    def remote(self) -> str:
        return "remote" if self.values.get("trust_remote_code") is True else "plain"

    def finish_model(self, small: Shrunk, making: Launch) -> None:
        outcome = making.wait(self.until)
        launches.interrupted(outcome)
        name = self.facts.get("model.name") or "the model"
        if outcome.how == LATE:
            self.out_of_time(MODEL, outcome)
        if not outcome.passed:
            findings, unrecognised = self.diagnosed(outcome)
            if findings:
                self.result.findings += findings
                self.result.stages.append(self.stage(MODEL, False, outcome.seconds, outcome.log))
                self.failed()
            reason = unrecognised["message"] if unrecognised else f"exit code {outcome.code}"
            self.nothing(note("no_twin", model=name, reason=reason[:200]))
        told = json.loads(outcome.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1])
        self.result.stages.append(self.stage(MODEL, True, outcome.seconds, outcome.log))
        self.result.not_rehearsed.append(note("weights", parameters=f"{told['parameters']:,}", model=name))
        if small.quantized:
            self.result.not_rehearsed.append(note("quantized", method=small.quantized))

    # -- train, evaluate, save ------------------------------------------------------------------------------------------
    def train(self, made: plan.Plan, prepared: data.Data) -> None:
        recipe = self.write_recipe("recipe.yaml", made, prepared, {"output_dir": self.target.shown(self.output)})
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
    def resume_and_load(self, made: plan.Plan, prepared: data.Data) -> None:
        loading = self.start_loading()
        try:
            if RESUME in made.skips:
                self.skip(RESUME, made.skips[RESUME])
            else:
                self.resume(made, prepared)
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
        argv = [str(self.target.python), str(self.child(model.LOADER)), str(self.output), str(self.twin), self.remote()]
        return Launch(argv, launches.child_environment(self.target), self.work, self.directory / "load.log")

    def resume(self, made: plan.Plan, prepared: data.Data) -> None:
        found = [(int(p.name.rpartition("-")[2]), p) for p in self.output.glob("checkpoint-[0-9]*")]
        if not found:
            self.skip(RESUME, note("no_saving"))
            return
        step, checkpoint = min(found)
        self.progress(note("resuming", checkpoint=checkpoint.name))
        changed = {"output_dir": self.target.shown(self.resumed), "max_steps": max(made.steps, step + 1)}
        changed["resume_from_checkpoint"] = self.target.shown(checkpoint)
        recipe = self.write_recipe("resume.yaml", made, prepared, changed)
        environ = {**self.environ, "MASTER_PORT": str(launches.free_port())}
        watch = Watch(made.steps - step, self.progress, time.monotonic)
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
    def write_recipe(self, name: str, made: plan.Plan, prepared: data.Data, changed: dict[str, Any]) -> Path:
        """Write the recipe of one launch, and its record with secrets masked. Returns it relative to the workdir."""
        values = {**made.values, **prepared.values, **changed, "model_name_or_path": self.target.shown(self.twin)}
        if made.deepspeed is not None:
            path = self.directory / "deepspeed.json"
            path.write_text(json.dumps(made.deepspeed, indent=1) + "\n", encoding="utf-8")
            values["deepspeed"] = self.target.shown(path)
        text = self.target.recipe.read_bytes()
        shown = self.target.shown(self.target.recipe)
        try:
            if self.target.overrides:
                text = yaml_text.set_values(text, yaml_recipe.parse_overrides(self.target.overrides), shown)
            text = yaml_text.unset(text, [key for key in [*made.unset, *prepared.unset] if key not in values], shown)
            text = yaml_text.set_values(text, values, shown)
        except CannotEdit as error:
            raise BadInput(str(error)) from None
        except yaml.YAMLError as error:
            raise BadInput(f"{shown} cannot be changed for a rehearsal ({error}).") from None
        (self.directory / name).write_text(redact.text(text.decode("utf-8-sig")), encoding="utf-8")
        (self.work / name).write_bytes(text)
        return (self.work / name).relative_to(self.target.workdir)

    def diagnosed(self, outcome: Outcome) -> tuple[list[Finding], dict[str, Any] | None]:
        """Errors that the log shows, and a failure that nothing explains. A hang is a finding of its own."""
        from doctor.diagnose import diagnose

        shown = self.target.shown(outcome.log)
        if outcome.how == HANGS:
            what = f"no output and no work of any process after {outcome.seconds:.0f} s"
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
            raise _Stop

    def stage(self, name: str, passed: bool, seconds: float, log: Path) -> Stage:
        self.progress(note("stage_passed" if passed else "stage_failed", stage=name, seconds=seconds))
        return Stage(name, passed, round(seconds, 1), log=self.target.shown(log))

    def skip(self, name: str, why: Text) -> None:
        self.result.stages.append(Stage(name, skipped=why.en))

    def failed(self) -> NoReturn:
        self.result.verdict = FAILED
        raise _Stop

    def nothing(self, why: Text) -> NoReturn:
        """Nothing can be rehearsed, and that says nothing about the recipe."""
        self.result.verdict = NOT_REHEARSED
        self.result.not_rehearsed.append(why)
        raise _Stop

    def out_of_time(self, stage: str, outcome: Outcome) -> NoReturn:
        """The time is over before anything was shown to be wrong."""
        why = note("time", stage=stage, seconds=outcome.seconds)
        self.skip(stage, why)
        if self.result.verdict == PASSED:
            self.nothing(why)
        raise _Stop

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
