"""The sbatch script of a recipe: one launcher per node, one meeting place, logs of every rank, a checkpoint before the
time limit, and after a requeue the last complete checkpoint.

    RUN_FOLDER/job.sh         the script
    RUN_FOLDER/job.json       what it needs to know on the nodes (node_main reads it)
    RUN_FOLDER/doctor.pyz     our files for the nodes: the port, the recipe to resume with
    RUN_FOLDER/entry.py       what torchrun starts on every rank
    RUN_FOLDER/recipe.yaml    the recipe as used
    RUN_FOLDER/train.log      the output of all nodes; ranks/ has it by rank
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from doctor.errors import BadInput

SECONDS_TO_SAVE = 120  # before the time limit at least; a step and a small checkpoint
BYTES_PER_SECOND = 1e9  # of a checkpoint to a shared file system, all ranks together
_OURS = re.compile(r"--(requeue|no-requeue|open-mode|output|error|ntasks-per-node|ntasks|chdir|export)(=|$)|-[nDoe]\b")


class Job(msgspec.Struct, frozen=True):
    """Everything that the script's text depends on."""

    folder: Path  # absolute; on a file system that the nodes share
    workdir: Path
    recipe: str  # as the user knows it, for the check of the nodes
    python: Path
    scripts: Path
    doctor: Path | None  # the program that checks the nodes first; None without that
    options: tuple[str, ...]  # the user's for sbatch
    environ: dict[str, str]  # variables that the launch needs beyond the caller's environment
    name: str
    seconds_to_save: int
    rehearse: bool
    requeue: bool = True


def seconds_to_save(checkpoint_bytes: int | None) -> int:
    return SECONDS_TO_SAVE + int((checkpoint_bytes or 0) / BYTES_PER_SECOND)


def directives(options: Sequence[str]) -> list[str]:
    """`#SBATCH` lines of the user's options, one option with its value each. Raises BadInput for what the script sets."""
    lines: list[list[str]] = []
    for word in options:
        if _OURS.match(word):
            raise BadInput(f"{word} is set by the job script itself; leave it out of --slurm-options.")
        if word.startswith("-"):
            lines.append([word])
        elif lines and len(lines[-1]) == 1 and "=" not in lines[-1][0]:
            lines[-1].append(word)
        else:
            raise BadInput(f"{word} in --slurm-options belongs to no option.")
    return [f"#SBATCH {' '.join(map(shlex.quote, words))}" for words in lines]


def text(job: Job) -> str:
    """The script. It runs on the first node of the allocation, which has NODE_RANK 0."""
    quoted = {
        name: shlex.quote(str(getattr(job, name))) for name in ("folder", "workdir", "python", "scripts", "recipe")
    }
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(job.environ.items()))
    return _TEXT.format(
        name=shlex.quote(job.name),
        options="".join(f"{line}\n" for line in directives(job.options)),
        signal=""
        if any(word.startswith("--signal") for word in job.options)
        else f"#SBATCH --signal=B:USR1@{job.seconds_to_save}\n",
        requeue="--requeue" if job.requeue else "--no-requeue",
        exports=exports,
        first=_first(job),
        **quoted,
    )


def _first(job: Job) -> str:
    """What is done once, before the first launch: the nodes are checked and the recipe is rehearsed on one of them."""
    if job.doctor is None:
        return ""
    doctor, target = shlex.quote(str(job.doctor)), f"{shlex.quote(job.recipe)} --python {shlex.quote(str(job.python))}"
    lines = [f"  {doctor} check {target} --slurm || exit 4"]
    if job.rehearse:
        alone = "env NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1"
        lines.append(f'  srun --overlap -N1 -n1 -w "$SLURMD_NODENAME" {alone} {doctor} rehearse {target} || exit 4')
    return 'if [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then\n' + "\n".join(lines) + "\nfi\n"


