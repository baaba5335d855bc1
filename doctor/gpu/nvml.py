"""Reads NVML. Run as a child process (`python -m doctor.gpu.nvml`), because a driver call can hang in the kernel.

Prints one JSON document per line and flushes after each, so that what was read before a hang is not lost:
`{"driver": …, "cuda": …, "count": n}`, then one per device, last `{"topology": …}` of several. `{"error": name,
"message": …}` when NVML cannot start.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from doctor.gpu import topology

# Bits of nvmlClocksEventReasons that mean something is wrong (nvml.h); idle, application clocks and a plain software
# power cap are ordinary.
THROTTLES = {0x8: "hardware slowdown", 0x20: "software thermal slowdown", 0x40: "hardware thermal slowdown",
             0x80: "hardware power brake"}  # fmt: skip
COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


def read(nvml: Any) -> Iterator[dict[str, Any]]:
    """The machine, then each device. `nvml` is the pynvml module, or an object like it."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        yield {"error": _name(nvml, error), "message": _text(error)}
        return
    count = _try(nvml, nvml.nvmlDeviceGetCount)
    cuda = _try(nvml, lambda: nvml.nvmlSystemGetCudaDriverVersion_v2())
    yield {
        "driver": _text(_try(nvml, nvml.nvmlSystemGetDriverVersion)),
        "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}" if isinstance(cuda, int) else None,
        "count": count if isinstance(count, int) else None,
    }
    for index in range(count if isinstance(count, int) else 0):
        yield device(nvml, index)
    if isinstance(count, int) and count > 1:
        yield {"topology": topology.read(nvml, count)}


def device(nvml: Any, index: int) -> dict[str, Any]:
    """One device; a value that NVML does not give is None, `unread` says why. A lost device has only `index`, `error`."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        return {"index": index, "error": _name(nvml, error), "message": _text(error)}
    unread: dict[str, str] = {}

    def get(name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except nvml.NVMLError as error:
            unread[name] = _name(nvml, error)
        except AttributeError:
            unread[name] = "not in this release of pynvml"
        return None

    memory = get("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    capability = get("capability", lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    mig = get("mig", lambda: nvml.nvmlDeviceGetMigMode(handle))
    ecc = get("ecc", lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
                                                              nvml.NVML_VOLATILE_ECC))  # fmt: skip
    rows = get("remapped_rows", lambda: nvml.nvmlDeviceGetRemappedRows(handle))
    pending = get("retired_pending", lambda: nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle))
    reasons = get("throttle", lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    pcie = {
        name: get(f"pcie_{name}", call)
        for name, call in {
            "generation": lambda: nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle),
            "generation_max": lambda: nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle),
            "width": lambda: nvml.nvmlDeviceGetCurrPcieLinkWidth(handle),
            "width_max": lambda: nvml.nvmlDeviceGetMaxPcieLinkWidth(handle),
        }.items()
    }
    persistence = get("persistence", lambda: nvml.nvmlDeviceGetPersistenceMode(handle))
    mode = get("compute_mode", lambda: nvml.nvmlDeviceGetComputeMode(handle))
    found = {
        "index": index,
        "name": _text(get("name", lambda: nvml.nvmlDeviceGetName(handle))),
        "uuid": _text(get("uuid", lambda: nvml.nvmlDeviceGetUUID(handle))),
        "memory_total": int(memory.total) if memory else None,
        "memory_free": int(memory.free) if memory else None,
        "holders": _holders(nvml, handle, get),
        "capability": f"{capability[0]}.{capability[1]}" if capability else None,
        "mig": bool(mig[0]) if mig else False,
        "mig_devices": _mig_devices(nvml, handle, get) if mig and mig[0] else [],
        "ecc_uncorrected": int(ecc) if ecc is not None else None,
        "remap_pending": bool(rows[2]) if rows else None,
        "remap_failed": bool(rows[3]) if rows else None,
        "retired_pending": bool(pending) if pending is not None else None,
        "throttle": [text for bit, text in THROTTLES.items() if reasons & bit] if reasons is not None else None,
        "power_watts": _watts(get("power", lambda: nvml.nvmlDeviceGetPowerUsage(handle))),
        "power_limit_watts": _watts(get("power_limit", lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))),
        "power_default_watts": _watts(
            get("power_default", lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
        ),
        "celsius": get("temperature", lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        "persistence": bool(persistence) if persistence is not None else None,
        "compute_mode": COMPUTE_MODES.get(mode) if mode is not None else None,
        "pcie": pcie,
        **_nvlinks(nvml, handle, get),
        "fabric": _fabric(nvml, handle, get),
    }
    return {**found, "unread": unread}


def _holders(nvml: Any, handle: Any, get: Callable[..., Any]) -> list[dict[str, Any]] | None:
    """Processes with a context: `[{"pid": 7, "bytes": 1024 or None}]`. Other containers' are not always shown."""
    listed = get("holders", lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    return None if listed is None else [{"pid": p.pid, "bytes": p.usedGpuMemory} for p in listed]


def _mig_devices(nvml: Any, handle: Any, get: Callable[..., Any]) -> list[dict[str, Any]]:
    devices = []
    for place in range(get("mig_count", lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
        except nvml.NVMLError:
            continue  # a free slot
        memory = get("mig_memory", lambda part=part: nvml.nvmlDeviceGetMemoryInfo(part))
        uuid = get("mig_uuid", lambda part=part: nvml.nvmlDeviceGetUUID(part))
        devices.append({"uuid": _text(uuid), "memory_total": int(memory.total) if memory else None})
    return devices


def _nvlinks(nvml: Any, handle: Any, get: Callable[..., Any]) -> dict[str, int | None]:
    """NVLinks, and how many of them are up; None where there are none to ask for, which is normal for one virtualised
    card."""
    first = get("nvlink", lambda: nvml.nvmlDeviceGetNvLinkState(handle, 0))
    if first is None:
        return {"nvlinks": None, "nvlinks_up": None}
    states = [first]
    for link in range(1, 18):
        try:
            states.append(nvml.nvmlDeviceGetNvLinkState(handle, link))
        except nvml.NVMLError:
            break
    return {"nvlinks": len(states), "nvlinks_up": sum(map(bool, states))}


def _fabric(nvml: Any, handle: Any, get: Callable[..., Any]) -> dict[str, int] | None:
    """State of the NVSwitch fabric: 1 not started, 2 in progress, 3 completed (nvml.h: nvmlGpuFabricState_t)."""

    def ask() -> Any:
        info = nvml.c_nvmlGpuFabricInfo_t()
        nvml.nvmlDeviceGetGpuFabricInfo(handle, ctypes.byref(info))
        return info

    info = get("fabric", ask)
    return {"state": int(info.state), "status": int(info.status)} if info is not None else None


def _watts(milliwatts: Any) -> float | None:
    return round(milliwatts / 1000, 1) if milliwatts is not None else None


def _try(nvml: Any, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (nvml.NVMLError, AttributeError):
        return None


def _name(nvml: Any, error: Any) -> str:
    """The short name of an NVML error: `NVMLError_GpuIsLost` is "gpu is lost"."""
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in type(error).__name__.removeprefix("NVMLError_"))
    return words.strip() or _text(error) or "unknown"


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def main() -> None:
    import pynvml

    for document in read(pynvml):
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
