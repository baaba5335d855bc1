"""The environments in which reproductions run: one for each stack, put back after every fault of packages."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uv

from tests.stack.environments import MENDED, SKY_T1, Environment, plain_environ
from tests.stack.reproductions.run import Reproduction

PACKAGES = {
    "sky-t1": (*SKY_T1[:2], "deepspeed==0.15.4", *MENDED),
    "current": (
        "llamafactory==0.9.5", "torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0", "deepspeed==0.18.4",
        "setuptools<81",
    ),
}  # fmt: skip


class Installed(Environment):
    """An environment that is there already."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.python = root / "bin" / "python"
        path = f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environ = {**plain_environ(), "VIRTUAL_ENV": str(root), "PATH": path}


class Stacks:
    """Makes an environment when it is first asked for, under `folder`, unless one is `given` for that stack."""

    def __init__(self, folder: Path, given: dict[str, Path] | None = None) -> None:
        self._folder = folder
        self._made = {stack: Installed(root) for stack, root in (given or {}).items()}

    def of(self, stack: str) -> Environment:
        if stack not in self._made:
            self._made[stack] = Environment(self._folder / stack, *PACKAGES[stack])
        return self._made[stack]

    @contextmanager
    def lent(self, case: Reproduction) -> Iterator[Environment]:
        """The environment for one reproduction. One that changes packages gives it back as it was."""
        environment = self.of(case.stack)
        before = environment.freeze() if case.changes_packages else []
        try:
            yield environment
        finally:
            if before:
                _restore(environment, before)


def _restore(environment: Environment, packages: list[str]) -> None:
    argv = [uv.find_uv_bin(), "pip", "sync", "-q", "--python", str(environment.python), "-"]
    text = "\n".join(line for line in packages if line)
    subprocess.run(argv, check=True, env=plain_environ(), input=text, text=True)
