"""What a compiled library asks of others, from its ELF tables: versions of symbols (GLIBC_2.32) and undefined names.

Little-endian 64-bit files alone, which is what Linux wheels for x86-64 and arm64 hold. Only the tables are read: of a
library of 400 MB in 0.2 s. The layout is that of elf(5).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

_DYNSYM, _VERNEED = 11, 0x6FFFFFFE  # sh_type
_LARGEST = 512 << 20  # bytes of one table


class NotElf(Exception):
    """The file is no such library, or its tables lead nowhere."""


class _Section(NamedTuple):
    type: int
    offset: int
    size: int
    link: int


def wanted_versions(path: Path) -> set[str]:
    """Names of the versions it needs, such as GLIBC_2.32 or GLIBCXX_3.4.29. Raises NotElf and OSError."""
    with path.open("rb") as file:
        sections = _sections(file)
        found: set[str] = set()
        for section in sections:
            if section.type == _VERNEED:
                names = _names(file, sections, section)
                found |= {_name(names, at) for at in _needed(_read(file, section))}
    return found


def symbols(path: Path) -> tuple[set[bytes], set[bytes]]:
    """(defined, undefined) names of the dynamic symbol table. Raises NotElf and OSError."""
    defined: set[bytes] = set()
    undefined: set[bytes] = set()
    with path.open("rb") as file:
        sections = _sections(file)
        for section in sections:
            if section.type == _DYNSYM:
                names = _names(file, sections, section)
                for at, info, _, index, _, _ in struct.iter_unpack("<IBBHQQ", _whole(_read(file, section), 24)):
                    end = names.find(b"\0", at)
                    weak = info >> 4 == 2  # may stay undefined
                    if index:
                        defined.add(names[at:end])
                    elif not weak:
                        undefined.add(names[at:end])
    return defined, undefined - {b""}


def _sections(file: BinaryIO) -> list[_Section]:
    head = file.read(64)
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        raise NotElf("no 64-bit little-endian ELF file")
    at, size, count = struct.unpack_from("<Q", head, 40)[0], *struct.unpack_from("<HH", head, 58)
    file.seek(at)
    table = file.read(size * count)
    if size < 64 or len(table) < size * count:
        raise NotElf("its table of sections is cut off")
    found = []
    for start in range(0, size * count, size):
        _, kind, _, _, offset, length, link = struct.unpack_from("<IIQQQQI", table, start)
        found.append(_Section(kind, offset, length, link))
    return found


def _read(file: BinaryIO, section: _Section) -> bytes:
    if section.size > _LARGEST:
        raise NotElf("a table is larger than any library's")
    file.seek(section.offset)
    return file.read(section.size)


def _whole(table: bytes, entry: int) -> bytes:
    return table[: len(table) // entry * entry]


def _names(file: BinaryIO, sections: list[_Section], section: _Section) -> bytes:
    if section.link >= len(sections):
        raise NotElf("a table names no strings")
    return _read(file, sections[section.link])


def _name(names: bytes, at: int) -> str:
    return names[at : names.find(b"\0", at)].decode("ascii", errors="replace")


def _needed(table: bytes) -> list[int]:
    """Places of the version names in the string table: a chain of files, each with a chain of versions."""
    found: list[int] = []
    at, seen = 0, 0
    while at + 16 <= len(table) and seen < 10_000:
        _, count, _, first, following = struct.unpack_from("<HHIII", table, at)
        inner = at + first
        for _ in range(count):
            if inner + 16 > len(table):
                break
            _, _, _, name, step = struct.unpack_from("<IHHII", table, inner)
            found.append(name)
            inner += step
        if not following:
            break
        at, seen = at + following, seen + 1
    return found
