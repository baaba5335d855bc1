"""Details of packages: what is there, and the ranges in which LLaMA-Factory and the others want each other."""

from __future__ import annotations

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from doctor.details.ranges import accepted, demands, of_llamafactory, version
from doctor.facts import Facts
from doctor.findings import Finding

# Causes whose package their name says; elsewhere the finding names it.
_PACKAGE = {
    "pkg-accelerate-mismatch": "accelerate",
    "pkg-datasets-mismatch": "datasets",
    "pkg-gradio-too-new": "gradio",
    "pkg-trainer-signature": "transformers",
    "pkg-trl-mismatch": "trl",
}
_DISTRIBUTION = {"flash_attn": "flash-attn", "flash_attn_2_cuda": "flash-attn", "bitsandbytes": "bitsandbytes"}
# Compiled extensions that a run does without unless its recipe asks for them.
_OPTIONAL = ("flash-attn", "bitsandbytes", "vllm", "xformers", "auto-gptq", "autoawq", "apex", "torchaudio")
_WITH_MODES = "0.34.2"  # accelerate whose optimizers may be told to train, whatever they wrap
# Releases of LLaMA-Factory, oldest first, with the newest versions that they accept (extras/misc.py of each).
_CHECKED = ("transformers", "datasets", "accelerate", "peft", "trl")
_NEWEST = {
    "0.9.1": ("4.46.1", "3.1.0", "1.0.1", "0.12.0", "0.9.6"),
    "0.9.2": ("4.49.0", "3.2.0", "1.2.1", "0.12.0", "0.9.6"),
    "0.9.3": ("4.52.4", "3.6.0", "1.7.0", "0.15.2", "0.9.6"),
    "0.9.4": ("4.57.1", "4.0.0", "1.11.0", "0.17.1", "0.24.0"),
    "0.9.5": ("5.6.0", "4.0.0", "1.15.0", "0.20.0", "0.24.0"),
}


def package(facts: Facts, finding: Finding) -> str | None:
    """The installed distribution that the finding is about, by the module that a log shows."""
    known = _PACKAGE.get(finding.cause)
    module = str(finding.details.get("module") or finding.details.get("library") or "").split(".")[0]
    name = known or _DISTRIBUTION.get(module) or canonicalize_name(module)
    return name if name in facts["packages.versions"] else None


def _package(facts: Facts, finding: Finding) -> str | None:
    given = finding.details.get("package")
    return canonicalize_name(str(given)) if given else package(facts, finding)


def requirement(facts: Facts, finding: Finding) -> str | None:
    if finding.cause == "pkg-deepspeed-torch-mismatch":
        return _deepspeed_for_torch(facts)
    if finding.cause == "pkg-bitsandbytes-broken":
        return _bitsandbytes_for_cuda(facts)
    if _modes_refused(facts, finding):
        return None
    name = _package(facts, finding)
    return of_llamafactory(facts, name) if name else None


def _modes_refused(facts: Facts, finding: Finding) -> bool:
    """Whether an optimizer was to be told that it trains, and the accelerate that lets it is not allowed here."""
    told = finding.cause == "pkg-accelerate-mismatch" and finding.details.get("name") in ("train", "eval")
    return told and not accepted(facts, "accelerate", _WITH_MODES)


def transformers_before_modes(facts: Facts, finding: Finding) -> str | None:
    """The last transformers that does not call the optimizer's train(), where an accelerate that has it is not allowed.
    Its tokenizers do not read merges that are pairs."""
    if not _modes_refused(facts, finding) or facts.get("readers.merges_are_pairs"):
        return None
    return "transformers==4.44.2" if accepted(facts, "transformers", "4.44.2") else None


def llamafactory_with_modes(facts: Facts, finding: Finding) -> str | None:
    """The first LLaMA-Factory that allows an accelerate which may be told to train; a fork is not replaced."""
    return "llamafactory==0.9.1" if _modes_refused(facts, finding) and not fork(facts, finding) else None


def _deepspeed_for_torch(facts: Facts) -> str | None:
    """DeepSpeed of the stacks that trained here: 0.15.4 with torch 2.5, 0.16.9 with 2.6, 0.18.4 with 2.11."""
    torch = version(facts, "torch")
    if not torch or torch < Version("2.4"):
        return None
    if torch < Version("2.6"):
        return "deepspeed==0.15.4"
    return "deepspeed==0.16.9" if torch < Version("2.8") else "deepspeed>=0.18.4"


