"""Faults of the installed packages. Each changes the environment, which is put back afterwards."""

from __future__ import annotations

import subprocess
from functools import partial

import uv

from tests.stack.reproductions.place import Place
from tests.stack.reproductions.run import Inject, Reproduction


def install(*packages: str) -> Inject:
    """Exactly these packages, without what they require: what a hurried user does."""
    return lambda place: place.environment.install("--no-deps", *packages)


def uninstall(*packages: str) -> Inject:
    return partial(_uninstall, packages=packages)


def _uninstall(place: Place, packages: tuple[str, ...]) -> None:
    python = str(place.environment.python)
    subprocess.run([uv.find_uv_bin(), "pip", "uninstall", "-q", "--python", python, *packages], check=True)


def without_deepspeed(place: Place) -> None:
    place.write_deepspeed()
    uninstall("deepspeed")(place)


def without_setuptools(place: Place) -> None:
    place.write_deepspeed()
    uninstall("setuptools")(place)


def report_to(board: str, **environ: str) -> Inject:
    def inject(place: Place) -> None:
        place.set_recipe(report_to=board)
        place.environ |= environ

    return inject


CASES = [
    Reproduction("pkg-numpy-abi", install("pyarrow==26.0.1"), packages=("pyarrow", "numpy")),
    Reproduction("pkg-version-out-of-range", install("transformers==4.48.3"), packages=("transformers",)),
    Reproduction("pkg-missing", uninstall("peft"), packages=("peft",)),
    Reproduction("pkg-missing", without_setuptools, name="pkg-missing-setuptools", torchrun=True,
                 packages=("setuptools", "deepspeed")),
    Reproduction("ds-not-installed", without_deepspeed, torchrun=True, packages=("deepspeed",)),
    Reproduction("log-tensorboard-missing", report_to("tensorboard"), packages=("tensorboard",)),
    Reproduction("log-wandb-not-installed", report_to("wandb", WANDB_MODE="offline"), packages=("wandb",)),
    Reproduction("pkg-torch-torchvision-mismatch", install("torchvision==0.27.0"), stack="current",
                 packages=("torchvision", "torchaudio")),
]  # fmt: skip
CASES = [case.changing_packages() for case in CASES]
