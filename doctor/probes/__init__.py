"""Probes: one file per subject. `collect` is the only code that touches the world; the judgements are pure.

A probe is a module with

    ID: str                                             its name in reports, and the prefix of its facts
    AFTER: tuple[str, ...]                              the probes whose facts its collect() reads
    def collect(target, facts) -> dict[str, Any]        fact name -> JSON-able value or facts.Unknown(reason)
    JUDGEMENTS: tuple[Judgement, ...]                   each facts -> findings; an unknown fact skips that judgement

and, where it takes long or may hang in the middle,

    def parts(target, facts) -> Iterator[dict]          the same facts one after another: what came before the deadline
                                                        is kept; collect() is then `whole(parts(target, facts))`
    DEEP = True                                         for a probe of `check --deep` alone

A new probe is a new file here; nothing else names it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import ModuleType
from typing import Any, Protocol, cast

from doctor.facts import Facts
from doctor.findings import Finding
from doctor.target import Target

Judgement = Callable[[Facts], Iterable[Finding]]


class Probe(Protocol):
    """The interface of a probe module."""

    ID: str
    AFTER: tuple[str, ...]
    JUDGEMENTS: tuple[Judgement, ...]

    @staticmethod
    def collect(target: Target, facts: Facts) -> dict[str, Any]: ...


def whole(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All parts of a collection as one."""
    found: dict[str, Any] = {}
    for part in parts:
        found |= part
    return found


def is_deep(probe: Probe) -> bool:
    """Whether it is asked only by `check --deep`."""
    return bool(getattr(probe, "DEEP", False))


@cache
def all_probes() -> tuple[Probe, ...]:
    """Every probe of this package, in the order of their names."""
    modules: list[ModuleType] = [
        importlib.import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
        if not info.name.startswith("_")
    ]
    return tuple(cast(Probe, module) for module in modules)


def readers_of(*ids: str) -> set[str]:
    """The named probes and every probe that, directly or by others, reads their facts."""
    found = set(ids)
    while more := {probe.ID for probe in all_probes() if found & set(probe.AFTER)} - found:
        found |= more
    return found
