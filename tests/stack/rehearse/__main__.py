"""The campaign: `python -m tests.stack.rehearse [ID ...] [--env STACK=DIR ...] [--fresh] [--planted]`.

Every fault is put into a healthy workspace and rehearsed; what came of it goes into results.json beside this file, and
`python -m tests.stack.rehearse.table` makes docs/rehearsal.md of that. An environment that is not given is installed
under --folder. Starts of Python are served (served.py) unless the fault needs its own, or --fresh asks for them. With
--planted the faults of tests/faults whose real runs failed are rehearsed instead.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from doctor import examine, target
from doctor.errors import BadInput
from doctor.recipe import yaml_recipe
from doctor.rehearse import FAILED, launches, rehearse
from doctor.rehearse.beforehand import judged
from doctor.report import document
from knowledge_base.schema import Text
from tests.faults import fault as planting
from tests.faults.catalogue import FAULTS as PLANTED
from tests.faults.fault import COPY
from tests.faults.workspace import BASES, Workspace
from tests.stack.environments import Environment
from tests.stack.rehearse.fault import Fault, prepare
from tests.stack.rehearse.faults import FAULTS, HEALTHY
from tests.stack.rehearse.served import Served
from tests.stack.reproductions import stacks
from tests.stack.reproductions.place import Place

IDLE = launches.IDLE_SECONDS
RESULTS = Path(__file__).with_name("results.json")
REALLY = Path(__file__).parents[2] / "faults" / "results.json"
PACKAGES = {
    **stacks.PACKAGES,
    "no-sync": ("llamafactory==0.9.1", "torch==2.5.1", "deepspeed==0.16.2", "pyarrow<26", "setuptools<81"),
    "no-setuptools": ("llamafactory==0.9.1", "torch==2.5.1", "deepspeed==0.15.4", "pyarrow<26"),
    # Without DeepSpeed, whose 0.15.4 is not imported beside triton 3.2 where there is no GPU.
    "torch-2.6": ("llamafactory==0.9.1", "torch==2.6.0", "pyarrow<26", "setuptools<81"),
}


class Campaign:
    """Environments and their servers, made when first needed."""

    def __init__(self, folder: Path, given: dict[str, Path], fresh: bool) -> None:
        self.folder, self.fresh = folder, fresh
        self.environments: dict[str, Environment] = {s: stacks.Installed(root) for s, root in given.items()}
        self.servers: dict[str, Served] = {}

    def environment(self, stack: str) -> Environment:
        if stack not in self.environments:
            self.environments[stack] = Environment(self.folder / stack, *PACKAGES[stack])
        return self.environments[stack]

    def run(self, fault: Fault) -> dict[str, Any]:
        """What the rehearsal of one fault showed: `caught` by the toy run, `command` with `check` before it."""
        environment = self.environment(fault.stack)
        root = self.folder / "runs" / fault.id
        shutil.rmtree(root, ignore_errors=True)
        place = Place(root, environment)
        extensions = {"TORCH_EXTENSIONS_DIR": str(self.folder / "extensions" / fault.stack)}
        prepare(place, fault.processes, {**extensions, **fault.environ})
        fault.inject(place)
        with fault.around(place):
            return self.rehearsed(fault, place, {**environment.environ, **place.environ})

    def run_planted(self, planted: planting.Fault) -> dict[str, Any]:
        """What the rehearsal of a fault of tests/faults showed. One that cannot even be read is refused in one sentence."""
        base = BASES[planted.base]
        fault = Fault(planted.id, planted.what, lambda place: None, (planted.cause,), base.stack, fresh=planted.fresh)
        place = Workspace(self.folder / "planted" / planted.id, self.environment(base.stack), base)
        planted.inject(place)
        with planted.around(place):
            try:
                return self.rehearsed(fault, place, place.shell())
            except BadInput as error:
                said = {
                    "verdict": "refused",
                    "caught": True,
                    "command": FAILED,
                    "stage": None,
                    "causes": [],
                    "unrecognised": str(error)[:200],
                }
                return {"what": planted.what, "stack": base.stack, **said, "expected": [planted.cause], "right": False}

    def rehearsed(self, fault: Fault, place: Place, environ: dict[str, str]) -> dict[str, Any]:
        environment = place.environment
        found = target.find(str(place.recipe), str(place.root), str(environment.python), offline=True)
        found = msgspec.structs.replace(found, environ=environ)
        yaml_recipe.read(found.recipe, found.shown(found.recipe))  # as the command does first
        examined = examine.examine(found, 20.0)
        blocking = [finding for finding in examined.findings if document.blocks_training(finding)]
        served = not (fault.fresh or self.fresh)
        if served:
            if fault.stack not in self.servers:
                self.servers[fault.stack] = Served(environment)
            found = self.servers[fault.stack].target(found)
        launches.IDLE_SECONDS = 600.0 if served else IDLE  # the work of a served process is not seen
        begun = time.monotonic()
        result = rehearse(found, examined.facts, _tell)
        causes = [finding.cause for finding in result.findings]
        broken = [stage.id for stage in result.stages if not stage.passed and not stage.skipped]
        told = result.unrecognised or {}
        return {
            "what": fault.what,
            "stack": fault.stack,
            "verdict": result.verdict,
            "caught": result.verdict == FAILED,
            "command": judged(result, blocking, 0.0).verdict,
            "stage": broken[0] if broken else None,
            "causes": causes,
            "expected": list(fault.causes),
            "right": causes[:1] == [c for c in causes[:1] if c in fault.causes] and bool(causes) == bool(fault.causes),
            "unrecognised": f"{told.get('exception')}: {str(told.get('message'))[:160]}" if told else None,
            "check": sorted({f.cause for f in blocking} & {*fault.causes}) or None,
            "seconds": round(time.monotonic() - begun, 1),
            "served": served,
            "stages": {stage.id: stage.seconds for stage in result.stages if not stage.skipped},
        }

    def close(self) -> None:
        for server in self.servers.values():
            server.close()


def failing() -> list[planting.Fault]:
    """The faults of tests/faults whose real runs ended with an error, in the environments as they are."""
    really = json.loads(REALLY.read_text())
    return [f for f in PLANTED if really.get(f.id, {}).get("train", {}).get("code") and f.packages in (None, COPY)]


def _tell(text: Text) -> None:
    print(f"    {text.en}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ids", nargs="*", help="faults or healthy recipes; all by default")
    parser.add_argument("--env", action="append", default=[], metavar="STACK=DIR")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "rehearsals")
    parser.add_argument("--fresh", action="store_true", help="no served starts: the times of a user's machine")
    parser.add_argument("--planted", action="store_true", help="the faults of tests/faults whose real runs failed")
    parser.add_argument("--missing", action="store_true", help="only what has no result yet")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    given = {stack: Path(root).absolute() for stack, root in (pair.split("=", 1) for pair in chosen.env)}
    campaign = Campaign(chosen.folder.absolute(), given, chosen.fresh)
    try:
        kinds: dict[str, Any] = {"healthy": HEALTHY, "faults": FAULTS}
        for kind, cases in ({"planted": failing()} if chosen.planted else kinds).items():
            for fault in cases:
                results = json.loads(chosen.results.read_text()) if chosen.results.exists() else {}
                done = results.setdefault(kind, {})
                if (chosen.ids and fault.id not in chosen.ids) or (chosen.missing and fault.id in done):
                    continue
                print(f"{fault.id} …", file=sys.stderr, flush=True)
                seen = campaign.run_planted(fault) if chosen.planted else campaign.run(fault)
                print(f"  {seen['verdict']} {seen['causes']} {seen['unrecognised'] or ''}", flush=True)
                done[fault.id] = seen
                chosen.results.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    finally:
        campaign.close()


if __name__ == "__main__":
    main()
