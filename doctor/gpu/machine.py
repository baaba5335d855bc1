"""What the machine shows of its GPUs without NVML: device nodes, PCI functions, the kernel log; and NVML's child."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DEV = Path("/dev")
PCI = Path("/sys/bus/pci/devices")
KERNEL_LOG = Path("/dev/kmsg")
NVML_SECONDS = 3.0  # a cold driver without persistence takes about a second
NVML_COMMAND = (sys.executable, "-m", "doctor.gpu.nvml")

_LIBRARY_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/lib/wsl/lib",
    "/usr/local/nvidia/lib64",
)  # fmt: skip
_NVIDIA = "0x10de"
_DISPLAY_CLASSES = ("0x0300", "0x0302")  # VGA and 3D controllers
_XID = re.compile(r"NVRM: Xid \((?P<where>[^)]*)\): (?P<number>\d+),?\s*(?P<text>.*)")
_MAX_RECORDS = 20000


def nodes() -> list[str]:
    """/dev/nvidia0, /dev/nvidia1 …, and /dev/dxg of WSL: a device node means that a driver is meant to be usable."""
    return sorted(p.name for p in DEV.glob("nvidia[0-9]*")) + (["dxg"] if (DEV / "dxg").exists() else [])


def other_accelerator() -> str | None:
    """Accelerators that NVML does not know."""
    for pattern, name in (
        ("kfd", "an AMD GPU (ROCm)"),
        ("davinci[0-9]*", "an Ascend NPU"),
        ("accel/accel*", "an accelerator"),
    ):
        if any(DEV.glob(pattern)):
            return name
    return None


def libcuda(environ: Mapping[str, str]) -> str | None:
    """The driver's CUDA library where a loader finds it: with it CUDA may work though NVML's library is not there, as in
    a container that was given the capability `compute` without `utility`."""
    given = [folder for folder in environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    for folder in (*given, *_LIBRARY_FOLDERS):
        if os.path.exists(os.path.join(folder, "libcuda.so.1")):
            return os.path.join(folder, "libcuda.so.1")
    return None


def is_stub(library: str) -> bool:
    """Whether it is the CUDA toolkit's library for linking, which starts nothing: error 34 of the first CUDA call."""
    return "stubs" in Path(os.path.realpath(library)).parts


def pci_functions() -> list[str] | None:
    """PCI addresses of NVIDIA display functions, None where sysfs does not show the bus."""
    try:
        entries = sorted(PCI.iterdir())
        return [
            e.name for e in entries if _line(e / "vendor") == _NVIDIA and _line(e / "class")[:6] in _DISPLAY_CLASSES
        ]
    except OSError:
        return None


def _line(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()


def xids() -> list[dict[str, Any]]:
    """NVIDIA's error reports in the kernel log, oldest first. Raises OSError where the log may not be read."""
    found = []
    log = os.open(KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for _ in range(_MAX_RECORDS):
            try:
                record = os.read(log, 8192)
            except OSError as error:
                if error.errno == errno.EPIPE:  # that record was overwritten while we read: go on with the next
                    continue
                if error.errno == errno.EAGAIN:
                    break
                raise
            if not record:
                break
            if seen := _XID.search(record.decode("utf-8", errors="replace").splitlines()[0]):
                found.append({"where": seen["where"], "xid": int(seen["number"]), "text": seen["text"][:200]})
    finally:
        os.close(log)
    return found


def ask_nvml(
    command: Sequence[str] = NVML_COMMAND, seconds: float = NVML_SECONDS
) -> tuple[list[dict[str, Any]], str | None]:
    """(the documents that the child printed, why it did not finish or None). A child that hangs is left to the kernel."""
    ours = str(
        Path(__file__).resolve().parents[2]
    )  # so that the child finds this package also where it is not installed
    paths = [os.environ.get("PYTHONPATH", ""), ours]
    child = subprocess.Popen(
        list(command),
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    late = None
    try:
        out, err = child.communicate(timeout=seconds)
        if child.returncode:
            said = err.decode(errors="replace").strip().splitlines()
            late = f"reading NVML failed: {said[-1] if said else f'exit code {child.returncode}'}"
    except subprocess.TimeoutExpired as error:
        out = error.output or b""
        late = f"the NVIDIA driver did not answer within {seconds:g} s"
        child.kill()  # not waited for: in an uninterruptible driver call it would not end
    documents = []
    for line in out.splitlines():
        try:
            documents.append(json.loads(line))
        except ValueError:
            break  # cut off by the deadline
    return documents, late
