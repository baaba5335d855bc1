"""What the job script asks of `doctor.pyz` on the first node: a port for the rendezvous, the recipe to go on with."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

FIRST_PORT, PORTS = 20000, 12000  # below the ports that Linux gives to outgoing connections (32768 and up by default)
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port(seed: int) -> int:
    """A port that rank 0 can listen on, away from those of outgoing connections. Jobs on one node begin elsewhere."""
    try:
        first, last = map(int, _RANGE.read_text().split())
    except (OSError, ValueError):
        first, last = 32768, 60999
    for step in range(PORTS):
        port = FIRST_PORT + (seed * 7 + step) % PORTS
        if not first <= port <= last and _is_free(port):
            return port
    raise OSError("no port between 20000 and 31999 is free")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def recipe(folder: Path, nodes: int, restart: int, nproc: int | None = None) -> Path:
    """The recipe of this start, relative to the working directory: with the last complete checkpoint after a requeue, or
    when the same job script is submitted once more.

    Without any it begins anew. Incomplete newer checkpoints are renamed, because LLaMA-Factory would take the newest.
    """
    from doctor.train import resume
    from doctor.train.settings import Settings
    from fixes.edit import yaml_text

    job: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    workdir = Path(job["workdir"])
    used = folder / "recipe.yaml"
    started = folder / "started"
    first = not restart and not started.exists()
    if first:
        started.write_text(f"{time.time()}\n")
    if first or not job["output_dir"]:
        return used.relative_to(workdir)
    ranks = nproc or job["nproc"] or 1
    earlier = job.get("resume_from_checkpoint")
    settings = Settings(
        output=(workdir / job["output_dir"]).absolute(),
        world_size=nodes * ranks,
        overwrite_output=job["overwrite_output_dir"],
        resume_from=str((workdir / earlier).absolute()) if isinstance(earlier, str) else None,
    )
    found = resume.prepare(settings, float(started.read_text()) if started.exists() else 0.0)
    for name, faults in found.aside:
        print(f"set aside: {name} ({faults})", file=sys.stderr)
    if found.checkpoint is None:
        print("no complete checkpoint: the run begins anew", file=sys.stderr)
        return used.relative_to(workdir)
    print(f"goes on from {found.checkpoint.path}", file=sys.stderr)
    changed = yaml_text.set_values(
        used.read_bytes(), {"resume_from_checkpoint": str(found.checkpoint.path)}, "recipe.yaml"
    )
    again = folder / f"recipe-{restart}.yaml"
    again.write_bytes(changed)
    return again.relative_to(workdir)


def port_command(arguments: list[str]) -> None:
    print(free_port(int(arguments[0]) if arguments else os.getpid()))


def recipe_command(arguments: list[str]) -> None:
    folder, nodes, restart = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    given = os.environ.get("NPROC_PER_NODE", "")
    print(recipe(folder, nodes, restart, int(given) if given.isdigit() else None))
