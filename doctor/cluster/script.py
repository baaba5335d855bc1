"""The sbatch script of a recipe: one launcher per node, one meeting place, logs of every rank, a checkpoint before the
time limit, and after a requeue the last complete checkpoint.

    RUN_FOLDER/job.sh         the script
    RUN_FOLDER/job.json       what it needs to know on the nodes (node_main reads it)
    RUN_FOLDER/doctor.pyz     our files for the nodes: the port, the recipe to resume with
    RUN_FOLDER/entry.py       what torchrun starts on every rank
    RUN_FOLDER/recipe.yaml    the recipe as used
    RUN_FOLDER/train.log      the output of all nodes in this start; ranks/ has it by rank
    RUN_FOLDER/job.log        what the script itself says: the check, the rehearsal, alarms, the diagnosis
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
_OURS = re.compile(
    r"--(requeue|no-requeue|open-mode|output|error|ntasks-per-node|ntasks|chdir|export|array|wrap)(=|$)|-[nDoea]"
)
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")


class Job(msgspec.Struct, frozen=True):
    """Everything that the script's text depends on."""

    folder: Path  # absolute; on a file system that the nodes share
    workdir: Path
    recipe: str  # as the user knows it, for the check of the nodes
    python: Path
    scripts: Path
    doctor: Path | None  # the program that checks the nodes, watches and diagnoses; None where it is not known
    options: tuple[str, ...]  # the user's for sbatch
    environ: dict[str, str]  # variables that the launch needs beyond the caller's environment
    name: str
    seconds_to_save: int
    check: bool  # the nodes, before the first start
    rehearse: bool


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


def limit(options: Sequence[str]) -> float | None:
    """Seconds of --time as sbatch reads it (M, M:S, H:M:S, D-H, D-H:M, D-H:M:S); None without one, or one of words."""
    value = None
    for word, following in zip(options, [*options[1:], ""], strict=True):
        if word in ("-t", "--time"):
            value = following
        elif word.startswith(("--time=", "-t")):
            value = word.removeprefix("--time=").removeprefix("-t")
    read = _TIME.fullmatch(value or "")
    if read is None:
        return None
    first, *rest = (int(read[name]) for name in ("first", "second", "third") if read[name] is not None)
    second, third = (*rest, 0, 0)[:2]
    if read["days"] is not None:
        return int(read["days"]) * 86400.0 + first * 3600 + second * 60 + third
    return first * 60.0 + second if len(rest) < 2 else first * 3600.0 + second * 60 + third


def _signal(job: Job) -> str:
    """The line that asks for the signal. Raises BadInput when the time limit leaves more for saving than for training."""
    if any(word.startswith("--signal") for word in job.options):
        return ""
    given = limit(job.options)
    if given is not None and 0 < given < 2 * job.seconds_to_save:
        raise BadInput(
            f"--time is {given:.0f} s, of which {job.seconds_to_save} s are kept for saving a checkpoint: give more time, "
            "or your own --signal=B:USR1@SECONDS in --slurm-options."
        )
    return f"#SBATCH --signal=B:USR1@{job.seconds_to_save}\n"


def text(job: Job) -> str:
    """The script. It runs on the first node of the allocation, which has NODE_RANK 0."""
    quoted = {
        name: shlex.quote(str(getattr(job, name))) for name in ("folder", "workdir", "python", "scripts", "recipe")
    }
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(job.environ.items()))
    return _TEXT.format(
        name=shlex.quote(job.name),
        options="".join(f"{line}\n" for line in directives(job.options)),
        signal=_signal(job),
        job_log=shlex.quote(f"{job.folder}/job.log".replace("%", "%%")),  # Slurm puts the job's number for %j
        train_log=shlex.quote(f"{job.folder}/train.log".replace("%", "%%")),
        doctor=shlex.quote(str(job.doctor)) if job.doctor else "",
        exports=exports,
        first=_first(job),
        **quoted,
    )


def _first(job: Job) -> str:
    """What is done once, before the first launch: the nodes are checked and the recipe is rehearsed on one of them."""
    target = f"{shlex.quote(job.recipe)} --python {shlex.quote(str(job.python))}"
    lines = [f'  "$DOCTOR" check {target} --slurm || exit 4'] if job.check else []
    if job.rehearse:
        alone = "env NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1"
        lines.append(f'  srun --overlap -N1 -n1 -w "$SLURMD_NODENAME" {alone} "$DOCTOR" rehearse {target} || exit 4')
    if not lines:
        return ""
    return 'if [ -n "$DOCTOR" ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then\n' + "\n".join(lines) + "\nfi\n"


