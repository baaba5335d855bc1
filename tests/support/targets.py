"""Targets for tests: a site-packages folder with chosen distributions, and a Target that points at it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from doctor.target import Interpreter, Target


def add_distribution(site: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> Path:
    """A `*.dist-info` with METADATA, as an installer leaves it; no code."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n\nlong description\n")
    return info


def add_files(site: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def make_target(
    root: Path,
    recipe: str = "stage: sft\n",
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    version: str = "3.11.7",
) -> Target:
    """A Target with an empty site-packages under `root` and the recipe text in its working directory."""
    site, work = root / "env" / "lib" / "site-packages", root / "work"
    site.mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    (work / "recipe.yaml").write_text(recipe, encoding="utf-8")
    interpreter = Interpreter(
        version=version,
        prefix=str(root / "env"),
        base_prefix="/usr",
        executable=sys.executable,
        site=(str(site),),
        path=(str(site),),
        scripts=str(root / "env" / "bin"),
        include="/usr/include/python3.11",
        user_site=False,
    )
    return Target(
        python=Path(sys.executable),
        interpreter=interpreter,
        chosen_because="made for a test",
        workdir=work,
        recipe=work / "recipe.yaml",
        environ=dict(environ or {}),
        overrides=dict(overrides or {}),
    )
