"""What the GPU facts mean for the recipe. Pure functions of facts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from packaging.version import InvalidVersion, Version

from doctor.estimate.names import parameters_in_name
from doctor.facts import Facts
from doctor.findings import Finding, Severity, found, in_recipe
from doctor.gpu.topology import odd_ones

_found = partial(found, "gpu")

CPU_TRAINABLE = 1e9  # parameters; above it a run on the CPU takes days
BUSY_SHARE = 0.10  # of a card's memory, held by others
# Xid numbers that mean a fault of the hardware or the bus (NVIDIA, "XID Errors", r555): ECC and row remapping, GSP, NVLink.
HARDWARE_XIDS = (48, 61, 62, 63, 64, 74, 92, 94, 95, 119, 120, 140)
FELL_OFF_BUS = 79
# Wheel indexes of PyTorch that every driver of that CUDA major runs (minor version compatibility of CUDA).
_CUDA_TAGS = {"11": "cu118", "12": "cu126"}
P2P_DRIVER = Version(
    "550.40.07"
)  # from this driver on accelerate lets an RTX 40 use P2P (accelerate/utils/environment.py)


def _true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() in ("true", "yes", "1", "on"))


def wants_bf16(values: dict[str, Any]) -> bool:
    return any(_true(values.get(key)) for key in ("bf16", "pure_bf16", "bf16_full_eval"))


def _parameters(facts: Facts) -> float | None:
    known = facts.get("model.parameters")
    if known is not None:
        return float(known)
    return parameters_in_name(str(facts["recipe.values"].get("model_name_or_path") or ""))


def _without_gpu(facts: Facts) -> Severity:
    """A CPU can train a toy; anything else, or an unknown size, would take too long to be meant."""
    size = _parameters(facts)
    return Severity.INFO if size is not None and size <= CPU_TRAINABLE else Severity.WARNING


def _seen(facts: Facts) -> Iterator[dict[str, Any]]:
    """The devices that the launch sees, each once."""
    names = set(facts["gpu.visible"])
    for device in facts["gpu.devices"]:
        parts = {str(part["uuid"]) for part in device.get("mig_devices") or ()}
        if str(device["index"]) in names or parts & names:
            yield device


def _size(count: float) -> str:
    return f"{count / 1e9:.1f}B parameters" if count >= 1e9 else f"{count / 1e6:.1f}M parameters"


def count_mismatch(facts: Facts) -> Iterator[Finding]:
    """No GPU for what the recipe wants, or GPUs left idle."""
    count, nproc = facts["gpu.count"], facts.get("launch.nproc")
    if count == 0 and not facts["gpu.devices"]:
        size = _parameters(facts)
        model = f"the model has {_size(size)}" if size else "the size of the model is not known"
        what = f"this machine has no GPU that NVML sees; {model}"
        if facts.get("launch.force_torchrun") and not facts.get("launch.nproc_given"):
            what += "; llamafactory-cli started by hand with FORCE_TORCHRUN=1 needs NPROC_PER_NODE=1 here"
        yield _found("gpu-count-mismatch", what, "NVML", _without_gpu(facts), gpus=0)
    elif facts.get("launch.nproc_given") and isinstance(nproc, int) and nproc < count:
        what = f"NPROC_PER_NODE={nproc}, {count} GPUs are seen: {count - nproc} stay idle"
        details: dict[str, Any] = {"gpus": count, "nproc": nproc}
        steps = facts["recipe.values"].get("gradient_accumulation_steps", 1)
        if isinstance(steps, int) and steps * nproc % count == 0:
            details["gradient_accumulation_steps"] = steps * nproc // count
        yield _found("gpu-count-mismatch", what, "NPROC_PER_NODE", Severity.INFO, **details)


def precision_of_gpus(facts: Facts) -> Iterator[Finding]:
    """tf32 is refused by the TrainingArguments on a CPU; fp16 is left out there by accelerate without a word."""
    values = facts["recipe.values"]
    if facts["gpu.count"] != 0 or facts["gpu.devices"]:
        return
    if values.get("tf32"):  # any value that counts as true
        what = f"tf32: {_written(values['tf32'])}, and this machine has no GPU"
        yield _found("gpu-bf16-unsupported", what, in_recipe(facts, "tf32"), no_gpu=True, has_tf32=True)
    if values.get("fp16") is True and not values.get("deepspeed"):
        what = "fp16: true, and this machine has no GPU: it will train in full precision"
        where = in_recipe(facts, "fp16")
        yield _found("gpu-bf16-unsupported", what, where, Severity.WARNING, no_gpu=True, has_fp16=True)


def visible_devices(facts: Facts) -> Iterator[Finding]:
    """CUDA_VISIBLE_DEVICES that hides GPUs: by a name that does not exist, or all of them on purpose."""
    count, fault, value = facts["gpu.count"], facts["gpu.visible_fault"], facts["gpu.visible_devices"]
    if not facts["gpu.devices"] or (not fault and count > 0):
        return
    there = len(facts["gpu.devices"])
    reason = fault or f"{value!r} hides all"
    severity = Severity.WARNING if count else None if fault else _without_gpu(facts)
    shared = "SLURM_JOB_ID" in facts.get("launch.environ", {})
    what = f"CUDA_VISIBLE_DEVICES={value}: {reason}; {count} of {there} GPUs are seen"
    yield _found("gpu-visible-devices", what, "CUDA_VISIBLE_DEVICES", severity, visible=value, shared_machine=shared)


def busy(facts: Facts) -> Iterator[Finding]:
    for device in _seen(facts):
        total, free = device.get("memory_total"), device.get("memory_free")
        if not total or free is None or device.get("mig") or (total - free) / total <= BUSY_SHARE:
            continue
        holders = [
            f"pid {h['pid']}" + (f" ({h['program']} of {h['user']})" if h.get("program") else "")
            for h in device.get("holders") or ()
        ]
        by = ", ".join(holders) or "processes that are not shown here (another container or user)"
        held = f"{(total - free) / 2**30:.1f} of {total / 2**30:.1f} GiB"
        what = f"GPU {device['index']} ({device['name']}): {held} are held by {by}"
        free_ones = [d["index"] for d in facts["gpu.devices"] if _is_free(d)]
        details: dict[str, Any] = {"free_gpus": ",".join(map(str, free_ones))} if free_ones else {}
        details["exclusive_mode"] = device.get("compute_mode") == "exclusive process"
        yield _found("gpu-busy", what, f"GPU {device['index']}", gpu=device["index"], **details)


def _is_free(device: dict[str, Any]) -> bool:
    total, free = device.get("memory_total"), device.get("memory_free")
    return bool(total and free is not None and (total - free) / total <= BUSY_SHARE and not device.get("error"))


def _written(value: Any) -> str:
    return "true" if value is True else str(value)[:40]


def bf16(facts: Facts) -> Iterator[Finding]:
    """bf16 in the recipe on cards that lack it, or without a card where transformers insists on one."""
    values = facts["recipe.values"]
    keys = ("bf16", "pure_bf16", "bf16_full_eval")
    counts = facts["gpu.count"] == 0 and any(values.get(k) for k in keys)  # the text "auto" does, too
    if not (wants_bf16(values) or counts) or _true(values.get("use_cpu")) or _true(values.get("no_cuda")):
        return
    key = next(k for k in keys if _true(values.get(k)) or (counts and values.get(k)))
    line = facts["recipe.lines"].get(key)
    where = f"{facts['recipe.path']}:{line}" if line else facts["recipe.path"]
    json_bf16 = (facts.get("deepspeed.config") or {}).get("bf16")
    details: dict[str, Any] = {
        "key": key,
        "has_use_cpu_field": bool(facts["gpu.has_use_cpu"]),
        "deepspeed": facts.get("deepspeed.config_path") is not None,
        "has_tf32": _true(values.get("tf32")),
        "deepspeed_json_has_bf16": isinstance(json_bf16, dict) and json_bf16.get("enabled") is True,
        "deepspeed_config": facts.get("deepspeed.config_path"),
    }
    if facts["gpu.count"] == 0:
        if facts.get("gpu.pci"):
            return  # there are cards and no driver: `driver` says so, and with one the card may well have bf16
        if key == "pure_bf16" or facts["gpu.bf16_needs_gpu"]:
            refuses = "LLaMA-Factory" if key == "pure_bf16" else "transformers"
            what = f"{key}: {_written(values[key])} without a GPU: the installed {refuses} refuses it"
            yield _found("gpu-bf16-unsupported", what, where, no_gpu=True, **details)
        return
    for device in _seen(facts):
        if device.get("capability") and float(device["capability"]) < 8.0:
            what = f"{key}: true, but {device['name']} has compute capability {device['capability']} (bf16 needs 8.0)"
            emulated = facts.get("gpu.bf16_emulated")
            what += "; this torch emulates it, slowly" if emulated else ""
            severity = Severity.WARNING if emulated else None
            yield _found("gpu-bf16-unsupported", what, where, severity, capability=device["capability"], **details)
            return


def driver(facts: Facts) -> Iterator[Finding]:
    """No usable driver, or one that is older than torch's CUDA. A driver runs every CUDA release of its major version."""
    builds = facts.get("packages.cuda_builds", {})
    error = facts["gpu.nvml_error"]
    if error == "library not found" and facts["gpu.libcuda"]:
        return  # CUDA works without NVML's library; the cards are then unknown, not absent
    if error:
        what = f"device nodes are there ({', '.join(facts['gpu.nodes'])}), but {facts.why_unknown('gpu.count')}"
        cause = "gpu-driver-library-mismatch" if "version mismatch" in error else "cuda-driver-missing"
        yield _found(cause, what, "NVML", in_container=facts["gpu.in_container"])
        return
    if facts["gpu.count"] == 0 and not facts["gpu.devices"]:
        if functions := facts.get("gpu.pci"):
            where = ", ".join(functions[:8])
            what = (
                f"NVIDIA GPUs on the PCI bus ({where}), no device node in /dev: no driver, or a container without GPUs"
            )
            yield _found(
                "cuda-driver-missing", what, "/dev", _without_gpu(facts), in_container=facts["gpu.in_container"]
            )
        return
    if facts["gpu.count"] == 0:
        return
    torch = facts.get("packages.versions", {}).get("torch")
    has = facts["gpu.cuda"]
    tag: dict[str, Any] = {"cuda_tag": _CUDA_TAGS[has.split(".")[0]]} if has.split(".")[0] in _CUDA_TAGS else {}
    if torch and "torch" in builds and builds["torch"] is None:
        what = f"{facts['gpu.count']} GPUs are seen, but torch {torch} is a build for the CPU"
        yield _found("cuda-unavailable", what, "torch", cpu_build=True, gpu_present=True, **tag)
    elif torch and builds.get("torch") and int(has.split(".")[0]) < int(builds["torch"].split(".")[0]):
        what = f"torch {torch} is built for CUDA {builds['torch']}, driver {facts['gpu.driver']} runs up to CUDA {has}"
        yield _found("cuda-driver-too-old", what, "driver", **tag)


