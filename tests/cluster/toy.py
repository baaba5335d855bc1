"""A toy workspace that trains on CPUs over gloo, in an environment that is given or installed.

SKYT1_CLUSTER_ENV=/path/to/env    an environment with llamafactory 0.9.1, torch 2.5.1, pyarrow<26, setuptools<81
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.stack.environments import MENDED, SKY_T1, Environment, plain_environ
from tests.stack.reproductions.place import Place

VARIABLE = "SKYT1_CLUSTER_ENV"


def environment(root: Path, variable: str = VARIABLE, packages: tuple[str, ...] = (*SKY_T1[:2], *MENDED)) -> Any:
    """The environment named by the variable, else a new one under `root`."""
    if not os.environ.get(variable):
        return Environment(root / "env", *packages)
    prefix = Path(os.environ[variable])
    path = f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environ = {**plain_environ(), "VIRTUAL_ENV": str(prefix), "PATH": path, "NPROC_PER_NODE": "1"}
    return SimpleNamespace(root=prefix, python=prefix / "bin" / "python", environ=environ)


def place(root: Path, used: Any, **recipe: Any) -> Place:
    """One process for each node, a checkpoint every second step, six steps."""
    made = Place(root, used)
    values = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "ddp_backend": "gloo", **recipe}
    made.set_recipe(**values)
    return made
