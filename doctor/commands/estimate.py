"""`estimate`: what a recipe needs of GPUs, host and disk, and whether it fits. Exit 0 also where it cannot tell."""

from __future__ import annotations

import importlib
import re
from typing import Any, cast

import msgspec

from doctor import examine, target
from doctor.commands import unfinished
from doctor.commands.check import read_facts
from doctor.commands.output import print_json
from doctor.errors import BadInput
from doctor.estimate import from_facts
from doctor.estimate.duration import Step, duration
from doctor.exit_codes import ExitCode
from doctor.facts import Facts, UnknownFact
from doctor.probes import Probe
from doctor.recipe import yaml_recipe
from doctor.report import document, estimate_text
from doctor.report.words import language

BUDGET = 2.0  # seconds for the facts; a hung driver must not hold up arithmetic
PROBES = ("recipe", "deepspeed", "model", "gpu", "launch", "machine")
COUNTING = ("llamafactory", "dataset", "records")  # also asked where a step's time is known: how many records there are
NAMED = 0.987  # of a card's nominal GiB that a run may use: an 80 GB H100 shows 79.2 GiB, a 24 GB RTX 4090 23.6

_GPUS = re.compile(r"(?:(?P<count>\d+)\s*[x×*]\s*)?(?P<size>\d+(?:\.\d+)?)\s*(?:G|GB|GiB)?", re.IGNORECASE)
_SIZE = re.compile(r"(?P<size>\d+(?:\.\d+)?)\s*(?P<unit>[GT])(?P<binary>i)?B?", re.IGNORECASE)


def gpus(text: str) -> tuple[int, int]:
    """(GPUs of a node, usable bytes of each) of "8x80GB". Raises BadInput."""
    found = _GPUS.fullmatch(text.strip())
    if not found or not float(found["size"]) or found["count"] == "0":
        raise BadInput(f"--gpus {text} is not understood; write count x size, as 8x80GB.")
    return int(found["count"] or 1), int(float(found["size"]) * NAMED * 2**30)


def memory(text: str) -> int:
    """Bytes of "1TB", "744GB" or "512GiB". Raises BadInput."""
    found = _SIZE.fullmatch(text.strip())
    if not found or not float(found["size"]):
        raise BadInput(f"--host-memory {text} is not understood; write a size as 744GB, 1.7TB or 512GiB.")
    power = {"g": 3, "t": 4}[found["unit"].lower()]
    return int(float(found["size"]) * (1024**power if found["binary"] else 1000**power))


def _collected(found: target.Target, names: tuple[str, ...], known: Facts) -> Facts:
    """What the named probes find beside what is known; only these modules are imported."""
    probes = [cast(Probe, importlib.import_module(f"doctor.probes.{name}")) for name in names]
    return known.merged(examine.collect(found, probes, BUDGET)[0])


def run(
    *,
    recipe: str | None,
    workdir: str | None,
    python: str | None,
    env: str | None,
    offline: bool,
    captured: str | None,
    cards: str | None,
    nodes: int | None,
    host_memory: str | None,
    step_seconds: float | None,
    gpu_hour: float | None,
    form: str,
    lang: str | None,
) -> int:
    lang = language(lang)
    step = Step(step_seconds, "--step-seconds") if step_seconds else None
    if captured:
        facts = read_facts(captured)
    else:
        found = target.find(recipe, workdir, python, env, offline)
        unfinished.tell(found, lang)
        yaml_recipe.read(found.recipe, found.shown(found.recipe))
        # Another machine's GPUs: the driver here, which takes a second when it is cold, need not be asked.
        facts = _collected(found, tuple(name for name in PROBES if not (cards and name == "gpu")), Facts())
        if step is None and not (cards or nodes):  # a step that was timed here says nothing of another machine
            from doctor.commands import step_time

            step = step_time.measured(found.workdir, facts)
        if step is not None and step.total is None:
            facts = _collected(found, ("recipe", *COUNTING), facts)
    world = from_facts.world(facts)
    if cards:
        count, size = gpus(cards)
        world = msgspec.structs.replace(world, nproc=count, gpu_bytes=size)
        if host_memory is None:
            world = msgspec.structs.replace(world, host_bytes=None)  # another machine's, not this one's
    if nodes:
        world = msgspec.structs.replace(world, nnodes=nodes)
    if host_memory:
        world = msgspec.structs.replace(world, host_bytes=memory(host_memory))
    try:
        shown = from_facts.document(from_facts.of(facts, world))
    except UnknownFact as error:
        raise BadInput(f"The memory cannot be estimated: {error.reason}.") from None
    shown["run"] = None
    if step is not None:
        run_ = duration(facts["recipe.values"], step, from_facts.records(facts), world.size, gpu_hour)
        shown["run"] = msgspec.to_builtins(run_)
    for change in shown["changes"]:
        change["note"] = estimate_text.note(change["note"], lang)
    there: dict[str, Any] = msgspec.to_builtins(world)
    content = document.envelope("estimate", (), lang, estimate=shown, world=there)
    content["healthy"] = shown["verdict"] != "does not fit"
    if form == "json":
        print_json(content)
    else:
        from doctor.report import text

        estimate_text.show(text.console(), content["estimate"], there, lang)
    return ExitCode.OK if content["healthy"] else ExitCode.FINDINGS
