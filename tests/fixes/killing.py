"""Runs a fix in a process that is killed, at a chosen crash point or after a chosen time."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable

from doctor.facts import Facts
from fixes import crashpoint, history
from fixes.apply import apply_plan
from fixes.plan import Plan
from tests.fixes.worlds import World, fix, healed, set_recipe

DIED, DONE, FAILED = "killed", "done", "failed"


def faults(world: World) -> None:
    """One fix of every way to change: packages up, added and removed, edits, a new file, a directory set aside."""
    install = {"kind": "install", "packages": ["six==1.16.0", "iniconfig==2.0.0"]}
    world.cause("packages", fix("change", install, set_recipe(packages=1)))
    world.cause("remove", fix("idna", {"kind": "uninstall", "packages": ["idna"]}))
    world.cause("comma", fix("repair", {"kind": "repair-json", "file": "data/dataset_info.json"}))
    world.cause("template", fix("set", set_recipe(template="qwen", report_to="none")))
    world.cause("launch", fix("port", {"kind": "set-launch", "values": {"MASTER_PORT": 29502}}))
    world.cause("aside", fix("old", {"kind": "move-aside", "path": "old"}))


def in_child(work: Callable[[], object], at_point: int = 0, after_seconds: float | None = None) -> str:
    """Do `work` in a forked process that dies by SIGKILL at a crash point or after a time; how it ended."""
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            crashpoint._chosen = at_point
            crashpoint.passed.clear()
            work()
        except BaseException:  # noqa: BLE001 - the child must end here whatever happens, and say why
            traceback.print_exc()
            code = 1
        os._exit(code)
    if after_seconds is not None:
        time.sleep(after_seconds)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return DIED
    return DONE if os.WEXITSTATUS(status) == 0 else FAILED


def applying(world: World, plan: Plan) -> Callable[[], object]:
    target = world.target
    return lambda: apply_plan(plan, target, Facts(), healed)


def points_of(work: Callable[[], object]) -> list[str]:
    """The kinds of the crash points that a run passes, in order (the run is carried out)."""
    read, write = os.pipe()

    def told() -> None:
        work()
        os.write(write, " ".join(crashpoint.passed).encode())

    assert in_child(told) == DONE
    os.close(write)
    with os.fdopen(read) as stream:
        return stream.read().split()


def chosen(points: list[str], every_move: int, every_other: int = 1) -> list[int]:
    """1-based numbers of crash points: each `every_move`-th rename, each `every_other`-th of the others."""
    moves = [n for n, kind in enumerate(points, 1) if kind == "move"][::every_move]
    others = [n for n, kind in enumerate(points, 1) if kind != "move"][::every_other]
    return sorted({*moves, *others, len(points)})


def check_after(world: World, before: dict[str, str], after: dict[str, str]) -> str:
    """What the next command does after a kill: recover. The world must be as before or as after; then back to before."""
    history.recover(world.workdir)
    now = world.snapshot()
    assert history.pending(world.workdir) == []
    if now == before:
        return "before"
    assert now == after, sorted(k for k in {*now, *after} if now.get(k) != after.get(k))
    assert history.undo(world.workdir).status == "undone"
    assert world.snapshot() == before
    return "after"
