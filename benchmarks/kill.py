"""Kills a fix of files and packages, and its undo, and counts what the next command finds: before, or after.

    python benchmarks/kill.py [--parts steps,undo_steps,moments] [--moments 300] [--json FILE]        about 8 minutes

`steps`: once at each journal line, replaced file and rename of the fix; `undo_steps`: of taking it back; `moments`: at
random ones. Prints one line per outcome; exits 1 if any kill left the target between the two. A part that FILE has already
is replaced; random moments are added to those in it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fixes import history
from knowledge_base import load
from tests.fixes.killing import DIED, DONE, applying, check_after, faults, in_child, points_of
from tests.fixes.worlds import INFO, PACKAGES, RECIPE, World, make_environment

WHAT = "a fix of 3 packages, 3 files and a directory"
BETWEEN = "BETWEEN"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="steps,undo_steps,moments")
    parser.add_argument("--moments", type=int, default=300)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    given = parser.parse_args()
    figures: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "what": WHAT}
    parts = given.parts.split(",")
    with tempfile.TemporaryDirectory(prefix="skyt1-doctor-kill-") as scratch:
        world = _world(Path(scratch))
        if "steps" in parts:
            figures["steps"] = _at_every_step(world)
        if "undo_steps" in parts:
            figures["undo_steps"] = _undo_at_every_step(world)
        if "moments" in parts:
            figures["moments"] = _at_random(world, given.moments)
    for name, found in figures.items():
        print(
            name, *([found] if isinstance(found, str) else [f"\n  {count:4d}  {what}" for what, count in found.items()])
        )
    if given.json:
        earlier = json.loads(given.json.read_text()) if given.json.exists() else {}
        if "moments" in figures:
            figures["moments"] = dict(Counter(figures["moments"]) + Counter(earlier.get("moments", {})))
        figures = {**earlier, **figures}
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(any(BETWEEN in found for found in figures.values()))


def _at_every_step(world: World) -> dict[str, int]:
    before, plan = world.snapshot(), world.plan()
    points = points_of(applying(world, plan))
    after = world.snapshot()
    history.undo(world.workdir)
    found: Counter[str] = Counter({f"steps that are a {kind}": points.count(kind) for kind in sorted(set(points))})
    for number in range(1, len(points) + 1):
        ended = in_child(applying(world, plan), at_point=number)
        found[f"{ended}, then {_end(world, before, after)}"] += 1
    return dict(sorted(found.items()))


def _undo_at_every_step(world: World) -> dict[str, int]:
    before, plan = world.snapshot(), world.plan()
    assert in_child(applying(world, plan)) == DONE
    points = points_of(lambda: history.undo(world.workdir))
    found: Counter[str] = Counter({f"steps that are a {kind}": points.count(kind) for kind in sorted(set(points))})
    for number in range(1, len(points) + 1):
        assert in_child(applying(world, plan)) == DONE
        after = world.snapshot()
        assert in_child(lambda: history.undo(world.workdir), at_point=number) == DIED
        found[f"{DIED}, then {_end(world, before, after)}"] += 1
    return dict(sorted(found.items()))


def _at_random(world: World, moments: int) -> dict[str, int]:
    """A moment after the end of a run kills nothing: another one is drawn."""
    before, plan = world.snapshot(), world.plan()
    start = time.perf_counter()
    in_child(applying(world, plan))
    whole, after = time.perf_counter() - start, world.snapshot()
    history.undo(world.workdir)
    found: Counter[str] = Counter()
    while sum(found.values()) < moments:
        moment = random.uniform(0, whole)
        ended = in_child(applying(world, plan), after_seconds=moment)
        end = _end(world, before, after)
        if ended == DIED or end == BETWEEN:
            found[f"{ended}, then {end}"] += 1
        else:
            whole = min(whole, max(moment, 0.1))
    return dict(sorted(found.items()))


def _end(world: World, before: dict[str, str], after: dict[str, str]) -> str:
    try:
        return check_after(world, before, after)
    except AssertionError as error:
        print(f"between: {error}", file=sys.stderr)
        return BETWEEN


def _world(scratch: Path) -> World:
    workdir = scratch / "work"
    (workdir / "data").mkdir(parents=True)
    (workdir / "old").mkdir()
    (workdir / "old" / "x").write_text("x")
    (workdir / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (workdir / "data" / "dataset_info.json").write_text(INFO, encoding="utf-8")
    load.CAUSES = scratch / "causes"
    world = World(workdir, make_environment(scratch / "env", *PACKAGES), scratch / "causes")
    faults(world)
    return world


if __name__ == "__main__":
    sys.exit(main())