_TEXT = """\
#!/bin/bash
#SBATCH --job-name={name}
{options}#SBATCH --ntasks-per-node=1
#SBATCH --chdir={workdir}
#SBATCH --output={folder}/job.log
#SBATCH --open-mode=append
#SBATCH {requeue}
{signal}# Written by skyt1-doctor train --slurm. torchrun starts the ranks of a node, so there is one task per node.
RUN={folder}
PYTHON={python}
export PATH={scripts}:"$PATH" PYTHONUNBUFFERED=1
{exports}
# The meeting place: this script runs on the first node, which is NODE_RANK 0.
export NNODES="$SLURM_JOB_NUM_NODES"
if [ -z "${{MASTER_ADDR:-}}" ]; then
  MASTER_ADDR=127.0.0.1
  if [ "$NNODES" -gt 1 ]; then
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    getent hosts "$MASTER_ADDR" > /dev/null || MASTER_ADDR=$(hostname -I | cut -d " " -f 1)
  fi
fi
MASTER_PORT=$("$PYTHON" -I "$RUN/doctor.pyz" port "$SLURM_JOB_ID") || exit 2
export MASTER_ADDR MASTER_PORT
{first}
# The recipe, from the last complete checkpoint after a requeue.
RECIPE=$("$PYTHON" -I "$RUN/doctor.pyz" recipe "$RUN" "$NNODES" "${{SLURM_RESTART_COUNT:-0}}") || exit 2
export RUN RECIPE SKYT1_DOCTOR_RUN_FOLDER="$RUN"
export SKYT1_DOCTOR_STOP_FILE="$RUN/stop-$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}"

# Slurm sends USR1 to this script before the time limit (--signal), TERM when the job is preempted.
trap 'echo "$(date "+%F %T") asked to save and end"; touch "$SKYT1_DOCTOR_STOP_FILE"' USR1 TERM

# srun does not take the CPUs of a task from sbatch (from Slurm 22.05 on).
[ -z "${{SLURM_CPUS_PER_TASK:-}}" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"

echo "$(date "+%F %T") $NNODES nodes ($SLURM_JOB_NODELIST), $MASTER_ADDR:$MASTER_PORT, $RECIPE"
srun --ntasks="$NNODES" --ntasks-per-node=1 --kill-on-bad-exit=1 --output="$RUN/train.log" --open-mode=append \\
  bash -c 'export NODE_RANK=$SLURM_PROCID; exec torchrun --nnodes "$NNODES" --node_rank "$NODE_RANK" \\
    --nproc_per_node "${{NPROC_PER_NODE:-gpu}}" --master_addr "$MASTER_ADDR" --master_port "$MASTER_PORT" \\
    --log-dir "$RUN/torchrun/node$NODE_RANK" --tee 3 "$RUN/entry.py" "$RECIPE"' &
step=$!
code=255
while kill -0 "$step" 2> /dev/null; do # a signal ends `wait`, not the step
  wait "$step"
  code=$?
done
wait "$step" 2> /dev/null
again=$?
[ "$again" -eq 127 ] || code=$again # 127: its end was told by the wait above

if [ -e "$SKYT1_DOCTOR_STOP_FILE.saved" ]; then
  echo "$(date "+%F %T") checkpoint-$(cat "$SKYT1_DOCTOR_STOP_FILE.saved") is saved; the job goes on after a requeue"
  scontrol requeue "$SLURM_JOB_ID" && sleep 60
  exit 0
fi
echo "$(date "+%F %T") the step ended with code $code"
[ "$code" -eq 0 ] || echo "name the cause with: skyt1-doctor diagnose $RUN/ranks $RUN/train.log $RUN/job.log"
exit "$code"
"""


def facts_of_job(job: Job, values: Mapping[str, Any], nproc: int | None) -> dict[str, Any]:
    """job.json: what `doctor.pyz recipe` needs on the node."""
    return {
        "workdir": str(job.workdir),
        "output_dir": values.get("output_dir"),
        "overwrite_output_dir": bool(values.get("overwrite_output_dir")),
        "resume_from_checkpoint": values.get("resume_from_checkpoint"),
        "nproc": nproc,
    }
