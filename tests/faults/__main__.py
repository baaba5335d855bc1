"""`python -m tests.faults PASS [ID ...]`: one pass of the fault campaign over all faults, or those named.

PASS is check, train, heal, again or tools: heal applies the fixes and trains what they left, again only trains it. Each
result is written to results.json at once; what is there is not done again unless it is named or --again is given.
`--minutes N` stops after that time, to go on later; `--part 1/2` takes every second fault. `python -m tests.faults.table`
writes docs/faults.md.
Environments are made under --folder where they are missing (13 GB); everything runs on CPU; small disks need root.
"""

from __future__ import annotations

import argparse
import pickle
import re
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults import heal, look, record, tools
from tests.faults.catalogue import FAULTS
from tests.faults.environments import Environments
from tests.faults.fault import Fault
from tests.faults.trainer import Trainer
from tests.faults.workspace import BASES, Workspace
from tests.stack.reproductions.stacks import PACKAGES

HEALTHY = [Fault(f"healthy {base}", "", "nothing", lambda place: None, base) for base in BASES]


class Campaign:
    """The passes. Each is `<pass>(fault, place)` and gives what is recorded."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self.environments = Environments(folder / "envs")
        self.trainer = Trainer()

    def run(self, step: str, fault: Fault) -> dict[str, Any]:
        if step in ("train", "heal", "again") and BASES[fault.base].zero is not None:
            self.environments.compile_ops(BASES[fault.base].stack)
        if step == "again":
            place = pickle.loads(self._kept(fault).read_bytes())
            with fault.around(place):
                return self.again(fault, place)
        with self.environments.lent(fault, step == "heal") as environment:
            place = Workspace(self.work / step / fault.id.replace(" ", "-"), environment, BASES[fault.base])
            fault.inject(place)
            with fault.around(place):
                return dict(getattr(self, step)(fault, place))

    def check(self, fault: Fault, place: Workspace) -> dict[str, Any]:
        return look.inside(place) if fault.cause else look.command(place)

    def train(self, fault: Fault, place: Workspace) -> dict[str, Any]:
        run = self.trainer.train(place, fault.fresh)
        shown = bool(fault.shows) and re.search(fault.shows, run.log) is not None
        log = record.neutral(place, run.log)
        record.keep_log(fault.id.replace(" ", "-"), place, run.log)
        return {
            "code": run.code,
            "trained": run.code == 0 and place.trained(),
            "shown": shown,
            "how": record.how(log) if run.code else "",
            "seconds": run.seconds,
        }

    def heal(self, fault: Fault, place: Workspace) -> dict[str, Any]:
        """The fixes and a second look, then the real run of what they left."""
        record.forget(fault.id, "again")
        done = heal.heal(fault, place)
        self._kept(fault).write_bytes(pickle.dumps(place))
        record.write(fault.id, "again", self.again(fault, place))
        return done

    def again(self, fault: Fault, place: Workspace) -> dict[str, Any]:
        run = self.trainer.train(place, fault.fresh or fault.packages is not None or fault.damage is not None)
        trained = run.code == 0 and place.trained()
        wrongly = bool(fault.shows) and re.search(fault.shows, run.log) is not None
        how_it_failed = "" if trained else record.how(record.neutral(place, run.log))
        return {"trained": trained and not wrongly, "how": how_it_failed, "seconds": run.seconds}

    def _kept(self, fault: Fault) -> Path:
        return self.work / f"{fault.id}.workspace"

    def tools(self, fault: Fault, place: Workspace) -> dict[str, Any]:
        return tools.ask(place)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["check", "train", "heal", "again", "tools"])
    parser.add_argument("ids", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path(".demo/faults"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--forked", action="store_true", help="only runs that need no start of their own")
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--minutes", type=float, default=1e9)
    chosen = parser.parse_args()
    campaign, begun, done = Campaign(chosen.folder.absolute()), time.monotonic(), record.read()
    for fault in wanted(chosen, done):
        if time.monotonic() - begun > 60 * chosen.minutes:
            print("time is up", flush=True)
            break
        try:
            shown = campaign.run(chosen.step, fault)
        except Exception as error:  # noqa: BLE001 - one fault that cannot be made must not end the campaign
            print(f"ERROR {fault.id}: {type(error).__name__}: {error}", flush=True)
            continue
        record.write(fault.id, chosen.step, shown)
        print(fault.id, shown, flush=True)
    campaign.trainer.close()
    return 0


def wanted(chosen: argparse.Namespace, done: dict[str, dict[str, Any]]) -> list[Fault]:
    """Faults of one stack follow each other, so that one fork server is idle at a time."""
    part, parts = map(int, chosen.part.split("/"))
    faults = [*HEALTHY, *FAULTS][part - 1 :: parts]  # of all, so that parts that begin at other times do not overlap
    faults = [fault for fault in faults if not chosen.ids or fault.id in chosen.ids]
    proof = "again" if chosen.step == "heal" else chosen.step
    faults = [fault for fault in faults if chosen.again or chosen.ids or proof not in done.get(fault.id, {})]
    if chosen.forked:
        faults = [fault for fault in faults if not fault.fresh]
    if chosen.step == "heal":
        faults = [fault for fault in faults if fault.cause and fault.healable]
    if chosen.step == "tools":
        healthy = [next(base for base in BASES if BASES[base].stack == stack) for stack in PACKAGES]
        faults = [f for f in faults if any(f.packages or ()) or (not f.cause and f.base in healthy)]
    if chosen.step == "again":
        faults = [f for f in faults if done.get(f.id, {}).get("heal", {}).get("exit") in (0, 1)]
        faults = [f for f in faults if not f.packages and f.damage is None]
    if chosen.step in ("train", "heal", "again"):
        faults = [fault for fault in faults if not fault.unrun]
    return sorted(faults, key=lambda fault: (bool(fault.cause), BASES[fault.base].stack != "sky-t1"))


if __name__ == "__main__":
    sys.exit(main())
