"""Faults of the installed packages, each in a copy of the environment."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.faults.catalogue.deepspeed import environ
from tests.faults.catalogue.recipe import values
from tests.faults.fault import Fault, Inject, together
from tests.faults.workspace import Workspace

ZERO2 = "sky-t1 full zero2"


def nothing(place: Workspace) -> None:
    """The fault is in the packages alone."""


def fault(
    id: str, cause: str, what: str, install: tuple[str, ...] = (), uninstall: tuple[str, ...] = (),
    base: str = "sky-t1 full", inject: Inject = nothing, *, healable: bool = True,
    warns: bool = False,
) -> Fault:  # fmt: skip
    return Fault(id, cause, what, inject, base, fresh=True, packages=(install, uninstall), healable=healable,
                 warns=warns)  # fmt: skip


def gone(name: str) -> Callable[[Path], object]:
    return lambda site: shutil.rmtree(site / name) if (site / name).is_dir() else (site / name).unlink()


def written(pattern: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Another content of each file; the original keeps its own."""

    def damage(site: Path) -> None:
        for file in list(site.glob(pattern)):
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(change(content))

    return damage


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damaged(id: str, what: str, damage: Callable[[Path], object], base: str = "sky-t1 full") -> Fault:
    return Fault(id, "pkg-broken-install", what, nothing, base, fresh=True, damage=damage)


DAMAGED = [
    damaged("transformers-emptied", "an empty transformers/__init__.py",
            written("transformers/__init__.py", lambda content: b"")),
    damaged("modeling-cut", "half of modeling_qwen2.py", written("transformers/models/qwen2/modeling_qwen2.py", half),
            "current full"),
    damaged("tokenizers-without-library", "the library of tokenizers is gone",
            lambda site: [file.unlink() for file in site.glob("tokenizers/*.so")], "current full"),
    damaged("numpy-library-cut", "half of a library of numpy", written("numpy/core/_multiarray_umath*.so", half)),
    damaged("peft-folder-gone", "the folder of peft is gone, its record is there", gone("peft"), "sky-t1 lora"),
    damaged("tuner-in-conflict", "marks of a conflict in llamafactory/train/tuner.py",
            written("llamafactory/train/tuner.py", lambda content: b"<<<<<<< HEAD\n" + content)),
]  # fmt: skip
FAULTS = [
    *DAMAGED,
    fault("pyarrow-26", "pkg-numpy-abi", "pyarrow 26 with numpy 1.26", ("pyarrow==26.0.1",)),
    fault("pandas-of-numpy-1", "pkg-numpy-abi", "pandas 2.1.4 with numpy 2", ("pandas==2.1.4",), base="current full"),
    fault("transformers-too-new", "pkg-version-out-of-range", "transformers 4.48.3", ("transformers==4.48.3",)),
    fault("peft-too-new", "pkg-version-out-of-range", "peft 0.15.2", ("peft==0.15.2",), base="sky-t1 lora"),
    fault("trl-too-new", "pkg-version-out-of-range", "trl 0.16.1", ("trl==0.16.1",)),
    fault("datasets-too-new", "pkg-version-out-of-range", "datasets 4.0.0", ("datasets==4.0.0",)),
    fault("accelerate-too-old", "pkg-version-out-of-range", "accelerate 0.30.1", ("accelerate==0.30.1",)),
    fault("transformers-too-old", "pkg-version-out-of-range", "transformers 4.46.1 with 0.9.5",
          ("transformers==4.46.1",), base="current full"),
    fault("tokenizers-too-new", "pkg-version-out-of-range", "tokenizers 0.22 with transformers 4.46",
          ("tokenizers==0.22.0",)),
    fault("hub-too-new", "hub-version-mismatch", "huggingface_hub 1.0 with transformers 4.46",
          ("huggingface-hub==1.0.1",)),
    fault("peft-missing", "pkg-missing", "no peft", uninstall=("peft",)),
    fault("uvicorn-missing", "pkg-missing", "no uvicorn", uninstall=("uvicorn",), warns=True),
    fault("av-missing", "pkg-missing", "no av", uninstall=("av",), base="current full", warns=True),
    fault("deepspeed-missing", "ds-not-installed", "no deepspeed", uninstall=("deepspeed",), base=ZERO2),
    fault("deepspeed-missing-current", "ds-not-installed", "no deepspeed", uninstall=("deepspeed",),
          base="current full zero2"),
    fault("setuptools-missing", "pkg-missing", "no setuptools with DeepSpeed", uninstall=("setuptools",), base=ZERO2),
    fault("torchvision-of-other-cuda", "pkg-torch-torchvision-mismatch", "torchvision 0.27 with torch 2.11",
          ("torchvision==0.27.0",), base="current full"),
    fault("deepspeed-before-torch-2.4", "pkg-deepspeed-torch-mismatch", "deepspeed 0.14.0 with torch 2.5",
          ("deepspeed==0.14.0",), base=ZERO2),
    fault("no-sync", "ds-no-sync-zero", "deepspeed 0.16.2, two processes, accumulation", ("deepspeed==0.16.2",),
          base=ZERO2, inject=together(values(gradient_accumulation_steps=2),
                                      environ(NPROC_PER_NODE="2", LOCAL_SIZE="2"))),
    fault("wandb-not-logged-in", "log-wandb-not-logged-in", "wandb without a login", ("wandb==0.18.7", "docker-pycreds",
          "setproctitle", "sentry-sdk", "gitpython", "gitdb", "smmap"), inject=values(report_to="wandb")),
]  # fmt: skip
