"""Variables of the shell that end a run at its imports or its launch: values that their readers cannot use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from doctor import redact
from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.machine import torch_variables
from doctor.recipe import devices_judged
from doctor.recipe.model_values import at_least
from doctor.recipe.source_tree import package_root
from doctor.recipe.values_judged import COMPILED
from doctor.target import Target
from knowledge_base.schema import Severity

ID = "variables"
AFTER: tuple[str, ...] = ("recipe", "llamafactory", "launch")

_found = partial(found, ID)

_NUMBERS = {
    "HF_DATASETS_IN_MEMORY_MAX_SIZE": float,
    "HF_HUB_DOWNLOAD_TIMEOUT": int,
    "HF_HUB_ETAG_TIMEOUT": int,
    "DEEPSPEED_TIMEOUT": int,
    # tqdm/utils.py: envwrap, from 4.66 on, when tqdm is imported
    **dict.fromkeys(("TQDM_MININTERVAL", "TQDM_MAXINTERVAL", "TQDM_MINITERS", "TQDM_SMOOTHING", "TQDM_DELAY"), float),
    **dict.fromkeys(("TQDM_NCOLS", "TQDM_NROWS", "TQDM_POSITION"), int),
}
# Categories of which some warning comes in every run.
_ALWAYS_WARNED = ("UserWarning", "FutureWarning", "Warning")
_LEVELS = ("debug", "info", "warn", "warning", "error", "critical", "fatal", "notset")
_BACKENDS = ("agg", "cairo", "gtk3agg", "gtk3cairo", "gtk4agg", "gtk4cairo", "macosx", "nbagg", "notebook", "pdf", "pgf",
             "ps", "qtagg", "qtcairo", "qt5agg", "qt5cairo", "svg", "template", "tkagg", "tkcairo", "webagg", "wx",
             "wxagg", "wxcairo", "auto", "inline", "ipympl", "widget")  # fmt: skip
# Numbers of which an empty text is none either: their readers take what is set.
_NUMBERS_OF_LAUNCH = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
_SIZES_OF_OTHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_CHOICES = {
    "LLAMAFACTORY_VERBOSITY": _LEVELS,
    "ACCELERATE_LOG_LEVEL": _LEVELS,
    "TORCH_DISTRIBUTED_DEBUG": ("off", "info", "detail"),
    "DS_ACCELERATOR": ("cuda", "cpu", "xpu", "xpu.external", "npu", "mps", "hpu", "mlu", "sdaa", "supa"),
    "MPLBACKEND": _BACKENDS,
    "LOGLEVEL": _LEVELS,
    "ACCELERATE_DYNAMO_BACKEND": COMPILED["torch_compile_backend"],
    "ACCELERATE_USE_CPU": ("0", "1", "y", "yes", "t", "true", "on", "n", "no", "f", "false", "off"),
}
_DEVICES = ("cpu", "cuda", "npu", "xpu", "mps", "hpu", "mlu", "musa", "sdaa", "xla", "meta")
_ON = ("true", "1", "y", "yes", "on", "t")
# Switch -> the package that it needs, the name to install and the first LLaMA-Factory that reads it.
_SWITCHES = {
    "USE_RAY": ("ray", "ray", "0.9.2"),
    "USE_MCA": ("mcore-adapter", None, "0.9.4"),
    "USE_OPENMIND_HUB": ("openmind", "openmind", "0.9.1"),
}
_SCHEMES = ("http", "https", "socks5", "socks5h")
_PROXIES = ("ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
_RECORDED = (*_NUMBERS, *_NUMBERS_OF_LAUNCH, *_SIZES_OF_OTHERS, *_CHOICES, *_SWITCHES, "USE_TF", "USE_TORCH",
             "PYTHONWARNINGS", "OMP_NUM_THREADS",
             "ACCELERATE_TORCH_DEVICE", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM",
             "ACCELERATE_MIXED_PRECISION", "PYTHONOPTIMIZE", "GLOO_SOCKET_IFNAME",
             "NCCL_SOCKET_IFNAME", "MIN_NNODES", "MAX_NNODES", "MAX_RESTARTS", "RDZV_ID")  # fmt: skip


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    environ = target.environ
    certificates = environ.get("SSL_CERT_FILE")
    return {
        "variables.set": {n: redact.text(f"{n}={environ[n]}").partition("=")[2] for n in _RECORDED if environ.get(n)},
        "variables.empty": [name for name in _NUMBERS if environ.get(name) == ""],
        "variables.proxies": _proxies(environ),
        "variables.bracketed": next((n for n in ("NO_PROXY", "no_proxy") if "[" in environ.get(n, "")), None),
        "variables.triton_file": _triton_file(environ),
        "variables.certificates_missing": certificates
        if certificates and not os.path.exists(target.workdir / certificates)
        else None,
        "variables.interfaces": _interfaces(),
        **torch_variables.collect(environ, package_root("torch", target.site), target.site),
        "variables.socks": next((n for n in _PROXIES if environ.get(n, "").lower().startswith("socks")), None),
    }


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Proxies of which no client can be made, and why. Without a scheme the address is one of http."""
    found = {}
    for name in _PROXIES:
        given = environ.get(name, "")
        try:
            parts = urlsplit(given if "://" in given else f"http://{given}")
            parts.port  # noqa: B018 - it raises
        except ValueError:
            found[name] = "has a port that is no number"
        else:
            if parts.scheme not in _SCHEMES and not parts.scheme.startswith("socks"):
                found[name] = f"has the scheme {redact.text(parts.scheme)}, which is none of {', '.join(_SCHEMES)}"
    return found


