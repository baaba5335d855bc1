"""Details of the machine: GPUs, caches, compilers, interfaces, and variables that the shell sets."""

from __future__ import annotations

import re
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding


def gpus(facts: Facts, finding: Finding) -> int | None:
    return facts["gpu.count"] or None


def single_node(facts: Facts, finding: Finding) -> bool:
    return facts["launch.nnodes"] == 1


def roomy_dir(facts: Facts, finding: Finding) -> str | None:
    """The folder with most room that is on another device than the caches are."""
    disks: dict[str, Any] = facts["machine.disks"]
    used = {disks[name].get("device") for name in ("hf_cache", "datasets_cache") if name in disks}
    return next((str(place["path"]) for place in facts["machine.roomy"] if place["device"] not in used), None)


def cache_path(facts: Facts, finding: Finding) -> str | None:
    """Where datasets keeps what it has read and tokenised."""
    found = facts["surroundings.datasets_cache"]
    return str(found) if found else None


def torch_extensions_dir(facts: Facts, finding: Finding) -> str | None:
    found = facts["surroundings.extensions_dir"]
    return str(found) if found else None


def extensions_path(facts: Facts, finding: Finding) -> str | None:
    return torch_extensions_dir(facts, finding)


def stale_extension_cache(facts: Facts, finding: Finding) -> bool:
    """What was compiled before is there; after a failed build it is compiled anew."""
    return facts["surroundings.extensions_dir"] is not None


def no_download_running(facts: Facts, finding: Finding) -> bool:
    return not facts["surroundings.download_running"]


def nvcc_present(facts: Facts, finding: Finding) -> bool:
    return facts["tools.nvcc"] is not None


def ninja_present(facts: Facts, finding: Finding) -> bool:
    return facts["tools.ninja"] is not None or "ninja" in facts["packages.versions"]


def ninja_off_path(facts: Facts, finding: Finding) -> bool:
    scripts = str(facts["cli.target_scripts"])
    return str(facts["tools.ninja"] or "").startswith(scripts + "/") and scripts not in str(facts["cli.path"]).split(
        ":"
    )


def environment_bin(facts: Facts, finding: Finding) -> str:
    return str(facts["cli.target_scripts"])


def path_with_environment(facts: Facts, finding: Finding) -> str:
    """PATH with the scripts of the environment that trains in front."""
    scripts, path = str(facts["cli.target_scripts"]), str(facts["cli.path"])
    return ":".join([scripts, *(entry for entry in path.split(":") if entry and entry != scripts)])


def c_compiler(facts: Facts, finding: Finding) -> str | None:
    found = facts["surroundings.compilers"]
    return found[0]["cc"] if found else None


def compiler(facts: Facts, finding: Finding) -> str | None:
    """The newest g++ beside the default one; nvcc of CUDA 12 takes up to 13, of CUDA 11 up to 11."""
    found = facts["surroundings.compilers"]
    return found[0]["cxx"] if found else None


def cuda_home(facts: Facts, finding: Finding) -> str | None:
    """A toolkit of torch's own CUDA, for a missing CUDA_HOME also one of the same major version."""
    built = facts["packages.cuda_builds"].get("torch")
    homes: dict[str, str] = facts["surroundings.cuda_homes"]
    if not built:
        return None
    same = built.split(".")[0] if finding.cause == "env-cuda-home-missing" else None
    major = next((path for have, path in homes.items() if same and have.split(".")[0] == same), None)
    return homes.get(built) or major


def same_cuda_major(facts: Facts, finding: Finding) -> bool:
    built, toolkit = str(finding.details.get("torch_cuda") or ""), str(finding.details.get("toolkit") or "")
    built = built or str(facts["packages.cuda_builds"].get("torch") or "")
    toolkit = toolkit or str(facts["tools.cuda_toolkit"] or "")
    return bool(built and toolkit and built.split(".")[0] == toolkit.split(".")[0])


def interface_found(facts: Facts, finding: Finding) -> str | None:
    """The interface that has the default route."""
    found = facts["surroundings.route_interface"]
    return str(found) if found else None


def link_local_ipv6(facts: Facts, finding: Finding) -> bool:
    return bool(re.match(r"\[?fe80:", str(finding.details.get("peer") or "")))


def in_container(facts: Facts, finding: Finding) -> bool:
    return bool(facts["gpu.in_container"])


def _variable(facts: Facts, *names: str) -> str | None:
    given: dict[str, str] = facts["surroundings.environ"]
    return next((given[name] for name in names if given.get(name)), None)


def ifname(facts: Facts, finding: Finding) -> str | None:
    return _variable(facts, "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")


def ld_preload(facts: Facts, finding: Finding) -> str | None:
    return _variable(facts, "LD_PRELOAD")


def cuda_visible_devices(facts: Facts, finding: Finding) -> str | None:
    """What hides every GPU: empty or -1 also counts, so the variable's being there is enough."""
    given: dict[str, str] = facts["surroundings.environ"]
    hidden = given.get("CUDA_VISIBLE_DEVICES")
    return (hidden or "(empty)") if hidden is not None else None


def bnb_cuda_version_set(facts: Facts, finding: Finding) -> str | None:
    return _variable(facts, "BNB_CUDA_VERSION")


def wandb_entity(facts: Facts, finding: Finding) -> str | None:
    return _variable(facts, "WANDB_ENTITY")


def netrc_login(facts: Facts, finding: Finding) -> bool:
    """WANDB_API_KEY is set and a login is stored beside it."""
    return facts["logging.wandb_login"] == "WANDB_API_KEY" and bool(facts["surroundings.wandb_stored"])


def login_stored(facts: Facts, finding: Finding) -> bool:
    return bool(facts["surroundings.hub_login_stored"])


def python(facts: Facts, finding: Finding) -> str:
    return str(facts["python.executable"])


def python_version(facts: Facts, finding: Finding) -> str:
    return ".".join(str(facts["python.version"]).split(".")[:2])


def python_recommended(facts: Facts, finding: Finding) -> str:
    """The one on which every stack of the knowledge base was proven."""
    return "3.11"


def windows(facts: Facts, finding: Finding) -> bool:
    return "\\" in str(facts["python.executable"])
