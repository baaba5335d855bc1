"""Stacks: package sets that were proven together by a training run. One YAML file each, `stacks/<id>.yaml`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from knowledge_base.schema import Text

STACKS = Path(__file__).parent / "stacks"
# What decides whether a stack is the one that somebody meant to have; everything else follows from these.
CORE = (
    "llamafactory", "torch", "transformers", "deepspeed", "accelerate", "peft", "trl", "datasets", "tokenizers", "numpy",
    "pyarrow", "triton",
)  # fmt: skip


class Pinned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One package of a stack, with the hashes of the files that may be installed for it."""

    version: str
    sha256: tuple[str, ...]


class Stack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`packages` are keyed by normalised name; `proof` describes the run that trained."""

    id: str
    title: Text
    python: str
    platform: str
    proof: dict[str, Any]
    packages: dict[str, Pinned]

    def differs(self, installed: Mapping[str, str], names: tuple[str, ...] | None = None) -> dict[str, str | None]:
        """Package → what is installed instead (None: nothing), over `names` or the whole stack."""
        looked_at = [name for name in names or self.packages if name in self.packages]
        return {n: installed.get(n) for n in looked_at if installed.get(n) != self.packages[n].version}


@cache
def names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in STACKS.glob("*.yaml")))


@cache
def stack(name: str) -> Stack:
    """One stack, validated. Raises KeyError for a name that there is not, ValueError for a file that is wrong."""
    if name not in names():
        raise KeyError(name)
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return msgspec.convert(yaml.load((STACKS / f"{name}.yaml").read_text("utf-8"), Loader=loader), Stack)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ValueError(f"stacks/{name}.yaml: {error}") from error


def digest(found: Stack) -> str:
    """SHA-256 over the names, versions and file hashes of a stack: what a proof was made with."""
    lines = [f"{name}=={pinned.version} {' '.join(pinned.sha256)}" for name, pinned in sorted(found.packages.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def nearest(installed: Mapping[str, str]) -> Stack | None:
    """The stack from which fewest of the core packages differ, one of the same LLaMA-Factory first; None without one."""
    if "llamafactory" not in installed:
        return None
    every = [stack(name) for name in names()]

    def distance(one: Stack) -> tuple[bool, int]:
        return "llamafactory" in one.differs(installed, ("llamafactory",)), len(one.differs(installed, CORE))

    return min(every, key=distance, default=None)
