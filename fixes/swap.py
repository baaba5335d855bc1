"""The package step: new packages complete in a staging prefix inside the environment, then exchanged by renames.

Nothing of the environment is touched until everything is downloaded, built and on its disk. The files of packages that
change or vanish are kept there too, so undo needs no network and brings back every byte.
"""

from __future__ import annotations

import os
from pathlib import Path

from doctor.target import Target
from fixes import files, installer, moves
from fixes.door import Door, Why
from fixes.errors import Failed, Refused
from fixes.journal import POINTER, STATE
from fixes.moves import Move
from fixes.packages import Dist, installed, listing, read_site, site_of
from fixes.resolve import Packages


def carry_out(door: Door, target: Target, packages: Packages, cause: str, fix: str) -> int:
    """Change the packages as one action; returns its number. Raises Refused or Failed, the environment unchanged."""
    prefix = target.prefix.resolve()
    _managed_by_system(target)
    depot = prefix / STATE / door.journal.id
    try:
        number = sum(1 for path in depot.iterdir() if path.is_dir()) if depot.is_dir() else 0
        depot.mkdir(parents=True, exist_ok=True)
        files.write_synced(depot / POINTER, f"{door.journal.directory.resolve()}\n".encode())
        depot = depot / f"{number:02d}"
        door.journal.append("staging", directory=str(depot))
        (depot / "staged").mkdir(parents=True)
    except OSError as error:
        raise files.sentence(error, f"write in the environment {prefix}") from error
    pins = [f"{change.name}=={change.after}" for change in packages.changes if change.after]
    if pins:
        asked = {r.split("@")[0].strip(): r for each in packages.requirements.values() for r in each if "@" in r}
        pins = [asked.get(pin.split("==")[0], pin) for pin in pins]
        installer.stage(target, pins, depot / "staged", target.offline, hashes=packages.hashes)
    before = installed(target)
    list_ = plan_moves(target, packages, before, depot)
    shown = "\n".join(change.shown for change in packages.changes)
    why = Why(cause, fix, "install" if pins else "uninstall", str(prefix), shown)
    number = door.move(
        list_, why, tidy_under=prefix, staged=depot / "staged", packages_before=listing(before), depot=str(depot)
    )
    wrong = _differs(packages, installed(target))
    if wrong:
        door.take_back(number)
        raise Failed(f"After the installation {wrong}; it was taken back.")
    return number


def plan_moves(target: Target, packages: Packages, before: dict[str, list[Dist]], depot: Path) -> list[Move]:
    """Which files go out of the environment into keeping, and which come in from staging."""
    prefix = target.prefix.resolve()
    staged = depot / "staged"
    incoming = _incoming(staged, prefix)
    _check_layout(target, packages, staged, [place for _, place, _ in incoming])
    leaving: set[Path] = set()
    for change in packages.changes:
        for dist in before.get(change.name, []):
            leaving.update(dist.files())
    gone = {change.name for change in packages.changes}
    others = [dist for name, found in before.items() if name not in gone for dist in found]
    leaving -= _shared(leaving, others)  # a file that another package lists too stays, or that package would break
    for real, _, names in incoming:
        if real.is_dir():
            leaving.update(path for path in (real / name for name in names) if moves.exists(path))
    for path in leaving:
        if prefix not in path.parents:
            raise Refused(f"{path} lies outside the environment {prefix}; its package is not changed.")
    out = [Move("out", path, depot / "kept" / path.relative_to(prefix)) for path in sorted(leaving)]
    into = sorted(incoming, key=lambda each: str(each[0]))
    return [*out, *(moves.coming_in(real / n, place / n) for real, place, names in into for n in sorted(names))]


def _shared(leaving: set[Path], others: list[Dist]) -> set[Path]:
    """What another package lists too, with the bytecode of that. A package without a RECORD claims nothing."""
    if not leaving:
        return set()
    named = {str(path): path for path in leaving}
    found = {named[text] for dist in others for text in dist.listed() if text in named}
    sources = {(path.parent / "__pycache__", path.stem) for path in found if path.suffix == ".py"}
    compiled = {p for p in leaving if p.suffix == ".pyc" and (p.parent, p.name.split(".")[0]) in sources}
    return found | compiled


def _incoming(staged: Path, prefix: Path) -> list[tuple[Path, Path, list[str]]]:
    """Directories of the environment, the staged one for each and the names that come from it. A directory link such as
    lib64 → lib is followed; the installer's own lock at the top is left out."""
    found = []
    for root, directories, names in os.walk(staged):
        place = Path(root)
        real = (prefix / place.relative_to(staged)).resolve()
        links = [d for d in directories if os.path.islink(os.path.join(root, d))]
        found.append((real, place, [n for n in [*names, *links] if n != ".lock" or place != staged]))
    return found


def _check_layout(target: Target, packages: Packages, staged: Path, places: list[Path]) -> None:
    """The staging prefix must have the environment's own layout, and hold what was planned."""
    # setuptools carries records of what it vendors; only those beside the packages are installations.
    records = [p for p in places if p.suffix == ".dist-info" and p.parent.name.endswith("-packages")]
    prefix = target.prefix.resolve()
    sites = {(prefix / info.parent.relative_to(staged)).resolve() for info in records}
    if strange := sites - set(site_of(target)):
        raise Refused(
            f"The interpreter {target.python} keeps packages elsewhere ({next(iter(strange))} is not one of its "
            "directories); make a virtual environment for training."
        )
    found = {d.name: d.version for site in {info.parent for info in records} for d in read_site(site)}
    for change in packages.changes:
        if change.after and found.get(change.name) is None:
            raise Failed(f"The installer did not provide {change.name} {change.after}; nothing was changed.")


def _differs(packages: Packages, after: dict[str, list[Dist]]) -> str | None:
    for change in packages.changes:
        got = ", ".join(d.version for d in after.get(change.name, []))
        if got != (change.after or ""):
            return f"{change.name} is {got or 'missing'} instead of {change.after or 'removed'}"
    return None


def _managed_by_system(target: Target) -> None:
    """PEP 668: the system's own interpreter must not be changed behind its package manager."""
    prefix = target.prefix
    if (prefix / "pyvenv.cfg").exists() or (prefix / "conda-meta").is_dir():
        return
    marker = next((prefix / "lib").glob("python3*/EXTERNALLY-MANAGED"), None)
    if marker:
        raise Refused(f"{target.python} belongs to the operating system ({marker}); make a virtual environment.")
