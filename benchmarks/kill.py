"""Kills a fix of files and packages at random moments and counts what the next command finds: before, or after.

    python benchmarks/kill.py [MOMENTS]        300 by default, about 6 minutes

Prints one line per outcome; exits 1 if any moment left the target between the two.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fixes import history
from knowledge_base import load
from tests.fixes.killing import applying, check_after, faults, in_child
from tests.fixes.worlds import INFO, PACKAGES, RECIPE, World, make_environment


def main(moments: int) -> int:
    with tempfile.TemporaryDirectory(prefix="skyt1-doctor-kill-") as scratch:
        world = _world(Path(scratch))
        before, plan = world.snapshot(), world.plan()
        start = time.perf_counter()
        in_child(applying(world, plan))
        whole, after = time.perf_counter() - start, world.snapshot()
        history.undo(world.workdir)
        found: Counter[str] = Counter()
        for _ in range(moments):
            ended = in_child(applying(world, plan), after_seconds=random.uniform(0, whole * 1.05))
            try:
                found[f"{ended}, then {check_after(world, before, after)}"] += 1
            except AssertionError as error:
                found["BETWEEN"] += 1
                print(f"between: {error}", file=sys.stderr)
                break
    print(f"{moments} moments over {whole:.2f} s of a fix of 3 packages, 3 files and a directory")
    for what, count in sorted(found.items()):
        print(f"  {count:4d}  {what}")
    return int("BETWEEN" in found)


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
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
