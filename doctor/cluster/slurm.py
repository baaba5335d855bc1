"""Runs the collector on the nodes of a Slurm allocation: one task per node, all within one deadline.

Inside an allocation its nodes are asked (`srun --overlap`, so a running job is not disturbed). Outside, a short
allocation with the given options is made and given back. The zipapp is laid into the working directory, which nodes
usually share; those that do not see it there are sent it over srun's standard input, in a second step of their own: srun
reads its input only when every node of the step has come up, so that one hung node would hold up all. Answers come back
as lines (doctor.cluster.wire); a node that does not answer is unknown with the best reason that Slurm has.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from doctor.cluster import bundle, hostlist
from doctor.cluster.capture import Capture
from doctor.cluster.receive import REASON, about, end, receive
from doctor.errors import BadInput

GRACE = 5.0  # seconds beyond the nodes' own budget for srun to start the tasks and bring the last lines
ALLOCATION_SECONDS = 20  # how long Slurm may look for nodes
_LACKS = "the collector is not there"
_NOT_LAUNCHED = re.compile(r"[Ll]aunch for \S+ failed on node (\S+):")
_ALLOCATED = re.compile(r"Granted job allocation (?P<job>\d+)")
_MARKED = re.compile(r"^salloc: (?:error: |fatal: )?")  # what Slurm puts before what it says
# $0 is the target's interpreter, $1 the request, $2 the zipapp or empty where it comes over standard input. A node
# without it, or without a fit Python, says so in a line of its own.
_BOOT = f"""
say() {{ echo "{REASON} ${{SLURMD_NODENAME:-$(uname -n)}} $1"; exit 0; }}
f=$2
if [ -z "$f" ]; then
  f=$(mktemp "${{TMPDIR:-/tmp}}/skyt1-doctor-XXXXXX") && trap 'rm -f "$f"' EXIT && cat > "$f" ||
    say "no room for the collector"
fi
[ -r "$f" ] || say "{_LACKS}"
for p in "$0" python3 python3.13 python3.12 python3.11 python3.10 python; do
  if "$p" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
    "$p" -I "$f" collect "$1"
    exit $?
  fi
done
say "there is no Python 3.10 or newer on this node"
"""


class Allocation(msgspec.Struct, frozen=True):
    """A job whose nodes are asked."""

    job: str
    nodes: tuple[str, ...]


@contextmanager
def allocation(options: Sequence[str], environ: Mapping[str, str]) -> Iterator[Allocation]:
    """The allocation that we are in, else a new one with these options, given back at the end. Raises BadInput."""
    if shutil.which("srun", path=environ.get("PATH")) is None:
        raise BadInput("srun is not on PATH; run this where Slurm's commands are, as on a login node.")
    if environ.get("SLURM_JOB_ID") and environ.get("SLURM_JOB_NODELIST"):
        if options:
            raise BadInput(
                f"This shell is inside job {environ['SLURM_JOB_ID']}; leave out the options to ask its nodes."
            )
        yield Allocation(environ["SLURM_JOB_ID"], tuple(hostlist.expand(environ["SLURM_JOB_NODELIST"])))
        return
    job = _allocate(options, environ)
    try:
        listed = _said(["squeue", "-h", "-j", job, "-o", "%N"], environ)
        yield Allocation(job, tuple(hostlist.expand(listed.strip())))
    finally:
        _said(["scancel", "--quiet", job], environ)


def _allocate(options: Sequence[str], environ: Mapping[str, str]) -> str:
    argv = ["salloc", "--no-shell", "--no-kill", "--ntasks-per-node=1", "--time=5", f"--immediate={ALLOCATION_SECONDS}"]
    argv += ["--job-name=skyt1-doctor", *options]
    try:
        answer = subprocess.run(
            argv, env=dict(environ), capture_output=True, text=True, timeout=ALLOCATION_SECONDS + 20, check=False
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"Slurm gave no nodes within {ALLOCATION_SECONDS} s; ask inside an allocation.") from None
    granted = _ALLOCATED.search(answer.stderr)
    if answer.returncode or granted is None:
        said = [_MARKED.sub("", line).strip() for line in answer.stderr.splitlines()]
        why = "; ".join([line for line in said if line][-2:]) or f"exit code {answer.returncode}"
        raise BadInput(f"Slurm gives no nodes for {shlex.join(argv)}: {why}")
    return granted["job"]


def _said(argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """What a Slurm command prints; empty when it fails or does not answer."""
    try:
        answer = subprocess.run(list(argv), env=dict(environ), capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout


def collect(
    request: Mapping[str, Any], budget: float, options: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> Capture:
    """The capture of all nodes. `request` is the collector's; budget and word are added. Raises BadInput."""
    with allocation(options, environ) as given:
        return _asked(
            given, {**request, "budget": budget, "word": secrets.token_hex(8), "slurm": True}, budget, environ
        )


