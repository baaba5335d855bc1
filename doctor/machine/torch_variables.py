"""Variables that torch itself reads when it is imported, or when its allocator is made, and libraries put before its own.

PYTORCH_CUDA_ALLOC_CONF: c10/core/AllocatorConfig.h, which releases from 2.9 on read at the import, with or without a GPU.
TORCH_LOGS: torch/_logging.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.recipe.model_values import at_least
from doctor.recipe.source_tree import text

ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
# Options of all releases, and what their value is; the others end the first allocation on a GPU.
_OPTIONS = {
    "max_split_size_mb": "number", "max_non_split_rounding_mb": "number", "garbage_collection_threshold": "part",
    "expandable_segments": "switch", "backend": "backend", "release_lock_on_cudamalloc": "switch",
    "release_lock_on_hipmalloc": "switch", "pinned_use_cuda_host_register": "switch",
    "pinned_use_hip_host_register": "switch", "pinned_num_register_threads": "power",
    "pinned_use_background_threads": "switch", "pinned_reserve_segment_size_mb": "number",
    "graph_capture_record_stream_reuse": "switch", "per_process_memory_fraction": "share",
    "large_segment_size_mb": "number", "roundup_power2_divisions": "power",
}  # fmt: skip
_LEAST_MB = {"max_split_size_mb": 20, "max_non_split_rounding_mb": 20, "large_segment_size_mb": 11}
_READ_AT_IMPORT = "2.9"
_LISTED = re.compile(r"\[[^\]]*\]")  # roundup_power2_divisions:[256:1,512:2]
_REGISTERED = re.compile(r'register_(?:log|artifact)\(\s*"([\w.]+)"')
_LOGS = re.compile(r"((\+|-)?[\w.]+\s*,\s*)*(\+|-)?[\w.]+")
_ALREADY = ("all", "help", "+help")
# Libraries that the interpreter or torch ask for by name, without a path of their own before LD_LIBRARY_PATH.
_LIBRARIES = ("libstdc++.so.6", "libgcc_s.so.1", "libz.so.1", "libssl.so.3", "libssl.so.1.1", "libcrypto.so.3",
              "libcrypto.so.1.1", "libffi.so.8", "libffi.so.7", "libffi.so.6", "liblzma.so.5", "libbz2.so.1.0")  # fmt: skip


def collect(environ: Mapping[str, str], torch: Path | None, site: Iterable[Path]) -> dict[str, Any]:
    return {
        "variables.allocator": {name: environ[name][:200] for name in ALLOCATOR if environ.get(name)},
        "variables.torch_logs": _unknown_logs(environ.get("TORCH_LOGS"), torch, site),
        "variables.no_libraries": list(_no_libraries(environ.get("LD_LIBRARY_PATH", ""))),
    }


def _unknown_logs(given: str | None, torch: Path | None, site: Iterable[Path]) -> str | None:
    """What torch refuses of TORCH_LOGS, in words; it takes names of its own and of any module."""
    if given is None or torch is None:
        return None
    if not given:
        return "is empty, which torch takes for a setting: unset it"
    if given in ("help", "+help"):
        return "asks for help, which ends the run"
    if not _LOGS.fullmatch(given):
        return "is no list of names, each with + or - before it or nothing"
    known = set(_REGISTERED.findall(text(torch / "_logging" / "_registrations.py")))
    if not known:
        return None
    folders = [Path(folder) for folder in site]
    for name in re.sub(r"[\s+-]+", "", given).split(","):
        first = name.partition(".")[0]
        modules = (folder / first for folder in folders)
        there = any(m.is_dir() or m.with_suffix(".py").is_file() or [*m.parent.glob(f"{first}.*.so")] for m in modules)
        if name not in known and name not in _ALREADY and first not in sys.stdlib_module_names and not there:
            return f"names {name}, which is neither a log of torch nor a module"
    return None


def _no_libraries(search: str) -> Iterator[str]:
    """Files under a library's name that are none: the loader takes the first of that name and stops at it."""
    for folder in filter(None, search.split(":")):
        for name in _LIBRARIES:
            path = Path(folder) / name
            try:
                if not path.is_file():
                    continue
                with path.open("rb") as file:
                    head = file.read(4)
            except OSError:
                continue
            if head != b"\x7fELF":
                yield str(path)


