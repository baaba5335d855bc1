"""Details of torch: which releases belong together, and which one runs on this card with this driver."""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from doctor.details.ranges import accepted, version
from doctor.facts import Facts
from doctor.findings import Finding

_FOR_BLACKWELL, _FOR_OLD_CARDS, _FOR_CUDA_12 = "2.8.0", "2.7.1", "2.10.0"


def _public(facts: Facts) -> Version | None:
    torch = version(facts, "torch")
    return Version(torch.public) if torch else None


def _wanted(facts: Facts, finding: Finding) -> Version | None:
    """The torch that heals this cause, None where none of PyPI does."""
    if finding.cause == "cuda-arch-unsupported":
        return _for_card(facts, finding)
    if finding.cause == "cuda-driver-too-old":
        return _for_driver(facts, finding)
    if finding.cause == "pkg-torch-too-old":
        least = re.match(r"\d+\.\d+", str(finding.details.get("minimum") or "2.4"))
        return Version("2.5.1") if least and Version(least[0]) <= Version("2.5") else Version("2.6.0")
    return _public(facts)


def _for_card(facts: Facts, finding: Finding) -> Version | None:
    digits = re.sub(r"\D", "", str(finding.details.get("architecture") or ""))
    told = int(digits) if digits else None
    seen = [float(d["capability"]) * 10 for d in facts.get("gpu.devices", ()) if d.get("capability")]
    number = told if told is not None else int(max(seen)) if seen else None
    if number is None:
        return None
    wanted = _FOR_BLACKWELL if number >= 100 else _FOR_OLD_CARDS if number < 75 else None
    return Version(wanted) if wanted and accepted(facts, "torch", wanted) else None


def _for_driver(facts: Facts, finding: Finding) -> Version | None:
    """A driver of CUDA 12 runs every build for CUDA 12; wheels for CUDA 11 are not on PyPI."""
    told = str(finding.details.get("driver_cuda") or "")
    has = int(told) // 1000 if told.isdigit() else int(str(facts["gpu.cuda"] or "0").split(".")[0])
    torch = _public(facts)
    built = facts["packages.cuda_builds"].get("torch") or ""
    fits = has == 12 and built.startswith("13") and torch and torch > Version(_FOR_CUDA_12)
    return Version(_FOR_CUDA_12) if fits and accepted(facts, "torch", _FOR_CUDA_12) else None


def _companions(torch: Version) -> dict[str, str]:
    """torchvision's minor is torch's plus 15, torchaudio's is torch's; patches go along (torchvision's README)."""
    if torch.major != 2:
        return {}
    return {
        "torch": f"2.{torch.minor}.{torch.micro}",
        "torchvision": f"0.{torch.minor + 15}.{torch.micro}",
        "torchaudio": f"2.{torch.minor}.{torch.micro}",
    }


def torch_version(facts: Facts, finding: Finding) -> str | None:
    wanted = _wanted(facts, finding)
    return _companions(wanted).get("torch") if wanted else None


def torchvision_version(facts: Facts, finding: Finding) -> str | None:
    wanted = _wanted(facts, finding)
    return _companions(wanted).get("torchvision") if wanted else None


def torchaudio_version(facts: Facts, finding: Finding) -> str | None:
    wanted = _wanted(facts, finding)
    return _companions(wanted).get("torchaudio") if wanted else None


def architecture(facts: Facts, finding: Finding) -> str | None:
    seen = [d["capability"] for d in facts.get("gpu.devices", ()) if d.get("capability")]
    return "sm_" + str(max(seen, key=float)).replace(".", "") if seen else None


def torchvision_requirement(facts: Facts, finding: Finding) -> str | None:
    return _beside(facts, "torchvision")


def torchaudio_requirement(facts: Facts, finding: Finding) -> str | None:
    return _beside(facts, "torchaudio")


def _beside(facts: Facts, name: str) -> str | None:
    torch = _public(facts)
    found = _companions(torch).get(name) if torch else None
    return f"{name}=={found}" if found else None


def torchaudio_not_required(facts: Facts, finding: Finding) -> bool:
    return not any(_named(need) == "torchaudio" for need in facts["packages.requires"].get("llamafactory", ()))


def _named(need: str) -> str | None:
    try:
        return canonicalize_name(Requirement(need).name)
    except InvalidRequirement:
        return None


def _nvidia(facts: Facts) -> dict[str, str]:
    """NVIDIA's wheels that torch asks for: name -> requirement, markers left out."""
    found = {}
    for need in facts["packages.requires"].get("torch", ()):
        name = _named(need)
        if name and name.startswith("nvidia-"):
            found[name] = f"{name}{Requirement(need).specifier}"
    return found


def nvidia_requirements(facts: Facts, finding: Finding) -> list[str] | None:
    there = facts["packages.versions"]
    return [text for name, text in sorted(_nvidia(facts).items()) if name not in there] or None


def nvidia_wheels_missing(facts: Facts, finding: Finding) -> bool:
    return nvidia_requirements(facts, finding) is not None


def cudnn_requirement(facts: Facts, finding: Finding) -> str | None:
    return next((text for name, text in _nvidia(facts).items() if "cudnn" in name), None)


def nccl_requirement(facts: Facts, finding: Finding) -> str | None:
    return next((text for name, text in _nvidia(facts).items() if "nccl" in name), None)


def other_nccl(facts: Facts, finding: Finding) -> list[str] | None:
    """NCCL wheels that torch does not ask for, as two packages write the same libnccl.so.2."""
    wanted = _nvidia(facts)
    found = [name for name in facts["packages.versions"] if name.startswith("nvidia-nccl") and name not in wanted]
    return found if found and wanted else None


def torch_cuda(facts: Facts, finding: Finding) -> str | None:
    found = facts["packages.cuda_builds"].get("torch")
    return str(found) if found else None


def cuda_tag(facts: Facts, finding: Finding) -> str | None:
    """The index of pytorch.org for torch's own CUDA."""
    cuda = torch_cuda(facts, finding)
    return "cu" + cuda.replace(".", "") if cuda else None


def gpu_without_bf16(facts: Facts, finding: Finding) -> bool:
    return any(float(d["capability"]) < 8.0 for d in facts["gpu.devices"] if d.get("capability"))


def no_bf16_hardware(facts: Facts, finding: Finding) -> bool:
    return gpu_without_bf16(facts, finding)