def stub(facts: Facts) -> Iterator[Finding]:
    """The toolkit's stub of libcuda where the loader looks first: the cards are there, and CUDA cannot start."""
    if facts.get("gpu.libcuda_is_stub") and facts["gpu.nodes"]:
        what = f"{facts['gpu.libcuda']} is the CUDA toolkit's stub for linking, and it is found before the driver's library"
        yield _found("cuda-driver-missing", what, "LD_LIBRARY_PATH", stub=True)


def architecture(facts: Facts) -> Iterator[Finding]:
    """Cards that the wheel of torch has no kernels for.

    PyTorch's wheels: CUDA below 12.8 stops at 9.0; 12.8 and 12.9 begin at 7.0; 13.0 begins at 7.5
    (pytorch/test-infra pull 7046, pytorch/pytorch issue 157517).
    """
    cuda = facts["packages.cuda_builds"].get("torch")
    if not cuda:
        return
    built = tuple(int(part) for part in cuda.split(".")[:2])
    lowest, highest = (7.5, 99.0) if built >= (13, 0) else (7.0, 99.0) if built >= (12, 8) else (3.5, 9.0)
    for device in _seen(facts):
        if device.get("capability") and not lowest <= float(device["capability"]) <= highest:
            torch, has = facts["packages.versions"].get("torch"), device["capability"]
            what = f"{device['name']} has compute capability {has}; torch {torch} for CUDA {cuda} has no kernels for it"
            details = {"compute_capability": has, "architecture": f"sm_{has.replace('.', '')}"}
            yield _found("cuda-arch-unsupported", what, "torch", **details)
            return