def _bitsandbytes_for_cuda(facts: Facts) -> str | None:
    """bitsandbytes carries a library per CUDA: 12.4 from 0.43.2 on, 12.8 from 0.45.3, 13 from 0.48 (its release notes)."""
    cuda = facts["packages.cuda_builds"].get("torch")
    if not cuda:
        return None
    first = "0.48.0" if Version(cuda) >= Version("13") else "0.45.3" if Version(cuda) >= Version("12.6") else "0.43.2"
    return f"bitsandbytes>={first}"


def peft_requirement(facts: Facts, finding: Finding) -> str | None:
    return of_llamafactory(facts, "peft")


def transformers_requirement(facts: Facts, finding: Finding) -> str | None:
    """The range of LLaMA-Factory; for a torch that is too old, cut to the releases that still run with it: transformers
    4.49 has no least torch in its code, 4.52 and 4.57 ask for 2.1, 5.6 for 2.4 (utils/import_utils.py of each)."""
    found, torch = of_llamafactory(facts, "transformers"), version(facts, "torch")
    if finding.cause != "pkg-torch-too-old":
        return found
    if torch is None or torch >= Version("2.4"):
        return None
    limit = "<5" if torch >= Version("2.1") else "<=4.49.0"
    return f"{found},{limit}" if found else f"transformers{limit}"


def gradio_requirement(facts: Facts, finding: Finding) -> str | None:
    """LLaMA-Factory's range, where it reaches a gradio that accepts pydantic 2.11 (5.23.2 and newer)."""
    allowed = demands(facts, "gradio").get("llamafactory")
    if allowed is None or not any(allowed.contains(f"5.{minor}.0") for minor in range(24, 60)):
        return None
    return f"gradio{allowed},>=5.23.2"


def llamafactory_requirement(facts: Facts, finding: Finding) -> str | None:
    """The installed release; for a package outside its range the first newer one whose range holds it."""
    have = version(facts, "llamafactory")
    if finding.cause != "pkg-version-out-of-range":
        return f"llamafactory=={have}" if have else None
    name, found = str(finding.details.get("package")), str(finding.details.get("found"))
    newer = [release for release in _NEWEST if have and Version(release) > have and name in _CHECKED]
    limits = {release: _NEWEST[release][_CHECKED.index(name)] for release in newer}
    fits = next((r for r, limit in limits.items() if SpecifierSet(f"<={limit}").contains(found)), None)
    return f"llamafactory=={fits}" if fits else None


def installed_version(facts: Facts, finding: Finding) -> str | None:
    name = _package(facts, finding)
    return facts["packages.versions"].get(name) if name else None


def leftover_path(facts: Facts, finding: Finding) -> str | None:
    """What an interrupted pip left of the package: its name with the first letter made a tilde."""
    name = _package(facts, finding)
    remains: list[str] = facts["packages.remains"]
    tails = {path: _tail(path) for path in remains}
    return next((path for path, tail in tails.items() if name and tail == name[1:]), None)


def _tail(path: str) -> str:
    """`~umpy` and `~umpy-1.26.4.dist-info` → `umpy`."""
    name = path.rsplit("/", 1)[-1].removesuffix(".dist-info")
    return canonicalize_name(name[1:].split("-")[0])


def several_missing(facts: Facts, finding: Finding) -> bool:
    """Whether LLaMA-Factory itself lacks more than one of what it declares."""
    there = facts["packages.versions"]
    needed = set()
    for need in facts["packages.requires"].get("llamafactory", ()):
        try:
            one = Requirement(need)
        except InvalidRequirement:
            continue
        if one.marker is None:
            needed.add(canonicalize_name(one.name))
    return len(needed - there.keys()) > 1


def packages(facts: Facts, finding: Finding) -> list[str] | None:
    """What a processor of images needs and is not there (transformers, image_processing_utils.py)."""
    missing = [name for name in ("pillow", "torchvision") if name not in facts["packages.versions"]]
    return missing or None


def extension_optional(facts: Facts, finding: Finding) -> bool:
    name = _package(facts, finding)
    if name == "flash-attn":
        return facts["recipe.values"].get("flash_attn") != "fa2"
    return name in _OPTIONAL


def hub_range(facts: Facts, finding: Finding) -> str | None:
    """One range in which every installed package wants huggingface_hub; None when there is no such demand."""
    ranges = [str(allowed) for allowed in demands(facts, "huggingface-hub").values() if str(allowed)]
    return str(SpecifierSet(",".join(ranges))) if ranges else None


def fork(facts: Facts, finding: Finding) -> bool:
    """LLaMA-Factory from a folder or from version control: a release would replace somebody's own changes."""
    return "llamafactory" in facts["packages.sources"]


def local_version_requested(facts: Facts, finding: Finding) -> bool:
    """`torch==2.5.1+cu124` is on pytorch.org's index only."""
    return "+" in str(finding.details.get("requirement") or "")
