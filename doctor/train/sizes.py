"""Bytes and seconds as people read them."""

from __future__ import annotations


def nice_bytes(count: float) -> str:
    """`459.2 GB`: decimal units, as disks and file listings of clusters show them."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def nice_seconds(seconds: float) -> str:
    """`0.25 s`, `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