def p2p(facts: Facts) -> Iterator[Finding]:
    """accelerate stops a launch on several RTX 40 cards unless P2P and IB are off, or driver and accelerate are new."""
    names = [d["name"] for d in _seen(facts) if "RTX 40" in (d.get("name") or "")]
    environ = facts.get("launch.environ", {})
    if not names or len(facts["gpu.devices"]) < 2 or {"NCCL_P2P_DISABLE", "NCCL_IB_DISABLE"} <= environ.keys():
        return
    try:
        new_enough = Version(facts["gpu.driver"]) >= P2P_DRIVER
    except InvalidVersion:
        return
    if new_enough and facts.get("gpu.p2p_driver_known") is not False:
        return
    what = f"{len(names)} × {names[0]} with driver {facts['gpu.driver']}: P2P and InfiniBand are refused"
    yield _found("gpu-p2p-disabled", what, "NVML", driver=facts["gpu.driver"])


def _healthy_without(facts: Facts, index: int) -> dict[str, Any]:
    """The other cards that the launch sees, as CUDA_VISIBLE_DEVICES takes them; empty when there is none."""
    others = [str(d["index"]) for d in _seen(facts) if d["index"] != index and not d.get("error")]
    return {"healthy_gpus": ",".join(others)} if others else {}


def faults(facts: Facts) -> Iterator[Finding]:
    """Uncorrected memory errors, rows waiting to be remapped, and what the kernel log says of them."""
    used = {device["index"] for device in _seen(facts)}
    for device in facts["gpu.devices"]:
        errors = device.get("ecc_uncorrected")
        signs = {
            f"{errors} uncorrected ECC errors since the driver was loaded": errors,
            "row remapping failed": device.get("remap_failed"),
            "rows wait to be remapped (a reset is needed)": device.get("remap_pending"),
            "pages wait to be retired (a reset is needed)": device.get("retired_pending"),
        }
        if seen := [text for text, there in signs.items() if there]:
            card = f"GPU {device['index']}"
            details = {"gpu": device["index"], **_healthy_without(facts, device["index"])}
            severity = None if device["index"] in used else Severity.WARNING
            yield _found("gpu-ecc-xid", f"{card}: {'; '.join(seen)}", card, severity, **details)
    for report in facts.get("gpu.xids", ()):
        if report["xid"] in HARDWARE_XIDS:
            what = f"kernel log: Xid {report['xid']} on {report['where']}: {report['text']}"
            yield _found("gpu-ecc-xid", what, "kernel log", Severity.WARNING, xid=report["xid"])
            break