_TEXT = """\
#!/bin/bash
#SBATCH --job-name={name}
{options}#SBATCH --ntasks-per-node=1
#SBATCH --chdir={workdir}
#SBATCH --output={job_log}
#SBATCH --open-mode=append
#SBATCH --requeue
{signal}# Written by skyt1-doctor train --slurm. torchrun starts the ranks of a node, so there is one task per node.
RUN={folder}
PYTHON={python}
DOCTOR={doctor}
if [ -n "$DOCTOR" ] && ! [ -x "$DOCTOR" ]; then
  echo "there is no $DOCTOR on this node: nothing is checked, watched or diagnosed"
  DOCTOR=
fi
export PYTHON PATH={scripts}:"$PATH" PYTHONUNBUFFERED=1
{exports}
# The meeting place: this script runs on the first node, which is NODE_RANK 0.
export NNODES="$SLURM_JOB_NUM_NODES"
case "${{MASTER_ADDR:-}}" in "" | localhost | 127.*) # of the shell that submitted: no other node comes there
  MASTER_ADDR=127.0.0.1
  if [ "$NNODES" -gt 1 ]; then
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    getent hosts "$MASTER_ADDR" > /dev/null || MASTER_ADDR=$(hostname -I | cut -d " " -f 1)
  fi ;;
esac
MASTER_PORT=$("$PYTHON" -I "$RUN/doctor.pyz" port "$SLURM_JOB_ID") || exit 2
export MASTER_ADDR MASTER_PORT
{first}
# Of this start only: earlier logs are kept under another name, ranks/ has links to those of torchrun/.
[ ! -e "$RUN/train.log" ] || mv "$RUN/train.log" "$RUN/train-before-$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}.log"
rm -rf "$RUN/ranks"

# The recipe, from the last complete checkpoint after a requeue.
RECIPE=$("$PYTHON" -I "$RUN/doctor.pyz" recipe "$RUN" "$NNODES" "${{SLURM_RESTART_COUNT:-0}}") || exit 2
export RUN RECIPE SKYT1_DOCTOR_RUN_FOLDER="$RUN"
export SKYT1_DOCTOR_STOP_FILE="$RUN/stop-$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}"

# Slurm sends USR1 to this script before the time limit (--signal), TERM when the job is preempted.
trap 'echo "$(date "+%F %T") asked to save and end"; touch "$SKYT1_DOCTOR_STOP_FILE"' USR1 TERM

# srun does not take the CPUs of a task from sbatch (from Slurm 22.05 on).
[ -z "${{SLURM_CPUS_PER_TASK:-}}" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"

echo "$(date "+%F %T") $NNODES nodes ($SLURM_JOB_NODELIST), $MASTER_ADDR:$MASTER_PORT, $RECIPE"
srun --ntasks="$NNODES" --ntasks-per-node=1 --export=ALL --kill-on-bad-exit=1 --output={train_log} --open-mode=append \\
  bash -c 'export NODE_RANK=$SLURM_PROCID; exec "$PYTHON" -m torch.distributed.run --nnodes "$NNODES" \\
    --node_rank "$NODE_RANK" --nproc_per_node "${{NPROC_PER_NODE:-gpu}}" --master_addr "$MASTER_ADDR" \\
    --master_port "$MASTER_PORT" --log-dir "$RUN/torchrun/node$NODE_RANK" --tee 3 "$RUN/entry.py" "$RECIPE"' \\
  2>> "$RUN/train.log" &
step=$!
watch=
if [ -n "$DOCTOR" ]; then # a hang, a loss of nan, a disk that fills: said here while it runs
  "$DOCTOR" watch "$RUN/train.log" > /dev/null &
  watch=$!
fi
code=255
while kill -0 "$step" 2> /dev/null; do # a signal ends `wait`, not the step
  wait "$step"
  code=$?
done
wait "$step" 2> /dev/null
again=$?
[ "$again" -eq 127 ] || code=$again # 127: its end was told by the wait above

[ -z "$watch" ] || kill "$watch" 2> /dev/null

if [ -e "$SKYT1_DOCTOR_STOP_FILE.saved" ]; then
  echo "$(date "+%F %T") checkpoint-$(cat "$SKYT1_DOCTOR_STOP_FILE.saved") is saved; the job goes on after a requeue"
  trap "exit 0" TERM # Slurm ends this script when it takes the job back into its queue
  if scontrol requeue "$SLURM_JOB_ID"; then
    sleep 300 &
    wait $!
  fi
  echo "Slurm did not requeue it; to go on: sbatch $(printf %q "$RUN/job.sh")"
  exit 3
fi
echo "$(date "+%F %T") the step ended with code $code"
[ "$code" -ne 0 ] || exit 0
if [ -n "$DOCTOR" ]; then
  logs=("$RUN/train.log")
  [ ! -e "$RUN/ranks" ] || logs=("$RUN/ranks" "${{logs[@]}}")
  "$DOCTOR" diagnose "${{logs[@]}}"
fi
echo "name the cause again with: skyt1-doctor diagnose $(printf "%q " "$RUN/ranks" "$RUN/train.log" "$RUN/job.log")"
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
