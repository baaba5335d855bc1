"""The conda environment: which is active, and whether the recommended one is there while another is used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Evidence, Finding, Severity
from doctor.target import Target

ID = "conda"
AFTER: tuple[str, ...] = ()

RECOMMENDED = "llamafactory"  # the name of the environment in the recipe's notes
_ROOTS = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    environ = target.environ
    prefix = environ.get("CONDA_PREFIX")
    recommended = _environment(RECOMMENDED, environ)
    return {
        "conda.active": environ.get("CONDA_DEFAULT_ENV") or (Path(prefix).name if prefix else None),
        "conda.active_prefix": prefix,
        "conda.venv": environ.get("VIRTUAL_ENV"),
        "conda.recommended": RECOMMENDED,
        "conda.recommended_prefix": str(recommended) if recommended else None,
        "conda.recommended_path": f"{recommended / 'bin'}:{environ.get('PATH', '')}" if recommended else None,
        "conda.recommended_has_cli": bool(recommended and os.path.exists(recommended / "bin" / "llamafactory-cli")),
        "conda.target_is_conda": os.path.isdir(target.prefix / "conda-meta"),
        "conda.target_is_recommended": bool(recommended and _same(recommended, target.prefix)),
        "conda.target_is_base": os.path.isdir(target.prefix / "conda-meta")
        and os.path.isdir(target.prefix / "condabin"),
    }


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _environment(name: str, environ: Mapping[str, str]) -> Path | None:
    """The prefix of a conda environment by name, found in the file system (starting conda takes a second)."""
    home = Path(environ.get("HOME") or Path.home())
    folders = [Path(part) for part in environ.get("CONDA_ENVS_PATH", "").split(":") if part]
    if environ.get("MAMBA_ROOT_PREFIX"):
        folders.append(Path(environ["MAMBA_ROOT_PREFIX"]) / "envs")
    if environ.get("CONDA_EXE"):
        folders.append(Path(environ["CONDA_EXE"]).parent.parent / "envs")
    if environ.get("CONDA_PREFIX"):
        active = Path(environ["CONDA_PREFIX"])
        folders.append(active.parent if active.parent.name == "envs" else active / "envs")
    folders += [home / root / "envs" for root in _ROOTS] + [home / ".conda" / "envs", Path("/opt/conda/envs")]
    for folder in folders:
        if os.path.isdir(folder / name / "conda-meta"):
            return folder / name
    try:
        listed = (home / ".conda" / "environments.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((Path(p) for p in listed if Path(p).name == name and os.path.isdir(Path(p) / "conda-meta")), None)


def not_active(facts: Facts) -> Iterator[Finding]:
    """The recommended environment exists, and what will run is another one that has no LLaMA-Factory."""
    recommended = facts["conda.recommended_prefix"]
    if not recommended or facts["conda.target_is_recommended"] or facts.get("llamafactory.root"):
        return
    name, used = facts["conda.recommended"], facts["conda.active"] or facts["conda.venv"]
    what = f"the conda environment {name} is at {recommended}, but {used or 'no environment'} is active"
    what += "" if facts["conda.recommended_has_cli"] else "; it has no llamafactory-cli yet"
    yield Finding(
        "env-conda-not-active",
        (Evidence(what, "CONDA_DEFAULT_ENV"),),
        severity=Severity.WARNING,
        source=f"probe:{ID}",
        details={
            "environment": name,
            "environment_bin": f"{recommended}/bin",
            "path_with_environment": facts["conda.recommended_path"],
            "active": used,
        },
    )


JUDGEMENTS = (not_active,)
