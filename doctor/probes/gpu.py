"""GPUs: what NVML, the device nodes, the PCI bus and the kernel log show, and what the launch will see of them."""

from __future__ import annotations

import getpass
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor.facts import Facts, Unknown
from doctor.findings import Finding, found, in_recipe
from doctor.gpu import machine
from doctor.gpu.judgements import ALL, P2P_DRIVER, wants_bf16
from doctor.gpu.visible import visible
from doctor.probes import whole
from doctor.recipe.source_tree import package_root
from doctor.target import Target

ID = "gpu"
AFTER: tuple[str, ...] = ("recipe",)

_BF16_NEEDS_GPU = re.compile(r"if\s+not\s+self\.use_cpu\s+and\s+not\s+is_torch_bf16_gpu_available\(\)")
_BF16_BY_CUDA = re.compile(r"if\s+torch\.cuda\.is_available\(\)\s+and\s+not\s+is_torch_bf16_gpu_available\(\)")


def parts(target: Target, facts: Facts) -> Iterator[dict[str, Any]]:
    """What needs no driver first, then what NVML says."""
    nodes, functions = machine.nodes(), machine.pci_functions()
    driver = machine.libcuda(target.environ)
    value = target.environ.get("CUDA_VISIBLE_DEVICES")
    found: dict[str, Any] = {
        "gpu.nodes": nodes,
        "gpu.pci": functions if functions is not None else Unknown("/sys/bus/pci is not shown here"),
        "gpu.nvidia_smi": shutil.which("nvidia-smi", path=target.environ.get("PATH")),
        "gpu.visible_devices": value,
        "gpu.libcuda": driver,
        "gpu.libcuda_is_stub": driver is not None and machine.is_stub(driver),
        "gpu.in_container": any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))
        or "KUBERNETES_SERVICE_HOST" in target.environ,
        **_bf16_rules(target, facts),
    }
    yield found
    if not nodes:
        other = machine.other_accelerator()
        count: Any = Unknown(f"there is {other}, which is not read here") if other else 0
        yield {"gpu.nvml_error": None, "gpu.count": count, "gpu.devices": [], "gpu.driver": None, "gpu.cuda": None,
                "gpu.visible": [], "gpu.visible_fault": None, "gpu.xids": [], "gpu.topology": None}  # fmt: skip
        return
    documents, late = machine.ask_nvml(seconds=machine.NVML_SECONDS)
    head = documents[0] if documents else {}
    devices = [_described(device) for device in documents[1:] if "index" in device]
    if "error" in head:
        late = f"NVML does not start: {head['message'] or head['error']}"
    missing = Unknown(late or "NVML said nothing")
    complete = late is None and head.get("count") == len(devices)
    seen, fault = visible(value, devices)
    yield {
        "gpu.nvml_error": head.get("error"),
        "gpu.devices": devices if complete or devices else missing,
        "gpu.driver": head.get("driver") or missing,
        "gpu.cuda": head.get("cuda") or missing,
        "gpu.count": len(seen) if complete else missing,
        "gpu.visible": seen if complete else missing,
        "gpu.visible_fault": fault if complete else missing,
        "gpu.topology": next((d["topology"] for d in documents if "topology" in d), None if complete else missing),
        "gpu.mps": _mps(target),
        "gpu.xids": _xids(),
        "gpu.p2p_driver_known": _p2p_driver_known(target),
    }


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    return whole(parts(target, facts))


def _described(device: dict[str, Any]) -> dict[str, Any]:
    """The device with the user and program of each process that holds its memory."""
    holders = []
    for holder in device.get("holders") or ():
        proc = Path("/proc") / str(holder["pid"])
        try:
            user: str | None = str(proc.stat().st_uid)
            user = getpass.getuser() if proc.stat().st_uid == os.getuid() else proc.owner()
            program: str | None = (proc / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except (OSError, KeyError):  # ended meanwhile, another container's, or a user without a name
            user = program = None
        holders.append({**holder, "user": user, "program": program})
    return {**device, "holders": holders} if device.get("holders") is not None else device


def _mps(target: Target) -> str | None:
    """The pipe directory of a running CUDA MPS daemon, which then holds the cards for everybody."""
    folder = target.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps"
    return folder if os.path.exists(os.path.join(folder, "control")) else None


def _xids() -> Any:
    try:
        return machine.xids()
    except OSError as error:
        return Unknown(f"the kernel log may not be read ({error.strerror})")


def _source(target: Target, package: str, file: str) -> str | None:
    search = [Path(p) for p in target.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    root = package_root(package, target.site, search)
    try:
        return (root / file).read_text(encoding="utf-8", errors="replace") if root else None
    except OSError:
        return None


def _bf16_rules(target: Target, facts: Facts) -> dict[str, Any]:
    """What the installed transformers and torch do with bf16; read only where the recipe asks for bf16.

    `gpu.bf16_needs_gpu`: transformers refuses bf16 without a capable GPU unless use_cpu (from about 4.50 on); older ones
    refuse only where CUDA is there. `gpu.bf16_emulated`: torch calls bf16 supported on cards that only emulate it.
    """
    values = facts["recipe.values"]
    if not wants_bf16(values) and not any(values.get(key) for key in ("bf16", "bf16_full_eval")):
        return {"gpu.bf16_needs_gpu": None, "gpu.bf16_emulated": None, "gpu.has_use_cpu": None}
    arguments = _source(target, "transformers", "training_args.py")
    cuda = _source(target, "torch", "cuda/__init__.py")
    needs: Any = Unknown("training_args.py of transformers is not there")
    if arguments is not None:
        needs = (
            True if _BF16_NEEDS_GPU.search(arguments)
            else False if _BF16_BY_CUDA.search(arguments)
            else Unknown("training_args.py of transformers checks bf16 in a way that is not known here")
        )  # fmt: skip
    return {
        "gpu.bf16_needs_gpu": needs,
        "gpu.has_use_cpu": bool(arguments and re.search(r"^    use_cpu\s*:", arguments, re.M)),
        "gpu.bf16_emulated": "_check_bf16_tensor_supported" in cuda if cuda is not None else None,
    }


def _p2p_driver_known(target: Target) -> bool | None:
    """Whether the installed accelerate asks for the driver before it refuses P2P on an RTX 40."""
    text = _source(target, "accelerate", "utils/environment.py")
    return None if text is None else str(P2P_DRIVER) in text


def fsdp_has_gpus(facts: Facts) -> Iterator[Finding]:
    given = facts["recipe.values"].get("fsdp")
    asked = given is True or (isinstance(given, str) and "shard" in given)
    if asked and facts["gpu.count"] == 0 and not facts["gpu.devices"]:
        what = "fsdp shards over GPUs, and this machine has none that can be seen"
        yield found(ID, "cuda-unavailable", what, in_recipe(facts, "fsdp"), key="fsdp")


JUDGEMENTS = (*ALL, fsdp_has_gpus)
