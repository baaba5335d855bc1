"""The command line: llamafactory-cli, python and torchrun on PATH, whose they are, and where one stands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, Severity, found
from doctor.recipe import source_tree, templates
from doctor.target import Target, shebang

ID = "cli"
AFTER: tuple[str, ...] = ("recipe", "llamafactory")

_found = partial(found, ID)

_PROGRAMS = ("llamafactory-cli", "torchrun", "python")
# What every LLaMA-Factory source tree has under src/llamafactory; `model` was once swallowed by an ignore rule of a fork.
_PACKAGE_PARTS = ("cli.py", "data", "hparams", "model", "train")
_PARENTS = 3  # folders above the working directory in which a tree or the data may lie
_CHILDREN = 400  # folders below it that are looked at


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    path = target.environ.get("PATH")
    return {
        "cli.target_chosen_by_user": "given with" in target.chosen_because,
        "cli.target_prefix": str(target.prefix),
        "cli.target_python": str(target.python),
        "cli.target_scripts": str(target.scripts),
        "cli.path": target.environ.get("PATH", ""),
        "cli.target_has_cli": (target.scripts / "llamafactory-cli").exists(),
        "cli.target_has_torchrun": (target.scripts / "torchrun").exists(),
        "cli.user_script": _user_script(target),
        "cli.programs": {name: _program(name, path) for name in _PROGRAMS},
        "cli.tree": _tree(target, facts),
        "cli.elsewhere": _elsewhere(target, facts),
    }


def _program(name: str, path: str | None) -> dict[str, Any] | None:
    """`{"path", "interpreter", "exists", "prefix"}` of a program on PATH; prefix is None where it cannot be told."""
    where = shutil.which(name, path=path)
    if where is None:
        return None
    interpreter = Path(where) if name == "python" else shebang(Path(where))
    prefix = _prefix(interpreter) if interpreter else None
    return {
        "path": where,
        "interpreter": str(interpreter) if interpreter else None,
        "exists": bool(interpreter and os.path.exists(interpreter)),
        "prefix": str(prefix) if prefix else None,
    }


def _prefix(interpreter: Path) -> Path | None:
    """The environment of an interpreter, by where it lies. A shim (pyenv, asdf) is no interpreter: None."""
    if "shims" in interpreter.parts or interpreter.parent.name not in ("bin", "Scripts"):
        return None
    prefix = interpreter.parent.parent
    is_environment = os.path.exists(prefix / "pyvenv.cfg") or os.path.isdir(prefix / "conda-meta")
    return prefix.resolve() if is_environment else interpreter.resolve().parent.parent


def _user_script(target: Target) -> str | None:
    script = Path(target.environ.get("HOME") or os.path.expanduser("~")) / ".local" / "bin" / "llamafactory-cli"
    return str(script) if os.path.exists(script) else None


def _tree(target: Target, facts: Facts) -> dict[str, Any] | None:
    """The LLaMA-Factory source tree that the working directory lies in, and whether it is the one that is imported."""
    for folder in [target.workdir, *list(target.workdir.parents)[:_PARENTS]]:
        package = folder / "src" / "llamafactory"
        if os.path.isdir(package):
            root = facts.get("llamafactory.root")
            imported = bool(root and os.path.realpath(root) == os.path.realpath(package))
            return {
                "root": str(folder),
                "missing": [part for part in _PACKAGE_PARTS if not (package / part).exists()],
                "installable": any((folder / name).exists() for name in ("setup.py", "pyproject.toml")),
                "imported": imported,
                "version": None if imported else source_tree.own_version(package),
                "has_template": False if imported else _has_template(package, facts["recipe.values"].get("template")),
            }
    return None


def _has_template(package: Path, name: Any) -> bool:
    try:
        return isinstance(name, str) and name in templates.cached(package).templates
    except (OSError, SyntaxError):  # a tree with holes, which is said of it anyway
        return False


def _elsewhere(target: Target, facts: Facts) -> dict[str, str] | None:
    """`{"wanted", "folder"}`: the DeepSpeed JSON of the recipe, not here but under the same relative path in a folder
    nearby. The dataset probe looks after dataset_dir."""
    wanted = facts["recipe.values"].get("deepspeed")
    if not isinstance(wanted, str) or os.path.isabs(wanted) or os.path.exists(target.workdir / wanted):
        return None
    place = _holder(target.workdir, wanted)
    return {"wanted": wanted, "folder": str(place)} if place else None


def _holder(workdir: Path, relative: str) -> Path | None:
    """The nearest folder above or below in which a relative path exists."""
    for folder in list(workdir.parents)[:_PARENTS]:
        if os.path.exists(folder / relative):
            return folder
    seen = 0
    pending = [workdir]
    while pending and seen < _CHILDREN:
        folder = pending.pop(0)
        try:
            children = sorted(
                c for c in folder.iterdir() if not c.name.startswith(".") and c.is_dir() and not c.is_symlink()
            )
        except OSError:
            continue
        for child in children:
            seen += 1
            if os.path.exists(child / relative):
                return child
        if len(folder.relative_to(workdir).parts) < _PARENTS:
            pending += children
    return None


def not_on_path(facts: Facts) -> Iterator[Finding]:
    """The command cannot be typed. A target that the user named is started by us with its own scripts directory."""
    cli = facts["cli.programs"]["llamafactory-cli"]
    installed, scripts = facts["cli.target_has_cli"], facts["cli.target_scripts"]
    if cli and cli["interpreter"] and not cli["exists"]:
        what = f"{cli['path']} is a script of {cli['interpreter']}, which does not exist any more"
        yield _found("cli-not-on-path", what, cli["path"], _by_hand(facts), **_scripts(facts))
    elif cli is None:
        if installed:
            what = f"llamafactory-cli is in {scripts}, which is not on PATH"
        elif facts["cli.user_script"]:
            what = f"llamafactory-cli is in {facts['cli.user_script']}, which is not on PATH"
        else:
            what = f"there is no llamafactory-cli on PATH and none in {scripts}"
        yield _found("cli-not-on-path", what, "PATH", _by_hand(facts), **_scripts(facts))


def _by_hand(facts: Facts) -> Severity | None:
    """Information where the target was named and has the command: only typing it by hand fails then."""
    return Severity.INFO if facts["cli.target_chosen_by_user"] and facts["cli.target_has_cli"] else None


def _scripts(facts: Facts) -> dict[str, Any]:
    """Details: where the command is, and a PATH that begins there; or that it is nowhere."""
    if facts["cli.target_has_cli"]:
        # `train` puts the scripts of a named target first on PATH itself
        return {"cli_elsewhere": not facts["cli.target_chosen_by_user"], **_bin(facts, facts["cli.target_scripts"])}
    if facts["cli.user_script"]:
        return {"cli_elsewhere": True, **_bin(facts, os.path.dirname(facts["cli.user_script"]))}
    version = facts.get("llamafactory.version") if facts.get("llamafactory.root") else None
    wanted = f"llamafactory=={version}" if version else "llamafactory"
    return {"llamafactory_missing": True, "llamafactory_requirement": wanted, "python": facts["cli.target_python"]}


def _bin(facts: Facts, folder: str) -> dict[str, Any]:
    path = f"{folder}{os.pathsep}{facts['cli.path']}"
    return {"environment_bin": folder, "env_bin": folder, "path_with_environment": path}


def mixed_environments(facts: Facts) -> Iterator[Finding]:
    """llamafactory-cli starts plain `torchrun`: both and python must belong to one environment."""
    programs = facts["cli.programs"]
    cli, torchrun, python = (programs[name] for name in ("llamafactory-cli", "torchrun", "python"))
    if not cli or not cli["exists"] or facts["cli.target_chosen_by_user"]:
        return
    home = cli["prefix"]
    several = facts["launch.force_torchrun"] or facts["launch.nproc"] > 1
    details = {"python": cli["interpreter"], **_bin(facts, os.path.dirname(cli["path"]))}
    if torchrun is None:
        if several:
            what = f"llamafactory-cli ({cli['path']}) starts torchrun, which is not on PATH"
            yield _found("launch-torchrun-missing", what, "PATH", **details)
    elif several and not torchrun["exists"]:
        what = f"{torchrun['path']} is a script of {torchrun['interpreter']}, which does not exist any more"
        yield _found("launch-torchrun-missing", what, torchrun["path"], **details)
    elif torchrun["prefix"] and home and torchrun["prefix"] != home:
        what = f"llamafactory-cli is of {home}, torchrun on PATH is of {torchrun['prefix']}"
        severity = None if several else Severity.WARNING
        yield _found("env-python-mismatch", what, torchrun["path"], severity, **details)
        return
    if python and python["prefix"] and home and python["prefix"] != home:
        what = f"llamafactory-cli is of {home}, python on PATH is of {python['prefix']}: pip installs go elsewhere"
        yield _found("env-python-mismatch", what, python["path"], Severity.WARNING, **details)


def torchrun_of_target(facts: Facts) -> Iterator[Finding]:
    """A target that the user named: its own scripts are started, so its own torchrun must be there."""
    if facts["cli.target_chosen_by_user"] and facts["cli.target_has_cli"] and not facts["cli.target_has_torchrun"]:
        what = f"there is llamafactory-cli but no torchrun in {facts['cli.target_scripts']}"
        yield _found("launch-torchrun-missing", what, facts["cli.target_scripts"])


def deepspeed_without_torchrun(facts: Facts) -> Iterator[Finding]:
    """With FORCE_TORCHRUN off and at most one GPU there is no process group, which DeepSpeed needs (hparams/parser.py)."""
    if facts["recipe.values"].get("deepspeed") and not facts["launch.force_torchrun"] and facts["gpu.count"] <= 1:
        what = (
            "FORCE_TORCHRUN is off: with at most one GPU llamafactory-cli starts no torchrun, and DeepSpeed is refused"
        )
        yield _found("launch-torchrun-missing", what, "FORCE_TORCHRUN", force_torchrun="FORCE_TORCHRUN=1")


def foreign_tree(facts: Facts) -> Iterator[Finding]:
    """One stands in a source tree of LLaMA-Factory that is not the one that will be imported, or that has holes."""
    tree = facts["cli.tree"]
    if tree is None:
        return
    if tree["imported"]:
        if tree["missing"]:
            what = f"{tree['root']}/src/llamafactory lacks {', '.join(tree['missing'])}"
            yield _found(
                "cli-incomplete-tree", what, tree["root"], tree=tree["root"], missing=", ".join(tree["missing"])
            )
        return
    imported = facts["llamafactory.root"]
    details: dict[str, Any] = {"tree": tree["root"], "python": facts["cli.target_python"]}
    if tree["installable"] and not tree["missing"]:
        details["tree_requirement"] = f"llamafactory @ {Path(tree['root']).as_uri()}"
    what = f"{tree['root']} is a LLaMA-Factory source tree ({tree['version'] or 'of unknown version'})"
    if imported is None:
        yield _found("cli-foreign-tree", f"{what}; it is not installed in the target", tree["root"], **details)
        return
    version, template = facts.get("llamafactory.version"), facts["recipe.values"].get("template")
    what += f"; what is imported is {imported} ({version or 'of unknown version'})"
    if tree["has_template"] and template not in facts.get("llamafactory.templates", ()):
        what += f"; template {template} exists in the tree only"
        severity = None
    else:  # the recipes of the tree may still suit the imported release, and do when it is the same one
        severity = Severity.INFO if version and version == tree["version"] else Severity.WARNING
    yield _found("cli-foreign-tree", what, tree["root"], severity, **details)


def wrong_workdir(facts: Facts) -> Iterator[Finding]:
    """The DeepSpeed JSON lies where the recipe was meant to be started; said once, by the dataset probe if it sees it."""
    place = facts["cli.elsewhere"]
    if place and not facts.get("dataset.elsewhere"):
        line = facts.get("recipe.lines", {}).get("deepspeed")
        where = f"{facts['recipe.path']}:{line}" if line else facts["recipe.path"]
        what = f"{place['wanted']}: not in the working directory, but in {place['folder']}"
        yield _found("cli-wrong-workdir", what, where, folder=place["folder"])


def path_with_space(facts: Facts) -> Iterator[Finding]:
    """llamafactory-cli splits its torchrun command, with its own full path in it, at white space (launcher.py, cli.py)."""
    root = facts["llamafactory.root"]
    if root and any(letter.isspace() for letter in root) and facts["launch.force_torchrun"]:
        what = f"LLaMA-Factory lies in {root!r}; its command line falls apart at the space"
        yield _found("cli-path-with-space", what, "llamafactory-cli")


JUDGEMENTS = (
    not_on_path,
    path_with_space,
    mixed_environments,
    torchrun_of_target,
    deepspeed_without_torchrun,
    foreign_tree,
    wrong_workdir,
)