def lost(facts: Facts) -> Iterator[Finding]:
    for device in facts["gpu.devices"]:
        if device.get("error"):
            what = f"GPU {device['index']} does not answer: {device['error']}"
            details = {"gpu": device["index"], **_healthy_without(facts, device["index"])}
            yield _found("gpu-fell-off-bus", what, f"GPU {device['index']}", **details)
            return
    for report in facts.get("gpu.xids", ()):
        if report["xid"] == FELL_OFF_BUS:
            what = f"kernel log: Xid 79 on {report['where']}: {report['text']}"
            yield _found("gpu-fell-off-bus", what, "kernel log", Severity.WARNING)
            return


def fabric(facts: Facts) -> Iterator[Finding]:
    """NVSwitch machines: CUDA does not start before the fabric manager has finished (state 3)."""
    for device in _seen(facts):
        state = (device.get("fabric") or {}).get("state")
        if state in (1, 2):
            what = (
                f"GPU {device['index']}: the NVSwitch fabric is {'not started' if state == 1 else 'still being set up'}"
            )
            yield _found("gpu-fabricmanager-missing", what, "fabric manager", driver=facts.get("gpu.driver"))
            return


def prohibited(facts: Facts) -> Iterator[Finding]:
    for device in _seen(facts):
        if device.get("compute_mode") == "prohibited":
            what = f"GPU {device['index']} is in compute mode `prohibited`: no process may use it"
            yield _found(
                "cuda-unavailable", what, f"GPU {device['index']}", gpu=device["index"], compute_mode="prohibited"
            )


