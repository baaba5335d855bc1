"""What each GPU does, again and again: a child process asks NVML, because a driver call can hang in the kernel.

`python -m doctor.train.gpu_samples SECONDS` prints one JSON list per interval until its output is closed; `GpuSamples`
is the other side, which never waits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from doctor.gpu.machine import nodes
from doctor.gpu.nvml import THROTTLES

LATE = 4  # intervals without an answer after which the driver is said to hang


def sample(nvml: Any) -> list[dict[str, Any]]:
    """Every device: {index, uuid, used, total (bytes), utilisation (%), watts, celsius, megahertz, throttled,
    ecc_errors}; what NVML does not give is left out. `nvml` is the pynvml module, or an object like it."""
    return [_device(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]


def _device(nvml: Any, index: int) -> dict[str, Any]:
    row: dict[str, Any] = {"index": index}
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        return {**row, "lost": str(error)}

    def memory() -> dict[str, Any]:
        found = nvml.nvmlDeviceGetMemoryInfo(handle)
        return {"used": int(found.total - found.free), "total": int(found.total)}

    def throttled() -> dict[str, Any]:
        reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        return {"throttled": [text for bit, text in THROTTLES.items() if reasons & bit]}

    def ecc() -> dict[str, Any]:
        kinds = (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
        return {"ecc_errors": int(nvml.nvmlDeviceGetTotalEccErrors(handle, *kinds))}

    reads = (
        memory,
        throttled,
        ecc,
        lambda: {"utilisation": int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)},
        lambda: {"watts": round(nvml.nvmlDeviceGetPowerUsage(handle) / 1000, 1)},
        lambda: {"celsius": int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))},
        lambda: {"megahertz": int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))},
    )
    for read in reads:
        with suppress(nvml.NVMLError, AttributeError):  # not on this card, or not in this release of pynvml
            row.update(read())
    return row


class GpuSamples:
    """The newest sample of this machine's GPUs. Without a GPU no child is started and `latest` stays empty."""

    def __init__(self, seconds: float, command: list[str] | None = None) -> None:
        self.seconds = seconds
        self.latest: list[dict[str, Any]] = []
        self.at: float | None = None
        self._rest = b""
        self._begun = time.monotonic()
        self._child: subprocess.Popen[bytes] | None = None
        if command or nodes():
            argv = command or [sys.executable, "-m", "doctor.train.gpu_samples", str(seconds)]
            ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
            paths = os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH", "")]))
            self._child = subprocess.Popen(
                argv,
                cwd="/",
                env={**os.environ, "PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert self._child.stdout is not None
            os.set_blocking(self._child.stdout.fileno(), False)

    def look(self) -> list[dict[str, Any]]:
        """The newest sample, empty when there is none or the driver has stopped answering."""
        if self._child is None or self._child.stdout is None:
            return []
        with suppress(BlockingIOError):
            while piece := os.read(self._child.stdout.fileno(), 65536):
                self._rest += piece
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            with suppress(ValueError):
                self.latest, self.at = json.loads(line), time.monotonic()
        return [] if self.silent() else self.latest

    def silent(self) -> bool:
        """Whether NVML has not answered for several intervals although it did before."""
        return self.at is not None and time.monotonic() - self.at > LATE * self.seconds + 3

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()  # not waited for: in an uninterruptible driver call it would not end


def main() -> None:
    import pynvml

    interval = float(sys.argv[1])
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    while True:
        print(json.dumps(sample(pynvml)), flush=True)
        time.sleep(interval)


if __name__ == "__main__":
    with suppress(BrokenPipeError, KeyboardInterrupt):
        main()
