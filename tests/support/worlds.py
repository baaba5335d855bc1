"""A target whose home, PATH and environment are the test's own, so that nothing of the machine is read by accident."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from doctor.target import Target
from tests.support.targets import make_target


def world(
    root: Path,
    recipe: str = "stage: sft\n",
    environ: Mapping[str, str] | None = None,
    offline: bool = False,
    because: str = "made for a test",
) -> Target:
    """`root/home` is the home, `root/env` the environment, `root/work` the working directory."""
    (root / "home").mkdir(exist_ok=True)
    (root / "env" / "bin").mkdir(parents=True, exist_ok=True)
    around = {"HOME": str(root / "home"), "PATH": str(root / "env" / "bin"), **(environ or {})}
    made = make_target(root, recipe, around)
    return msgspec.structs.replace(made, offline=offline, chosen_because=because)


def program(folder: Path, name: str, interpreter: Path | str | None = None) -> Path:
    """An executable script in `folder`, with a shebang where an interpreter is given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!{interpreter or '/bin/sh'}\n")
    path.chmod(0o755)
    return path


def environment(root: Path, programs: tuple[str, ...] = ("llamafactory-cli", "torchrun")) -> Path:
    """A venv's skeleton: pyvenv.cfg, bin/python and scripts of that python. Returns its bin directory."""
    scripts = root / "bin"
    python = program(scripts, "python")
    (root / "pyvenv.cfg").write_text("home = /usr/bin\n")
    for name in programs:
        program(scripts, name, python)
    return scripts