def _misread(value: str) -> tuple[str, bool] | None:
    """What is wrong with an allocator's configuration, and whether it is its grammar. A comma at the end is none, and of a
    number its first digits count ("128MB"), as torch 2.11 was seen to read them on a GPU."""
    plain = value.replace(" ", "").removesuffix(",")
    listed = _LISTED.sub(lambda found: found[0].replace(",", ";").replace(":", "="), plain)
    for part in listed.split(","):
        name, colon, given = part.partition(":")
        if not colon or not given or not name:
            return f"has {part!r} where option:value is needed", True
        kind = _OPTIONS.get(name)
        if kind is None:
            return f"names the option {name}, which no release of torch has", False
        if wrong := _RULES[kind](given):
            return f"has {name}:{given}; {wrong}", False
        least = _LEAST_MB.get(name)
        if least and 0 <= int(_digits(given) or 0) < least:
            return f"has {name}:{given}; {least} is the least", False
    return None


def _digits(given: str) -> str | None:
    """The whole number that a text begins with."""
    found = re.match(r"[+-]?\d+", given)
    return found[0] if found else None


def _of_switch(given: str) -> str | None:
    return None if given in ("True", "False") else "True or False is needed"


def _of_number(given: str) -> str | None:
    return None if _digits(given) else "a number is needed"


def _of_power(given: str) -> str | None:
    """A power of two, or a list of size=power, where 0 is none."""
    each = [pair.rpartition("=")[2] for pair in given.strip("[]").split(";")]
    numbers = [int(_digits(one) or -1) for one in each]
    allowed = all((n > 0 and n & (n - 1) == 0) or (n == 0 and given.startswith("[")) for n in numbers)
    return None if allowed else "a power of 2 is needed"


def _of_share(given: str, ends: bool) -> str | None:
    found = re.match(r"\d+\.?\d*|\.\d+", given)
    share = float(found[0]) if found else -1.0
    if ends:
        return None if 0 <= share <= 1 else "a number from 0 to 1 is needed"
    return None if 0 < share < 1 else "more than 0 and less than 1 is needed"


def _of_backend(given: str) -> str | None:
    known = given in ("native", "cudaMallocAsync", "hipMallocAsync")
    return None if known else "native and cudaMallocAsync are known"


_RULES: dict[str, Callable[[str], str | None]] = {
    "switch": _of_switch, "number": _of_number, "power": _of_power, "backend": _of_backend,
    "part": partial(_of_share, ends=False), "share": partial(_of_share, ends=True),
}  # fmt: skip


def _invalid(name: str, what: str) -> Finding:
    return found("variables", "launch-variable-invalid", what, name, variable=name)


def allocator_read(facts: Facts) -> Iterator[Finding]:
    given: Mapping[str, str] = facts.get("variables.allocator") or {}
    torch = str(facts["packages.versions"].get("torch", "0")).partition("+")[0]
    newer = at_least(torch, _READ_AT_IMPORT)
    for name, value in given.items():
        wrong = _misread(value) if name != "PYTORCH_ALLOC_CONF" or newer else None
        if wrong and (facts.get("gpu.count") or (wrong[1] and newer)):
            yield _invalid(name, f"{name}={value} {wrong[0]}")


def logs_known(facts: Facts) -> Iterator[Finding]:
    wrong = facts.get("variables.torch_logs")
    if wrong:
        yield _invalid("TORCH_LOGS", f"TORCH_LOGS {wrong}")


def libraries_are_some(facts: Facts) -> Iterator[Finding]:
    for path in facts.get("variables.no_libraries") or ():
        yield _invalid("LD_LIBRARY_PATH", f"{path} is no library, and LD_LIBRARY_PATH puts it before the one that is")


ALL = (allocator_read, logs_known, libraries_are_some)
