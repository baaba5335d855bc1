"""Programs, headers and libraries that builds and launchers look for. Facts only: other probes say what needs them."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.probes import Judgement
from doctor.target import Target

ID = "tools"
AFTER: tuple[str, ...] = ()

PROGRAMS = ("numactl", "nvcc", "g++", "gcc", "ninja", "git", "git-lfs", "conda", "uv", "pdsh", "srun")
_LIBRARY_FOLDERS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib")
_CUDA_VERSION = re.compile(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"', re.S)


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`tools.<program>`: the path or None, searched on PATH and in the scripts directory of the target."""
    path = target.environ.get("PATH")
    found: dict[str, Any] = {f"tools.{name}": shutil.which(name, path=path) for name in PROGRAMS}
    for name in (
        "ninja",
        "numactl",
    ):  # pip and conda put these beside the interpreter, which `torchrun` then has on PATH
        found[f"tools.{name}"] = found[f"tools.{name}"] or _program(target.scripts / name)
    cuda_home = _cuda_home(target)
    found["tools.cuda_home"] = str(cuda_home) if cuda_home else None
    found["tools.nvcc"] = found["tools.nvcc"] or (_program(cuda_home / "bin" / "nvcc") if cuda_home else None)
    found["tools.cuda_toolkit"] = _toolkit(cuda_home)
    header = Path(target.interpreter.include) / "Python.h"
    found["tools.python_h"] = str(header) if os.path.isfile(header) else None
    found["tools.libaio"] = _library(target, "libaio.so")
    found["tools.libaio_h"] = next((str(h) for h in _headers(target, "libaio.h") if os.path.isfile(h)), None)
    return found


def _program(path: Path) -> str | None:
    return shutil.which(str(path))


def _cuda_home(target: Target) -> Path | None:
    """CUDA_HOME as torch.utils.cpp_extension finds it: CUDA_HOME, CUDA_PATH, nvcc on PATH, /usr/local/cuda."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if target.environ.get(name):
            return Path(target.environ[name])
    nvcc = shutil.which("nvcc", path=target.environ.get("PATH"))
    if nvcc:
        return Path(nvcc).parent.parent
    default = Path("/usr/local/cuda")
    return default if os.path.isdir(default) else None


def _toolkit(home: Path | None) -> str | None:
    """The version of the toolkit, from the file that it brings."""
    if home is None:
        return None
    try:
        found = _CUDA_VERSION.search((home / "version.json").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found[1] if found else None


def _library(target: Target, name: str) -> str | None:
    """A shared library that a linker would find by `-l`: the unversioned name, in the usual folders or the environment."""
    given = [p for v in ("LD_LIBRARY_PATH", "LIBRARY_PATH") for p in target.environ.get(v, "").split(":") if p]
    for folder in [*given, str(target.prefix / "lib"), *_LIBRARY_FOLDERS]:
        for candidate in (Path(folder) / name, *Path(folder).glob(f"*-linux-gnu/{name}")):
            if os.path.exists(candidate):
                return str(candidate)
    return None


def _headers(target: Target, name: str) -> list[Path]:
    given = [
        p for v in ("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH") for p in target.environ.get(v, "").split(":") if p
    ]
    return [Path(f) / name for f in [*given, str(target.prefix / "include"), "/usr/include", "/usr/local/include"]]


JUDGEMENTS: tuple[Judgement, ...] = ()