def _triton_file(environ: Mapping[str, str]) -> str | None:
    """A file in the place of Triton's folder, of which DeepSpeed asks when it is imported."""
    given = environ.get("TRITON_CACHE_DIR", "")
    return given if given and os.path.isfile(given) else None


def _interfaces() -> list[str]:
    try:
        return sorted(os.listdir("/sys/class/net"))
    except OSError:
        return []


def _invalid(name: str, value: str, why: str) -> Finding:
    return _found("launch-variable-invalid", f"{name}={value} {why}", name, variable=name)


def values_usable(facts: Facts) -> Iterator[Finding]:
    given: Mapping[str, str] = facts["variables.set"]
    for name, kind in _NUMBERS.items():
        if name in given:
            try:
                kind(given[name])
            except ValueError:
                yield _invalid(name, given[name], f"is no {'whole ' if kind is int else ''}number")
    for name in facts.get("variables.empty") or ():
        if not (name == "HF_DATASETS_IN_MEMORY_MAX_SIZE" or name == "DEEPSPEED_TIMEOUT"):
            yield _invalid(name, "", "is empty, and is read as a number: unset it")
    for name in _NUMBERS_OF_LAUNCH:
        if name in given and not given[name].strip().lstrip("-").isdecimal() and not facts.get("launch.force_torchrun"):
            yield _invalid(name, given[name], "is no whole number")
    for name, known in _CHOICES.items():
        value = given.get(name, known[0]).lower()
        if value not in known and not value.startswith("module://"):
            yield _invalid(name, given[name], f"is none of {', '.join(known)}")
    device = given.get("ACCELERATE_TORCH_DEVICE", "").partition(":")[0]
    if device and device not in ("cpu", "meta", *(("cuda",) if facts.get("gpu.count") != 0 else ())):
        one_of_them = device in _DEVICES
        lacking = f"asks for {device}, which this machine does not have"
        why = lacking if one_of_them else f"is none of {', '.join(_DEVICES)}"
        if device != "cuda":
            yield _invalid("ACCELERATE_TORCH_DEVICE", given["ACCELERATE_TORCH_DEVICE"], why)
    actions = [part.partition(":")[0].strip() for part in given.get("PYTHONWARNINGS", "").split(",")]
    if any(action and "error".startswith(action) for action in actions):
        # Of one category, which may never come; of a module, which may never warn.
        filtered = re.search(r"(^|,)\s*e\w*\s*::\s*(\w*)\s*(:?)", given["PYTHONWARNINGS"])
        if not filtered or (filtered[2] in _ALWAYS_WARNED and not filtered[3]):
            yield _invalid(
                "PYTHONWARNINGS", given["PYTHONWARNINGS"], "makes every warning end the run, those of imports too"
            )


