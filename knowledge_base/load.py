"""Reads causes from their YAML files, one file only when one cause is asked for."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from knowledge_base.schema import Cause

CAUSES = Path(__file__).parent / "causes"


class UnknownCause(KeyError):
    """No cause of that id; `near` are the ids spelt most like it."""

    def __init__(self, cause_id: str, near: list[str]) -> None:
        super().__init__(cause_id)
        self.cause_id = cause_id
        self.near = near


@cache
def paths() -> dict[str, Path]:
    """Cause id -> its file, without opening any. The file's name is the id, its folder the area."""
    return {path.stem: path for path in sorted(CAUSES.glob("*/*.yaml"))}


def area(cause_id: str) -> str:
    return paths()[cause_id].parent.name


@cache
def cause(cause_id: str) -> Cause:
    """One cause, validated against the schema. Raises UnknownCause."""
    if cause_id not in paths():
        import difflib

        raise UnknownCause(cause_id, difflib.get_close_matches(cause_id, paths(), n=3))
    return read(paths()[cause_id])


def named(cause_id: str) -> dict[str, str | None]:
    """`cause` and `kind` of an id in documents; one that is no cause of ours, such as a fix's, stands for itself."""
    return cause(cause_id).filed if cause_id in paths() else {"cause": cause_id, "kind": None}


def read(path: Path) -> Cause:
    """Parse and validate one cause file. Raises ValueError naming the file and the place in it."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return msgspec.convert(yaml.load(path.read_text(encoding="utf-8"), Loader=loader), Cause)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ValueError(f"{path.parent.name}/{path.name}: {error}") from error


def all_causes() -> list[Cause]:
    return [cause(cause_id) for cause_id in paths()]
