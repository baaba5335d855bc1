"""What the journal costs: an installation through the door beside the same one by plain uv, and planning 20 causes.

    python benchmarks/journal.py [--rounds 3] [--json FILE] [REQUIREMENT ...]

Both install the same exact versions into copies of one environment and end with a sync: once with an empty cache, as
an installation that downloads, and once with a warm one, where uv only makes links. The goal, under 1.05, is for the
first. Figures are medians of ROUNDS (3), the two ways in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec

from doctor.facts import Facts
from doctor.target import Target, find
from fixes import journal, swap
from fixes.door import Door
from fixes.indexes import uv_environment
from fixes.journal import Journal
from fixes.plan import make_plan
from fixes.resolve import Packages, resolve
from knowledge_base import load
from tests.fixes.worlds import RECIPE, World, fix, make_environment, set_recipe, uv

DEFAULT = ("numpy==1.26.4", "pyarrow==23.0.1", "pandas==2.2.3", "datasets==3.1.0", "transformers==4.46.1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("requirements", nargs="*", default=list(DEFAULT))
    given = parser.parse_args()
    rounds, requirements = given.rounds, given.requirements
    figures: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "rounds": rounds, "requirements": requirements}
    with tempfile.TemporaryDirectory(prefix="skyt1-doctor-journal-") as scratch:
        place = Path(scratch)
        (place / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
        for cold in (True, False):
            plain, ours = [], []
            for number in range(rounds):
                name = f"{'cold' if cold else 'warm'}{number}"
                first, second = make_environment(place / f"a{name}", "six"), make_environment(place / f"b{name}", "six")
                target = find(recipe="recipe.yaml", workdir=scratch, python=str(second))
                packages = resolve(target, Facts(), {"bench": requirements}, {})
                plain.append(_plain(_cached(target, place / f"cache-a{name}", cold), first, packages))
                ours.append(_ours(_cached(target, place / f"cache-b{name}", cold), packages))
            usual, whole = statistics.median(plain), statistics.median(ours)
            print(f"{len(packages.changes)} packages, {'empty' if cold else 'warm'} cache, {rounds} rounds")
            print(f"  uv pip install      {usual:7.2f} s   {[round(t, 2) for t in plain]}")
            print(f"  through the journal {whole:7.2f} s   {[round(t, 2) for t in ours]}")
            print(f"  ratio {whole / usual:.3f}, {(whole - usual) * 1000:+.0f} ms")
            figures["empty_cache" if cold else "warm_cache"] = {
                "packages": len(packages.changes), "uv_seconds": [round(t, 2) for t in plain],
                "journal_seconds": [round(t, 2) for t in ours], "ratio": round(whole / usual, 3),
            }  # fmt: skip
        figures["planning_20_causes_seconds"] = round(_planning(place, second), 3)
        print(f"planning 20 causes besides the resolver: {figures['planning_20_causes_seconds']} s (goal: under 2 s)")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _cached(target: Target, cache: Path, cold: bool) -> Target:
    return msgspec.structs.replace(target, environ={**target.environ, "UV_CACHE_DIR": str(cache)}) if cold else target


def _plain(target: Target, python: Path, packages: Packages) -> float:
    pins = [f"{change.name}=={change.after}" for change in packages.changes]
    command = [uv(), "pip", "install", "-q", "--python", str(python), "--no-deps", *pins]
    start = time.perf_counter()
    subprocess.run(command, check=True, env=uv_environment(target.prefix, target.environ))
    subprocess.run(["sync", "-f", str(python.parent.parent / "pyvenv.cfg")], check=True)
    return time.perf_counter() - start


def _ours(target: Target, packages: Packages) -> float:
    start = time.perf_counter()
    state, _ = journal.home(target.workdir)
    swap.carry_out(Door(Journal.create(state, {})), target, packages, "bench", "install")
    subprocess.run(["sync", "-f", str(target.prefix / "pyvenv.cfg")], check=True)
    return time.perf_counter() - start


def _planning(place: Path, python: Path) -> float:
    load.CAUSES = place / "causes"
    world = World(place, python, place / "causes")
    for number in range(20):
        world.cause(f"cause-{number}", fix("set", set_recipe(**{f"key_{number}": number})))
    target = world.target
    start = time.perf_counter()
    make_plan(world.findings, Facts(), target)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