def threads_counted(facts: Facts) -> Iterator[Finding]:
    """OpenMP goes on without a value that is no number; accelerate reads it for ranks on the CPU (state.py)."""
    value = facts["variables.set"].get("OMP_NUM_THREADS", "0")
    try:
        int(value)
    except ValueError:
        if facts.get("gpu.count") == 0 and facts["launch.force_torchrun"]:
            yield _invalid("OMP_NUM_THREADS", value, "is no whole number")


def addresses_without_brackets(facts: Facts) -> Iterator[Finding]:
    """httpx puts brackets around each address of NO_PROXY that has colons, where a client is made: by gradio when older
    releases of LLaMA-Factory import it, by the hub's library when something is downloaded."""
    name, release = facts.get("variables.bracketed"), facts.get("llamafactory.version")
    if name:
        board = isinstance(release, str) and not at_least(release, "0.9.3") and "gradio" in facts["packages.versions"]
        what = (
            f"{name} has an address in brackets, which httpx takes for a port that is no number: write ::1 without them"
        )
        yield _found("launch-variable-invalid", what, name, None if board else Severity.WARNING, variable=name)


def documentation_kept(facts: Facts) -> Iterator[Finding]:
    """From 2 on Python drops the docstrings, which transformers edits when its models are imported."""
    value = facts["variables.set"].get("PYTHONOPTIMIZE", "")
    if value.isdecimal() and int(value) > 1:
        yield _invalid("PYTHONOPTIMIZE", value, "drops the docstrings, which transformers needs to be imported")


def torch_not_hidden(facts: Facts) -> Iterator[Finding]:
    """transformers 4 counts torch as absent where TensorFlow is asked for, or torch is switched off."""
    given = facts["variables.set"]
    if at_least(str(facts["packages.versions"].get("transformers", "5")), "5.0.0.dev0"):
        return
    torch, other = given.get("USE_TORCH", "AUTO").upper(), given.get("USE_TF", "AUTO").upper()
    yes = ("1", "ON", "YES", "TRUE")
    if other in yes:
        yield _invalid("USE_TF", given["USE_TF"], "makes transformers pass over torch")
    elif torch not in (*yes, "AUTO"):
        yield _invalid("USE_TORCH", given["USE_TORCH"], "makes transformers pass over torch")


def packages_of_switches(facts: Facts) -> Iterator[Finding]:
    given, installed = facts["variables.set"], facts["packages.versions"]
    own = str(facts["llamafactory.version"])
    for name, (package, distribution, since) in _SWITCHES.items():
        if given.get(name, "").lower() not in ("true", "1", "y") or package in installed or not at_least(own, since):
            continue
        if name == "USE_OPENMIND_HUB" and facts.get("model.local"):
            continue
        details: dict[str, Any] = {"module": package} | ({"distribution": distribution} if distribution else {})
        yield _found("pkg-missing", f"{name}={given[name]} needs {package}, which is not installed", name, **details)


def left_by_accelerate(facts: Facts) -> Iterator[Finding]:
    """`accelerate launch` sets it for its own ranks; in a shell it makes the Trainer ask for DeepSpeed and for MPI."""
    name = "ACCELERATE_USE_DEEPSPEED"
    value = facts["variables.set"].get(name, "")
    if value.lower() in _ON and not facts["recipe.values"].get("deepspeed"):
        yield _invalid(name, value, "asks for DeepSpeed, and the recipe names no configuration of it")
    name = "ACCELERATE_USE_MEGATRON_LM"
    value = facts["variables.set"].get(name, "")
    if value.lower() in _ON and "megatron-core" not in facts.get("packages.versions", {}):
        yield _invalid(name, value, "asks for Megatron, which is not installed")


def elastic_fits(facts: Facts) -> Iterator[Finding]:
    """Read by releases that start torchrun elastically, when RDZV_ID is set."""
    given = facts["variables.set"]
    if "RDZV_ID" not in given or not at_least(str(facts["llamafactory.version"]), "0.9.4"):
        return
    numbers = {}
    for name in ("MIN_NNODES", "MAX_NNODES", "MAX_RESTARTS"):
        if name in given and not given[name].isdecimal():
            yield _invalid(name, given[name], "is not a number")
        elif name in given:
            numbers[name] = int(given[name])
    if numbers.get("MIN_NNODES", 0) > numbers.get("MAX_NNODES", 1 << 30):
        yield _invalid("MIN_NNODES", given["MIN_NNODES"], f"is more than MAX_NNODES={given['MAX_NNODES']}")


