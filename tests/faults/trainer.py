"""Runs the recipe of a workspace with its real LLaMA-Factory: by a fork server, or by a start of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.workspace import Workspace
from tests.stack.environments import Environment

FORK_SECONDS = 90.0  # one run after a fork; a healthy one takes 3
FRESH_SECONDS = 240.0  # one run with the imports before it, on a busy machine
SERVE = Path(__file__).with_name("serve.py")


@dataclass(frozen=True)
class Run:
    """How a run went: its exit code, None when it hung until the limit; its output."""

    code: int | None
    seconds: float
    log: str


class Trainer:
    """Runs of all stacks. A fork server is started for an environment when it is first needed."""

    def __init__(self) -> None:
        self._servers: dict[Path, subprocess.Popen[str]] = {}

    def train(self, place: Workspace, fresh: bool) -> Run:
        environ = place.shell()
        several = environ.get("NPROC_PER_NODE", "1") not in ("", "1")
        recipe = str(place.recipe.relative_to(place.root))
        return self._fresh(place, recipe, environ) if fresh or several else self._fork(place, recipe, environ)

    def _fork(self, place: Workspace, recipe: str, environ: dict[str, str]) -> Run:
        if environ.get("FORCE_TORCHRUN", "1").lower() in ("1", "true"):  # what torchrun would set for one rank
            environ = {**environ, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
            environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "train.log"
            job = {"cwd": str(place.root), "argv": [recipe], "environ": environ, "log": str(log)}
            answer = _asked(self._server(place.environment), {**job, "seconds": FORK_SECONDS})
            return Run(answer["code"], answer["seconds"], log.read_text(errors="replace"))

    def _fresh(self, place: Workspace, recipe: str, environ: dict[str, str]) -> Run:
        """`llamafactory-cli train` typed into the user's shell."""
        begun = time.monotonic()
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                ["/bin/bash", "-c", f"llamafactory-cli train {recipe}"],
                cwd=place.root, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
            try:
                code: int | None = process.wait(FRESH_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGINT)  # torchrun ends its ranks, which have sessions of their own
                try:
                    process.wait(45)  # torchrun gives them 30 s
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                code = None
            output.seek(0)
            return Run(code, round(time.monotonic() - begun, 1), output.read().decode(errors="replace"))

    def _server(self, environment: Environment) -> subprocess.Popen[str]:
        server = self._servers.get(environment.root)
        if server is None:
            scratch = environment.root.parent / "served"
            scratch.mkdir(exist_ok=True)
            around = {**environment.environ, "HOME": str(scratch)}
            server = subprocess.Popen(
                [str(environment.python), str(SERVE)],
                cwd=scratch, env={**around, "OMP_NUM_THREADS": "1"}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert server.stdout is not None
            if not server.stdout.readline():
                raise RuntimeError(f"LLaMA-Factory of {environment.root} cannot be imported")
            self._servers[environment.root] = server
        return server

    def close(self) -> None:
        for server in self._servers.values():
            assert server.stdin is not None
            server.stdin.close()
            server.wait(30)


def _asked(server: subprocess.Popen[str], job: dict[str, Any]) -> dict[str, Any]:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(job) + "\n")
    server.stdin.flush()
    return dict(json.loads(server.stdout.readline()))


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
