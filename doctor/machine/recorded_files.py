"""Files of a distribution that its RECORD names and that are not there any more, or not whole.

A file that was changed on purpose has another size, too: then only what cannot be read as what it is counts, source that
does not parse and a library whose end is missing.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import msgspec

from doctor import syntax

MOST = 12  # faults that are told of one distribution
# Folders that slim images lack.
_ASIDE = frozenset({"tests", "test", "testing", "benchmarks", "examples", "docs", "include", "__pycache__"})
_LINE = re.compile(r"^(?![./\"])([^,\n]*(?:\.py|\.so[.\d]*)),[^,\n]*,(\d*)$", re.MULTILINE)
_LARGEST_SOURCE = 2 << 20  # bytes of a file that is parsed


class Faults(msgspec.Struct, frozen=True):
    """`lacking` and `broken`: paths below the site directory; `whole`: whether anything of the package is left at all."""

    lacking: list[str] = []
    broken: list[str] = []
    whole: bool = True


def look(dist_info: Path, deep: bool, kinds: frozenset[str] | None = None) -> Faults:
    """`deep`: every module and library of it, and not only the modules at its top. `kinds`: of the folders in `models`,
    those that the run reads, None for all."""
    site = str(dist_info.parent)
    lacking, broken, looked, there = [], [], 0, 0
    for path, recorded in _recorded(dist_info):
        source = path.endswith(".py")
        if source and not deep and path.count("/") > 1:
            continue
        parts = path.split("/")
        if not _ASIDE.isdisjoint(parts) or (kinds is not None and _of_another_kind(parts, kinds)):
            continue
        looked += 1
        try:
            found = os.stat(f"{site}/{path}").st_size
        except OSError:
            lacking.append(path)
            continue
        there += 1
        if recorded and found != int(recorded) and not _usable(Path(site, path), found, int(recorded)):
            broken.append(path)
    return Faults(lacking[:MOST], broken[:MOST], bool(there) or not looked)


def _recorded(dist_info: Path) -> list[tuple[str, str]]:
    """Path and size of modules and libraries below the site directory; none where an installer left no RECORD."""
    try:
        return _LINE.findall((dist_info / "RECORD").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []


def _of_another_kind(parts: list[str], kinds: frozenset[str]) -> bool:
    return len(parts) > 3 and parts[1] == "models" and parts[2] not in kinds


def _usable(path: Path, found: int, recorded: int) -> bool:
    """Of a file of another size than the recorded one."""
    if found == 0:
        return False
    if path.suffix != ".py":
        return found >= recorded or _has_its_end(path, found)
    try:
        if found <= _LARGEST_SOURCE:
            source = path.read_text(encoding="utf-8", errors="replace")
            syntax.tree(source)
            return found > recorded or source.endswith("\n")  # cut off where it happens to parse
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    except OSError:
        return True
    return True


def _has_its_end(path: Path, size: int) -> bool:
    """An ELF file ends with the table of its sections, also when it was stripped."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return True
    if len(head) < 64 or not head.startswith(b"\x7fELF"):
        return False
    if head[4] != 2:  # 32 bits
        return True
    start, width, count = struct.unpack("<Q", head[40:48])[0], *struct.unpack("<HH", head[58:62])
    return start + width * count <= size