def interface_there(facts: Facts) -> Iterator[Finding]:
    """Gloo binds to the interface itself; several may be named. NCCL takes prefixes, `=` before exact names and `^` before
    those that it shall not use, and fails where none of them is there (its user guide; one rank does, too)."""
    there, given = facts["variables.interfaces"], facts["variables.set"]
    launches = facts["launch.force_torchrun"] or facts.get("launch.world_size", 1) != 1
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        value, of_nccl = given.get(name), name.startswith("NCCL")
        if (
            not there
            or not value
            or not launches
            or (of_nccl and (value.startswith("^") or not facts.get("gpu.count")))
        ):
            continue
        words = [word for word in value.removeprefix("=").split(",") if word]
        prefixes = of_nccl and not value.startswith("=")
        absent = [w for w in words if not any(one.startswith(w) if prefixes else one == w for one in there)]
        if not absent or (of_nccl and len(absent) < len(words)):
            continue
        what = f"{name}={value}: there is no {', '.join(absent)}; there are {', '.join(there)}"
        yield _found("nccl-socket-ifname", what, name, interfaces=there)


def sizes_of_another_launch(facts: Facts) -> Iterator[Finding]:
    """accelerate counts the processes by MPI's variables, which a job left in the shell, and asks where the others are."""
    given: Mapping[str, str] = facts["variables.set"]
    if facts.get("launch.force_torchrun") or facts.get("launch.environ", {}).get("MASTER_ADDR"):
        return
    for name in _SIZES_OF_OTHERS:
        if given.get(name, "").isdecimal() and int(given[name]) > 1:
            what = f"{name}={given[name]} is set, and no launcher starts so many processes"
            yield _found("launch-rank-env-stale", what, name, variables=[name], variable=name)
            return


def triton_has_folder(facts: Facts) -> Iterator[Finding]:
    path, packages = facts.get("variables.triton_file"), facts["packages.versions"]
    if path and "deepspeed" in packages and not at_least(packages["deepspeed"], "0.18.0"):
        what = f"TRITON_CACHE_DIR={path} is a file; a folder is needed"
        yield _found("launch-variable-invalid", what, "TRITON_CACHE_DIR", variable="TRITON_CACHE_DIR")


def proxy_is_address(facts: Facts) -> Iterator[Finding]:
    """The same client refuses what is no address. Of requests, an older client of the hub, it is only said when asked."""
    severity = Severity.WARNING if at_least(str(facts["llamafactory.version"]), "0.9.4") else None
    for name, why in (facts.get("variables.proxies") or {}).items():
        yield _found("launch-variable-invalid", f"{name} {why}", name, severity, variable=name)


def proxy_spoken(facts: Facts) -> Iterator[Finding]:
    """httpx speaks SOCKS through socksio alone, and reads the proxies when its first client is made, as above."""
    proxy = facts.get("variables.socks")
    if proxy and "socksio" not in facts["packages.versions"]:
        severity = Severity.WARNING if at_least(str(facts["llamafactory.version"]), "0.9.4") else None
        details: dict[str, Any] = {"module": "socksio", "distribution": "socksio", "variable": proxy}
        yield _found(
            "pkg-missing", f"{proxy} names a SOCKS proxy, and socksio is not installed", proxy, severity, **details
        )


def certificates_there(facts: Facts) -> Iterator[Finding]:
    """httpx opens it when its first client is made: at the import of gradio, which older releases import to train."""
    missing = facts["variables.certificates_missing"]
    if missing:
        severity = Severity.WARNING if at_least(str(facts["llamafactory.version"]), "0.9.4") else None
        yield _found(
            "hub-ssl", f"SSL_CERT_FILE={missing} does not exist", "SSL_CERT_FILE", severity, variable="SSL_CERT_FILE"
        )


JUDGEMENTS = (
    values_usable, threads_counted, addresses_without_brackets,
    documentation_kept, torch_not_hidden, packages_of_switches, left_by_accelerate, elastic_fits,
    interface_there, certificates_there, proxy_is_address, proxy_spoken, sizes_of_another_launch, triton_has_folder,
    *devices_judged.ALL, *torch_variables.ALL,
)  # fmt: skip
