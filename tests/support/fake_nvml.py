"""An object with the interface of the pynvml module that the doctor uses, for machines that are not at hand.

Written as a module (`install`) it also serves the child process that really reads NVML.
"""

from __future__ import annotations

import inspect
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

GIB = 2**30
H100 = {"name": "NVIDIA H100 80GB HBM3", "memory": 80 * GIB, "capability": (9, 0)}


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_GpuIsLost(NVMLError):
    pass


class NVMLError_NoPermission(NVMLError):
    pass


class NVMLError_DriverNotLoaded(NVMLError):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


class NVMLError_LibRmVersionMismatch(NVMLError):
    pass


class FakeNvml:
    """`devices`: one dict per GPU (name, memory, capability, used, holders, mig, ecc, lost, refuses, fabric …)."""

    NVMLError = NVMLError
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, devices: list[dict[str, Any]], driver: str = "550.54.15", cuda: int = 12040,
                 init_error: str | None = None, hang_at: int | None = None) -> None:  # fmt: skip
        self.devices = devices
        self.driver, self.cuda, self.init_error, self.hang_at = driver, cuda, init_error, hang_at

    def nvmlInit(self) -> None:
        if self.init_error:
            raise globals()[f"NVMLError_{self.init_error}"](self.init_error)

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self.cuda

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        if self.hang_at == index:
            time.sleep(3600)
        device = {**H100, **self.devices[index]}
        if device.get("lost"):
            raise NVMLError_GpuIsLost("GPU is lost")
        return {**device, "index": index}

    def _value(self, device: dict[str, Any], name: str, default: Any) -> Any:
        if name in device.get("forbidden", ()):
            raise NVMLError_NoPermission("Insufficient Permissions")
        if name in device.get("unsupported", ()):
            raise NVMLError_NotSupported("Not Supported")
        return device.get(name, default)

    def nvmlDeviceGetMemoryInfo(self, device: dict[str, Any]) -> Any:
        total = self._value(device, "memory", 0)
        return SimpleNamespace(total=total, free=total - device.get("used", GIB // 2))

    def nvmlDeviceGetCudaComputeCapability(self, device: dict[str, Any]) -> tuple[int, int]:
        return self._value(device, "capability", (9, 0))

    def nvmlDeviceGetName(self, device: dict[str, Any]) -> str:
        return self._value(device, "name", "")

    def nvmlDeviceGetUUID(self, device: dict[str, Any]) -> str:
        return device.get("uuid") or f"GPU-{device.get('index', 0):08d}-aaaa"

    def nvmlDeviceGetComputeRunningProcesses(self, device: dict[str, Any]) -> list[Any]:
        return [SimpleNamespace(pid=p, usedGpuMemory=b) for p, b in self._value(device, "holders", [])]

    def nvmlDeviceGetMigMode(self, device: dict[str, Any]) -> tuple[int, int]:
        if "mig" not in device:
            raise NVMLError_NotSupported("Not Supported")
        return (1, 1)

    def nvmlDeviceGetMaxMigDeviceCount(self, device: dict[str, Any]) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: dict[str, Any], place: int) -> dict[str, Any]:
        if place >= len(device["mig"]):
            raise NVMLError_NotSupported("free slot")
        return {"uuid": device["mig"][place], "memory": 20 * GIB}

    def nvmlDeviceGetTotalEccErrors(self, device: dict[str, Any], kind: int, counter: int) -> int:
        return self._value(device, "ecc", 0)

    def nvmlDeviceGetRemappedRows(self, device: dict[str, Any]) -> tuple[int, int, int, int]:
        return self._value(device, "rows", (0, 0, 0, 0))

    def nvmlDeviceGetRetiredPagesPendingStatus(self, device: dict[str, Any]) -> int:
        return self._value(device, "retired", 0)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: dict[str, Any]) -> int:
        return self._value(device, "throttle", 1)

    def nvmlDeviceGetCurrPcieLinkGeneration(self, device: dict[str, Any]) -> int:
        return self._value(device, "pcie", 5)

    nvmlDeviceGetMaxPcieLinkGeneration = nvmlDeviceGetCurrPcieLinkGeneration

    def nvmlDeviceGetCurrPcieLinkWidth(self, device: dict[str, Any]) -> int:
        return self._value(device, "width", 16)

    def nvmlDeviceGetMaxPcieLinkWidth(self, device: dict[str, Any]) -> int:
        return self._value(device, "width_max", 16)

    def nvmlDeviceGetComputeMode(self, device: dict[str, Any]) -> int:
        return self._value(device, "compute_mode", 0)

    def nvmlDeviceGetPowerUsage(self, device: dict[str, Any]) -> int:
        return 90_000

    def nvmlDeviceGetEnforcedPowerLimit(self, device: dict[str, Any]) -> int:
        return self._value(device, "power_limit", 700_000)

    def nvmlDeviceGetPowerManagementDefaultLimit(self, device: dict[str, Any]) -> int:
        return 700_000

    def nvmlDeviceGetTemperature(self, device: dict[str, Any], sensor: int) -> int:
        return 40

    def nvmlDeviceGetPersistenceMode(self, device: dict[str, Any]) -> int:
        return self._value(device, "persistence", 1)

    def nvmlDeviceGetNvLinkState(self, device: dict[str, Any], link: int) -> int:
        links = device.get("nvlinks", 0)
        if link >= links:
            raise NVMLError_NotSupported("Not Supported")
        return int(link not in device.get("links_down", ()))

    def nvmlDeviceGetP2PStatus(self, one: dict[str, Any], other: dict[str, Any], kind: int) -> int:
        if not one.get("nvlinks"):
            raise NVMLError_NotSupported("Not Supported")
        return int(other["index"] in one.get("apart", ()) or one["index"] in other.get("apart", ()))

    def nvmlDeviceGetTopologyCommonAncestor(self, one: dict[str, Any], other: dict[str, Any]) -> int:
        return self._value(one, "level", 40 if one["index"] // 4 == other["index"] // 4 else 50)

    def nvmlDeviceGetGpuFabricInfo(self, device: dict[str, Any], info: Any) -> None:
        if "fabric" not in device:
            raise NVMLError_NotSupported("Not Supported")
        info._obj.state = device["fabric"]

    @staticmethod
    def c_nvmlGpuFabricInfo_t() -> Any:
        import ctypes

        class Info(ctypes.Structure):
            _fields_ = [("state", ctypes.c_uint), ("status", ctypes.c_uint)]

        return Info()


def install(folder: Path, **arguments: Any) -> Path:
    """Write a `pynvml.py` into `folder` that behaves as `FakeNvml(**arguments)`; put the folder on PYTHONPATH."""
    source = inspect.getsource(sys.modules[__name__])
    bound = (
        f"\n\n_fake = FakeNvml(**{arguments!r})\n"
        "globals().update({n: getattr(_fake, n) for n in dir(_fake) if n.startswith(('nvml', 'NVML_', 'c_nvml'))})\n"
    )
    (folder / "pynvml.py").write_text(source + bound)
    return folder