def _asked(given: Allocation, request: Mapping[str, Any], budget: float, environ: Mapping[str, str]) -> Capture:
    until = time.monotonic() + budget + GRACE
    capture = Capture()
    for node in given.nodes:
        capture.missing(node, f"did not answer within {budget:g} s")
    states = _states(given, environ)
    lost = {node: state for node, state in states.items() if _is_lost(state)} if len(given.nodes) > 1 else {}
    for node, state in lost.items():
        capture.missing(node, f"Slurm says {state}")
    nodes = [node for node in given.nodes if node not in lost]
    told: list[str] = []
    with _laid(Path(str(request.get("workdir") or ".")).absolute()) as zipapp:
        if zipapp is not None:
            _step(given, nodes, request, zipapp, until, capture, told, environ)
            unreached = set(_NOT_LAUNCHED.findall("\n".join(told)))
            stopped = [n for n in nodes if n not in unreached and capture.reasons[n] not in (None, _LACKS)]
            if (
                unreached and stopped
            ):  # srun ends the whole step when it cannot start a task somewhere: once more without
                _step(given, stopped, request, zipapp, time.monotonic() + budget + GRACE, capture, told, environ)
            nodes = [node for node in nodes if capture.reasons[node] == _LACKS]
    if nodes:
        _step(given, nodes, request, None, max(until, time.monotonic() + budget / 2), capture, told, environ)
    for node in capture.nodes:
        if capture.reasons[node] is not None and (words := about(node, told)):
            capture.missing(node, words)
    return capture


@contextmanager
def _laid(workdir: Path) -> Iterator[Path | None]:
    """The zipapp in the working directory while the nodes read it; None where it cannot be written."""
    folder = workdir / ".skyt1-doctor"
    try:
        folder.mkdir(exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix="collector-", suffix=".pyz")
    except OSError:
        yield None
        return
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(bundle.build())
        os.chmod(name, 0o644)
        yield Path(name)
    finally:
        os.unlink(name)


def _step(
    given: Allocation, nodes: Sequence[str], request: Mapping[str, Any], zipapp: Path | None, until: float,
    capture: Capture, told: list[str], environ: Mapping[str, str],
) -> None:  # fmt: skip
    """One srun over these nodes; what it brings goes into the capture."""
    if not nodes:
        return
    argv = [
        "srun", f"--jobid={given.job}", "--overlap", f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}",
        "--ntasks-per-node=1", f"--nodelist={','.join(nodes)}", "--no-kill", "--kill-on-bad-exit=0", "--wait=0",
        "--cpu-bind=none", "sh", "-c", _BOOT, str(request.get("python") or "python3"), json.dumps(request),
        str(zipapp or ""),
    ]  # fmt: skip
    with tempfile.TemporaryFile() as sent:
        if zipapp is None:
            sent.write(bundle.build())
            sent.seek(0)
        step = subprocess.Popen(
            argv, env=_without_step(environ), stdin=sent, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        try:
            told += receive(step, nodes, until, capture, "did not answer in time")
        finally:
            end(step)


def _without_step(environ: Mapping[str, str]) -> dict[str, str]:
    """Inside a job step srun would take that step's shape for ours."""
    shape = ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NNODES", "SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE",
             "SLURM_CPUS_PER_TASK", "SLURM_DISTRIBUTION", "SLURM_STEP_ID", "SLURM_EXPORT_ENV")  # fmt: skip
    return {name: value for name, value in environ.items() if name not in shape}


def _is_lost(state: str) -> bool:
    """Whether Slurm itself says that it has lost the node; no task is started there."""
    word = state.partition(" ")[0]
    return word.startswith(("down", "fail", "powered_down", "powering_down", "unknown")) or word.endswith("*")


def _states(given: Allocation, environ: Mapping[str, str]) -> dict[str, str]:
    """Node -> its state and the administrator's reason."""
    found: dict[str, str] = {}
    listed = _said(["sinfo", "-h", "-N", "-n", ",".join(given.nodes), "-o", "%N|%T|%E"], environ)
    for line in listed.splitlines():
        node, _, rest = line.partition("|")
        state, _, reason = rest.partition("|")
        found[node] = state if reason.strip() in ("none", "") else f"{state} ({reason.strip()})"
    return found
