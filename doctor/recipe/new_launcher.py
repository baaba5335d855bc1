"""LLaMA-Factory's new launcher, which USE_V1=1 starts: its arguments, and whether a recipe is written for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe
from doctor.recipe import recipe_kind, refusals
from doctor.recipe.argument_source import Reader, Source

_finding = partial(found, "arguments")


def which(environ: Mapping[str, str], values: Mapping[str, Any], package: Path) -> dict[str, Any]:
    """Which of the two launchers will start, and for which the recipe is written: `usual` or `new`."""
    has_new = bool(files(package))
    starts = "new" if has_new and recipe_kind.asks_for_new_launcher(environ) else "usual"
    written = "new" if recipe_kind.written_for_new_launcher(values) else "usual"
    return {"starts": starts, "recipe": written, "has_new": has_new}


def files(package: Path) -> list[Path]:
    """The files that `read` depends on; empty where the release has no new launcher."""
    config = package / "v1" / "config"
    if not (config / "arg_parser.py").is_file():
        return []
    return [*sorted(config.glob("*.py")), *(p for p in [package / "v1" / "utils" / "types.py"] if p.is_file())]


def read(package: Path) -> Source:
    """The arguments of the launcher that USE_V1=1 starts, as the group `train`. Raises OSError, SyntaxError."""
    reader = Reader(package, package)
    for path in files(package):
        reader.read_enums_of(path)
    parser_file = package / "v1" / "config" / "arg_parser.py"
    parser = reader.tree(parser_file)
    names = next(
        (
            [item.id for item in call.args[0].elts if isinstance(item, ast.Name)]
            for call in ast.walk(parser)
            if isinstance(call, ast.Call)
            and ast.unparse(call.func) == "HfArgumentParser"
            and call.args
            and isinstance(call.args[0], (ast.List, ast.Tuple))
        ),
        [],
    )
    classes = [reader.resolve(name, parser_file) for name in names]
    omega = "OmegaConf" in parser_file.read_text(encoding="utf-8")
    groups = {"train": [cls.name for cls in classes if cls is not None]}
    return Source(groups, reader.classes, {}, reader.enums, omega, [str(path) for path in reader.trees])


def refused(source: Source, values: Mapping[str, Any]) -> list[refusals.Refusal]:
    """What its dataclasses refuse. Its enumerations are StrEnums: `str()` of a member is its text."""
    return refusals.follow(source, values, "train", {}, {"str": lambda value: value}).refusals


def launcher_fits(facts: Facts) -> Iterator[Finding]:
    """The new launcher (USE_V1=1) and the usual one have arguments of their own; neither reads recipes of the other."""
    launcher = facts["arguments.launcher"]
    if launcher["starts"] == launcher["recipe"]:
        return
    release = facts.get("llamafactory.version", "in the target")
    if launcher["recipe"] == "usual":
        what = "USE_V1=1 starts the new launcher, and the keys of the recipe are those of the usual one"
        yield _finding("cfg-other-launcher", what, "USE_V1", recipe=facts["recipe.path"], starts_new=True)
        return
    what = "the keys of the recipe are those of the new launcher, which starts with USE_V1=1 only"
    what += "" if launcher["has_new"] else f"; LLaMA-Factory {release} has none"
    key = "model" if "model" in facts["recipe.values"] else "train_dataset"
    details: dict[str, Any] = {"has_new": True} if launcher["has_new"] else {"without_new": True}
    adapter = facts["recipe.values"].get("peft_config")
    details["subcommand"] = "merge" if isinstance(adapter, Mapping) and "export_dir" in adapter else "train"
    yield _finding("cfg-other-launcher", what, in_recipe(facts, key), recipe=facts["recipe.path"], **details)
