"""What compiling DeepSpeed's operators takes: a C++ compiler, Python's headers, libaio for NVMe, beside a GPU the nvcc of
a CUDA home that fits torch.

torch.utils.cpp_extension compiles with CXX (c++), DeepSpeed asks the nvcc of CUDA_HOME for its version before each load
(op_builder/builder.py). An operator that was built before needs no compiler, one that was built with the package neither.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.probes.build_locks import FUSED, NVME, OFFLOADED, operators
from doctor.target import Target

ID = "op_builds"
AFTER: tuple[str, ...] = ("surroundings", "tools", "packages", "machine")

_WITH_PACKAGE = {OFFLOADED: "deepspeed/ops/adam/cpu_adam_op*.so", FUSED: "deepspeed/ops/adam/fused_adam_op*.so"}


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`op_builds.compiler`: {name, path or None}; `op_builds.done`, `op_builds.installed`: operators that were built here or
    with the package; `op_builds.cuda_home`: {variable, path, nvcc: bool} of the CUDA home that a variable names."""
    environ = target.environ
    name = environ.get("CXX") or "c++"
    root = Path(facts["surroundings.extensions_dir"] or os.devnull)
    own = "py" + "".join(target.version.split(".")[:2]) + "_"
    built = [*root.glob("*/*.so"), *root.glob(f"{own}*/*/*.so")]
    installed = [
        operator
        for operator, pattern in _WITH_PACKAGE.items()
        if any(next(Path(site).glob(pattern), None) for site in target.interpreter.site)
    ]
    variable = next((name for name in ("CUDA_HOME", "CUDA_PATH") if environ.get(name)), None)
    home = environ[variable] if variable else None
    return {
        "op_builds.compiler": {"name": name, "path": shutil.which(name.split()[0], path=environ.get("PATH"))},
        "op_builds.done": sorted({path.parent.name for path in built}),
        "op_builds.installed": installed,
        "op_builds.cuda_home": home
        and {"variable": variable, "path": home, "nvcc": os.path.exists(os.path.join(home, "bin", "nvcc"))},
    }


def _compiled(facts: Facts) -> set[str]:
    """The operators that are compiled when this run starts."""
    return operators(facts) - {*facts["op_builds.done"], *facts["op_builds.installed"]}


def compiler_there(facts: Facts) -> Iterator[Finding]:
    """What was built is built anew once the command is another: torch writes CXX into it, and ninja compares."""
    compiler, wanted = facts["op_builds.compiler"], _compiled(facts)
    if compiler["name"] != "c++":
        wanted = operators(facts) - set(facts["op_builds.installed"])
    if wanted and compiler["path"] is None:
        what = f"DeepSpeed compiles {', '.join(sorted(wanted))} when the run starts, and there is no {compiler['name']}"
        yield found(ID, "env-compiler-missing", what, "CXX" if compiler["name"] != "c++" else "PATH")


def folder_written(facts: Facts) -> Iterator[Finding]:
    """torch makes the folder of an operator and a lock in it at every load, also of one that was built before."""
    disk, wanted = facts["machine.disks"].get("torch_extensions", {}), operators(facts)
    if wanted - set(facts["op_builds.installed"]) and disk.get("write_error"):
        what = (
            f"DeepSpeed's operators ({', '.join(sorted(wanted))}) are built in {disk['path']}, which cannot be written"
        )
        yield found(ID, "disk-readonly", what, disk["path"])


def nvcc_there(facts: Facts) -> Iterator[Finding]:
    """Where a variable names the CUDA home, it counts, whatever nvcc is on PATH."""
    wanted = (operators(facts) & {OFFLOADED, FUSED}) - set(facts["op_builds.installed"])
    if not wanted or not facts.get("gpu.count"):
        return
    given = facts["op_builds.cuda_home"]
    if given and not given["nvcc"]:
        what = f"{given['variable']}={given['path']} has no bin/nvcc, which DeepSpeed asks before it loads"
        yield found(ID, "env-cuda-home-missing", f"{what} {', '.join(sorted(wanted))}", given["variable"])
    elif not given and facts["tools.cuda_home"] is None:
        built = ", ".join(sorted(wanted))
        what = f"no CUDA toolkit is here (CUDA_HOME, nvcc on PATH, /usr/local/cuda), and DeepSpeed builds {built}"
        yield found(ID, "env-cuda-home-missing", what, "CUDA_HOME")


def toolkit_fits(facts: Facts) -> Iterator[Finding]:
    """Before each load DeepSpeed compares the major versions, and stops (op_builder/builder.py, assert_no_cuda_mismatch)."""
    toolkit, torch = facts["tools.cuda_toolkit"], facts["packages.cuda_builds"].get("torch")
    wanted = (operators(facts) & {OFFLOADED, FUSED}) - set(facts["op_builds.installed"])
    unchecked = (facts.get("launch.environ") or {}).get("DS_SKIP_CUDA_CHECK", "0") == "1"
    if not wanted or not facts.get("gpu.count") or not toolkit or not torch or unchecked:
        return
    if toolkit.partition(".")[0] != torch.partition(".")[0]:
        what = (
            f"torch is built for CUDA {torch}, the toolkit in {facts['tools.cuda_home']} is {toolkit}; DeepSpeed builds"
        )
        what += f" {', '.join(sorted(wanted))} with it"
        yield found(ID, "env-cuda-toolkit-mismatch", what, "CUDA_HOME", toolkit=toolkit, torch_cuda=torch)


def headers_there(facts: Facts) -> Iterator[Finding]:
    """Every operator is a Python module and includes Python.h, which distributions pack apart from the interpreter."""
    wanted = _compiled(facts)
    if wanted and facts["tools.python_h"] is None:
        what = f"DeepSpeed compiles {', '.join(sorted(wanted))} when the run starts, and this Python has no Python.h"
        yield found(ID, "env-python-headers-missing", what, "Python.h")


def libaio_there(facts: Facts) -> Iterator[Finding]:
    lacking = [
        name for name, fact in (("libaio.so", "libaio"), ("libaio.h", "libaio_h")) if facts[f"tools.{fact}"] is None
    ]
    if NVME in _compiled(facts) and lacking:
        what = f"offload to NVMe compiles {NVME}, and {' and '.join(lacking)} is not found"
        yield found(ID, "env-libaio-missing", what, facts["deepspeed.config_path"])


JUDGEMENTS = (compiler_there, folder_written, nvcc_there, toolkit_fits, headers_there, libaio_there)
