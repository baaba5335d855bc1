"""`train --slurm`: write the job script of a recipe and submit it, or with --print only show it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from doctor import examine, launch_profile, redact, target
from doctor.cluster import bundle, script
from doctor.commands.arguments import split
from doctor.commands.check import examine_target
from doctor.commands.cluster import slurm_words
from doctor.errors import BadInput
from doctor.exit_codes import ExitCode
from doctor.facts import Facts
from doctor.findings import precise
from doctor.report import document
from doctor.report.words import LANGUAGES, language, say
from doctor.train import run_directory, settings

# What a login node can tell of a run on other nodes: files and packages, not GPUs, memory or networks.
_HERE = {"packages", "recipe", "model", "tokenizer", "template", "data", "deepspeed", "peft", "quantisation"}
_WORDS = {
    "submitted": ("submitted as job {job}", "已提交为任务 {job}"),
    "shown": (
        "Only shown: doctor.pyz, entry.py and recipe.yaml, which it needs beside it, are written when it is submitted.",
        "仅显示：它所需的 doctor.pyz、entry.py、recipe.yaml 在提交时才会写出。",
    ),
    "log": ("output", "输出"),
    "later": (
        "name the cause of a failure with: {command}",
        "失败后查找原因：{command}",
    ),
}


def _word(name: str, lang: str, **values: object) -> str:
    return _WORDS[name][LANGUAGES.index(lang)].format(**values)


def slurm(
    *,
    arguments: tuple[str, ...],
    workdir: str | None,
    python: str | None,
    env: str | None,
    force: bool,
    no_rehearse: bool,
    lang: str | None,
    budget: float | None,
    slurm_options: str | None,
    only_print: bool,
    **_: Any,
) -> int:
    from doctor.report import text

    lang = language(lang)
    notes = text.console(stderr=True)
    recipe, overrides = split("train", arguments)
    found = target.find(recipe, workdir, python, env, offline=True, overrides=overrides, launches=True)
    result = examine_target(found, budget or examine.DEFAULT_BUDGET)
    passes = _passes(result, force, notes, lang)
    if only_print:
        folder = found.workdir / run_directory.RUNS / time.strftime("%Y%m%d-%H%M%S")
        print(script.text(_job(found, result.facts, folder, slurm_options, force, no_rehearse)), end="")
        notes.print(_word("shown", lang), soft_wrap=True)
        return ExitCode.OK
    if not passes:
        return ExitCode.REFUSED
    if shutil.which("sbatch", path=found.environ.get("PATH")) is None:
        raise BadInput("sbatch is not on PATH; run this on a login node, or write the script with --print.")
    directory = run_directory.create(found.workdir)
    job = _job(found, result.facts, directory.path, slurm_options, force, no_rehearse)
    _write(job, found, result.facts, directory)
    number = _submit(job, found)
    notes.print(_word("submitted", lang, job=number), style="green")
    notes.print(f"{say('run_directory', lang)}: {directory.relative}", soft_wrap=True)
    notes.print(f"{_word('log', lang)}: {directory.relative}/train.log, {directory.relative}/job.log", soft_wrap=True)
    command = (
        f"skyt1-doctor diagnose {directory.relative}/ranks {directory.relative}/train.log {directory.relative}/job.log"
    )
    notes.print(_word("later", lang, command=command), soft_wrap=True)
    print(number)
    return ExitCode.OK


def _passes(result: examine.Examination, force: bool, notes: Any, lang: str) -> bool:
    """The gate, as far as this machine can tell; the nodes themselves are checked at the start of the job."""
    from doctor.report import text
    from knowledge_base import load

    content = document.examination("train", result, lang, with_facts=False)
    blocking = [f for f in content["findings"] if f["blocks_training"] and load.area(precise(f)) in _HERE]
    if blocking:
        text.findings(notes, blocking, lang)
        notes.print(say("forced" if force else "gate", lang, count=len(blocking)), style="bold red")
    return force or not blocking


def _job(
    found: target.Target, facts: Facts, folder: Path, options: str | None, force: bool, no_rehearse: bool
) -> script.Job:
    words = slurm_words(options)
    environ = launch_profile.read(found.workdir)
    if found.environ.get("NPROC_PER_NODE"):
        environ["NPROC_PER_NODE"] = found.environ["NPROC_PER_NODE"]
    if not any(word == "-N" or word.startswith(("-N", "--nodes")) for word in words):
        words += ["--nodes", str(facts.get("launch.nnodes") or 1)]
    beside = Path(sys.executable).with_name("skyt1-doctor")
    own = str(beside) if beside.exists() else shutil.which("skyt1-doctor")
    return script.Job(
        folder=folder,
        workdir=found.workdir,
        recipe=found.shown(found.recipe),
        python=found.python,
        scripts=found.scripts,
        doctor=Path(own) if own else None,
        options=tuple(words),
        environ={**_of_the_launcher(facts), **environ},
        name=found.recipe.stem,
        seconds_to_save=script.seconds_to_save(settings.from_facts(facts, found.workdir).checkpoint_bytes),
        check=not force,
        rehearse=not (force or no_rehearse),
    )


def _of_the_launcher(facts: Facts) -> dict[str, str]:
    """Variables that llamafactory-cli itself sets before torchrun (OPTIM_TORCH, from 0.9.3 on), read in its source."""
    root = facts.get("llamafactory.root")
    for name in ("launcher.py", "cli.py"):
        try:
            text = (Path(root or "/nonexistent") / name).read_text(encoding="utf-8")
        except OSError:
            continue
        if 'is_env_enabled("OPTIM_TORCH", "1")' in text:
            return {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "TORCH_NCCL_AVOID_RECORD_STREAMS": "1"}
    return {}


def _write(job: script.Job, found: target.Target, facts: Facts, directory: run_directory.RunDirectory) -> None:
    from doctor.cluster import entry

    recipe = run_directory.effective_recipe(found, directory)
    if recipe.is_absolute():
        run_directory.remove_private(recipe)
        raise BadInput(
            f"{found.shown(found.recipe)} holds a secret, which would have to be copied for the nodes; take it out and set "
            "it in the environment (WANDB_API_KEY, HF_TOKEN)."
        )
    (directory.path / "job.sh").write_text(script.text(job), encoding="utf-8")
    (directory.path / "doctor.pyz").write_bytes(bundle.build())
    (directory.path / "entry.py").write_text(Path(entry.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    nproc = facts.get("launch.nproc") if facts.get("launch.nproc_given") else None
    values = {**facts.get("recipe.values", {})}
    directory.write_json("job.json", script.facts_of_job(job, values, nproc))
    directory.write_json("facts.json", facts.to_json())
    record = {"command": ["sbatch", "job.sh"], "workdir": str(found.workdir), "environment": job.environ}
    directory.write_json("command.json", {**record, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")})


def _submit(job: script.Job, found: target.Target) -> str:
    """The job's number. Raises BadInput with Slurm's own sentence."""
    argv = ["sbatch", "--parsable", str(job.folder / "job.sh")]
    answer = subprocess.run(argv, env=found.environ, capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode:
        why = redact.text(" ".join(answer.stderr.split()))
        raise BadInput(f"sbatch refuses {shlex.quote(str(job.folder / 'job.sh'))}: {why}")
    return answer.stdout.strip().partition(";")[0]
