"""The environments of the campaign: one per stack, and copies of them by hard links for faults of the packages."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uv

from tests.faults.fault import COPY, Fault
from tests.faults.workspace import BASES
from tests.stack.environments import Environment, plain_environ
from tests.stack.reproductions.stacks import PACKAGES, Installed

BUILD_OPS = """
from deepspeed.accelerator import get_accelerator
for name in ("ShareMemCommBuilder", "CPUAdamBuilder"):
    get_accelerator().create_op_builder(name).load()
"""


def extensions(folder: Path, stack: str) -> Path:
    """Where torch keeps what DeepSpeed compiles at its first use: compiled for one torch, so one folder per stack."""
    return folder / f"torch_extensions-{stack}"


class Environments:
    """`folder`/<stack> for each stack, made from the registry where it is not there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, stack: str) -> Environment:
        root = self.folder / stack
        return Installed(root) if root.exists() else Environment(root, *PACKAGES[stack])

    def compile_ops(self, stack: str) -> None:
        """Beforehand: it takes longer than a run may."""
        built = extensions(self.folder, stack)
        with (self.folder / f".lock-{stack}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (built / "whole").exists():
                shutil.rmtree(built, ignore_errors=True)
                environment = self.of(stack)
                environ = {**environment.environ, "TORCH_EXTENSIONS_DIR": str(built)}
                subprocess.run([str(environment.python), "-c", BUILD_OPS], check=True, env=environ, capture_output=True)
                (built / "whole").touch()

    @contextmanager
    def lent(self, fault: Fault, heals: bool = False) -> Iterator[Environment]:
        """The environment of a fault; a copy with changed packages is taken away afterwards."""
        healthy = self.of(BASES[fault.base].stack)
        if fault.damage is None and (fault.packages is None or (fault.packages == COPY and not heals)):
            yield healthy
            return
        copy = copied(healthy, self.folder / f"of-{fault.id}")
        try:
            install, uninstall = fault.packages or COPY
            if install:
                copy.install("--no-deps", *install)
            if uninstall:
                argv = [uv.find_uv_bin(), "pip", "uninstall", "-q", "--python", str(copy.python), *uninstall]
                subprocess.run(argv, check=True, env=plain_environ())
            if fault.damage is not None:
                toy = self.folder / f"{healthy.root.name}-toy"  # which the damaged one could not make
                if toy.exists():
                    shutil.copytree(toy, self.folder / f"{copy.root.name}-toy", dirs_exist_ok=True)
                fault.damage(next(copy.root.glob("lib/python3*/site-packages")))
            yield copy
        finally:
            shutil.rmtree(copy.root)


def copied(environment: Environment, root: Path) -> Environment:
    """The same environment at another place. uv replaces files and never writes into one, so the links are safe."""
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-al", str(environment.root), str(root)], check=True)
    for script in (root / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        text = script.read_bytes()
        if str(environment.root).encode() in text[:4096]:
            mode = script.stat().st_mode
            script.unlink()
            script.write_bytes(text.replace(str(environment.root).encode(), str(root).encode()))
            script.chmod(mode)
    return Installed(root)