def slowed(facts: Facts) -> Iterator[Finding]:
    """Clocks held down by the hardware, a power limit far below the card's own."""
    for device in _seen(facts):
        reasons = list(device.get("throttle") or ())
        limit, default = device.get("power_limit_watts"), device.get("power_default_watts")
        if limit and default and limit < 0.7 * default:
            reasons.append(f"power limit {limit:.0f} W of {default:.0f} W")
        width, slot = (device.get("pcie") or {}).get("width"), (device.get("pcie") or {}).get("width_max")
        if width and slot and width * 2 <= slot and "GeForce" not in (device.get("name") or ""):
            reasons.append(f"PCIe with {width} of {slot} lanes")  # consumer boards share lanes on purpose
        links, up = device.get("nvlinks"), device.get("nvlinks_up")
        if links and up is not None and 0 < up < links:  # all down is a machine without bridges
            reasons.append(f"{up} of {links} NVLinks are up")
        if reasons:
            what = f"GPU {device['index']} ({device['name']}) is slowed: {', '.join(reasons)}"
            yield _found("train-slow", what, f"GPU {device['index']}", Severity.WARNING, gpu=device["index"])


def attention(facts: Facts) -> Iterator[Finding]:
    """flash-attn 2 has kernels from compute capability 8.0 on, flash-attn 3 for 9.0."""
    wanted = {"fa2": 8.0, "fa3": 9.0}.get(str(facts["recipe.values"].get("flash_attn")), 0.0)
    for device in _seen(facts):
        if device.get("capability") and float(device["capability"]) < wanted:
            what = f"flash_attn needs compute capability {wanted}, {device['name']} has {device['capability']}"
            yield _found("attn-fa2-gpu-too-old", what, in_recipe(facts, "flash_attn"), capability=device["capability"])
            return


def fp8(facts: Facts) -> Iterator[Finding]:
    """Units for 8-bit floating point are there from compute capability 8.9 on."""
    if not _true(facts["recipe.values"].get("fp8")):
        return
    for device in _seen(facts):
        if device.get("capability") and float(device["capability"]) < 8.9:
            what = f"fp8: true, but {device['name']} has compute capability {device['capability']} (fp8 needs 8.9)"
            yield _found("gpu-fp8-unsupported", what, in_recipe(facts, "fp8"), capability=device["capability"])
            return


def unlinked(facts: Facts) -> Iterator[Finding]:
    """A pair that cannot use NVLink where the others can: every all-reduce goes at the pace of that pair."""
    for one, other in odd_ones(facts["gpu.topology"] or [])[:1]:
        how = facts["gpu.topology"][one][other]
        what = f"GPU {one} and GPU {other} reach each other by {how}, the other pairs by NVLink"
        yield _found("train-slow", what, f"GPU {one}", Severity.WARNING, gpu=one)


ALL = (
    precision_of_gpus, count_mismatch, visible_devices, busy, bf16, driver, stub, architecture, p2p, faults, lost, fabric,
    prohibited, slowed, attention, fp8, unlinked,
)  # fmt: skip
