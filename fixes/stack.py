"""A proven package set as a plan for the target, or as a new environment. No resolver: the set was proven as it stands."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from doctor.target import Target
from fixes import indexes, installer
from fixes.errors import Failed, Refused, Unknown
from fixes.packages import conda_owned, fingerprint, installed
from fixes.resolve import PackageChange, Packages
from fixes.steps import Plan, PlannedAction, Step, target_names
from knowledge_base import package_sets
from knowledge_base.package_sets import Stack
from knowledge_base.schema import FixClass

SECONDS = 3600.0


def named(name: str) -> Stack:
    """Raises Unknown for a stack that there is not."""
    try:
        return package_sets.stack(name)
    except KeyError:
        listed = ", ".join(package_sets.names())
        raise Unknown(f"There is no stack called {name}; there are {listed}.") from None


def cause(stack: Stack) -> str:
    """What the plan, the outcomes and the journal call it."""
    return f"stack-{stack.id}"


def of_plan(plan: Plan) -> Stack | None:
    """The stack to which a plan brings the target, None for a plan that mends causes."""
    name = next((step.cause.removeprefix("stack-") for step in plan.steps if step.cause.startswith("stack-")), None)
    return named(name) if name else None


def make_plan(stack: Stack, target: Target, agreed: bool) -> Plan:
    """Every package of the stack to its version; what is there besides stays. Raises Refused."""
    if ".".join(target.version.split(".")[:2]) != stack.python:
        raise Refused(
            f"{stack.id} was proven on Python {stack.python}, {target.python} is {target.version}; make a new environment "
            f"for it: fix --stack {stack.id} --new DIR."
        )
    dists = installed(target)
    changes, notes = [], []
    for name, pinned in sorted(stack.packages.items()):
        found = dists.get(name, [])
        before = found[0].version if found else None
        if len(found) == 1 and before == pinned.version:
            continue
        if any(conda_owned(dist, target.prefix) for dist in found):
            raise Refused(f"{name} was installed by conda; make a new environment: fix --stack {stack.id} --new DIR.")
        if found and found[0].source != "index":
            notes.append(f"{name} stays: it was installed from {found[0].source}; the stack has {pinned.version}")
            continue
        changes.append(PackageChange(name, before, pinned.version))
    pins = [f"{change.name}=={change.after}" for change in changes]
    hashes = {change.name: list(stack.packages[change.name].sha256) for change in changes}
    told = installer.sizes(target, pins, target.offline)
    changes = [replace(change, size=told.get(change.name)) for change in changes]
    packages = Packages({cause(stack): pins}, {}, (), tuple(changes), (), hashes)
    if changes:
        notes += packages.said
    shown = "\n".join(change.shown for change in changes)
    action = PlannedAction("install", {"packages": pins}, str(target.prefix), shown)
    title = {"en": stack.title.en, "zh": stack.title.zh}
    consent = None if agreed else "it changes packages: agree with --yes"
    step = Step(cause(stack), "install-stack", FixClass.REVIEW.value, title, (action,), agreed, consent)
    return Plan(
        target=target_names(target),
        steps=(step,) if changes else (),
        packages=packages if changes else None,
        notes=tuple(notes),
        package_set=fingerprint(dists) if changes else None,
    )


def differs(stack: Stack, target: Target) -> list[str]:
    """Packages from an index that are not as in the stack."""
    dists = installed(target)
    versions = {name: found[0].version for name, found in dists.items() if found[0].source == "index"}
    others = dists.keys() - versions.keys()
    return [name for name in stack.differs(versions) if name not in others]


def new_environment(stack: Stack, place: Path, target_environ: dict[str, str]) -> Path:
    """A fresh environment with exactly the stack; its interpreter. Raises Refused or Failed; what was begun is left
    there under its own name, to be looked at."""
    if place.exists():
        raise Refused(f"{place} exists already; a stack goes into a new directory.")
    uv = installer.find_uv(target_environ)
    conda = shutil.which("conda", path=target_environ.get("PATH")) if target_environ.get("CONDA_PREFIX") else None
    if conda:
        _run([conda, "create", "-y", "-q", "-p", str(place), f"python={stack.python}", "pip"], target_environ)
    elif uv:
        _run([uv, "venv", "-q", "--python", stack.python, str(place)], target_environ)
    else:
        raise Refused("Neither uv nor conda is here to make an environment; install uv (pip install uv).")
    python = place / "bin" / "python"
    listed = place / f"{stack.id}-requirements.txt"
    listed.write_text(requirements({n: (p.version, p.sha256) for n, p in stack.packages.items()}), encoding="utf-8")
    command = (
        [uv, "pip", "install", "-q", *indexes.uv_options(place, target_environ), "--python", str(python)]
        if uv
        else [str(python), "-m", "pip", "install", "-q"]
    )
    asked = indexes.uv_environment(place, target_environ) if uv else target_environ
    _run([*command, "--no-deps", "--require-hashes", "-r", str(listed)], asked)
    return python


def requirements(pinned: dict[str, tuple[str, tuple[str, ...]]]) -> str:
    """Lines that an installer checks: name==version with the hashes that it may have."""
    return installer.with_hashes(
        [f"{n}=={v}" for n, (v, _) in pinned.items()], {n: list(h) for n, (_, h) in pinned.items()}
    )


def _run(command: list[str], environ: dict[str, str]) -> None:
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{Path(command[0]).name} could not make the environment ({error}).") from error
    narrowed = indexes.main_index_only(environ)
    if done.returncode and indexes.HASH_MISMATCH in done.stderr and narrowed:
        return _run(command, narrowed)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise Failed(f"{Path(command[0]).name} could not make the environment: {' '.join(last)}")
