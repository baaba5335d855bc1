"""The node itself: its name, kernel and C library, and what Slurm told the process there."""

from __future__ import annotations

import os
import platform
import socket
from typing import Any

from doctor.facts import Facts
from doctor.probes import Judgement
from doctor.target import Target

ID = "node"
AFTER: tuple[str, ...] = ()

_SLURM = ("SLURM_JOB_ID", "SLURM_NODEID", "SLURM_NNODES", "SLURM_JOB_NODELIST", "SLURMD_NODENAME", "SLURM_CLUSTER_NAME")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    return {
        "node.host": socket.gethostname(),
        "node.kernel": platform.release(),
        "node.libc": " ".join(platform.libc_ver()).strip() or None,
        "node.machine": platform.machine(),
        "node.user": os.getuid(),
        "node.group": os.getgid(),
        "node.slurm": {name: target.environ[name] for name in _SLURM if name in target.environ},
    }


JUDGEMENTS: tuple[Judgement, ...] = ()
