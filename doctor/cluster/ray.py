"""Runs the collector on the nodes of a Ray cluster, through a driver that the target's own Ray runs."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doctor.cluster import bundle, ray_driver
from doctor.cluster.capture import Capture
from doctor.cluster.receive import about, end, receive
from doctor.errors import BadInput

CONNECT_SECONDS = 30.0  # for importing Ray, finding the cluster and starting a first worker on every node
# What changes a launch and is set here goes to the workers too, as LLaMA-Factory itself hands on its environment.
_HANDED_ON = ("NCCL_", "GLOO_", "TORCH_", "DS_", "MASTER_")


def collect(request: Mapping[str, Any], address: str, budget: float) -> Capture:
    """The capture of all nodes. Raises BadInput when the target has no Ray or the cluster does not answer."""
    environ = {name: value for name, value in os.environ.items() if name.startswith(_HANDED_ON)}
    wanted = {**request, "budget": budget, "word": secrets.token_hex(8), "environ": environ, "launcher": "ray"}
    capture = Capture()
    with tempfile.TemporaryDirectory(prefix="skyt1-doctor-") as folder:
        zipapp = Path(folder) / "doctor.pyz"
        zipapp.write_bytes(bundle.build())
        driver = Path(folder) / "ray_driver.py"
        driver.write_text(Path(ray_driver.__file__).read_text(encoding="utf-8"), encoding="utf-8")
        argv = [
            str(request["python"]),
            str(driver),
            address,
            str(zipapp),
            json.dumps(wanted),
            str(budget + CONNECT_SECONDS),
        ]
        try:
            step = subprocess.Popen(
                argv, env={**os.environ, "PYTHONUNBUFFERED": "1", "RAY_DEDUP_LOGS": "0"}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise BadInput(f"The target python {request['python']} does not start ({error.strerror}).") from None
        try:
            until = time.monotonic() + budget + 2 * CONNECT_SECONDS
            told = receive(step, None, until, capture, f"did not answer within {budget + CONNECT_SECONDS:g} s")
        finally:
            end(step)
    if not capture.nodes:
        raise BadInput(_why(told, address, str(request["python"])))
    for node, reason in capture.reasons.items():
        if reason is not None and (words := about(node, told)):
            capture.missing(node, words)
    return capture


def _why(told: list[str], address: str, python: str) -> str:
    """Why the driver found no cluster."""
    if any("No module named 'ray'" in line for line in told):
        return f"{python} has no Ray; install it in the environment that trains: pip install ray."
    said = [line for line in told if "Error" in line or "error" in line] or told
    return f"The Ray cluster at {address} does not answer: {(said or ['no word from it'])[-1][:300]}"
