"""`check`: examine the target, or judge captured facts, and say what stands in the way."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec

from doctor import examine, redact, target
from doctor.commands import cluster, unfinished
from doctor.commands.next_command import next_command
from doctor.commands.output import print_json
from doctor.commands.progress import Progress
from doctor.deadline import within
from doctor.errors import BadInput
from doctor.exit_codes import ExitCode
from doctor.facts import Facts
from doctor.probes import all_probes
from doctor.recipe import yaml_recipe
from doctor.report import document
from doctor.report.words import language, say

# Finding the target starts its interpreter and reads the recipe: its share of the budget, and the seconds that an
# interpreter may take however small the budget is.
_START_SHARE, _START_AT_LEAST = 0.8, 2.0


def known_ids(ids: Collection[str]) -> None:
    """Raises BadInput for an id that is neither a cause nor a probe."""
    from knowledge_base import load

    known = {*load.paths(), *(probe.ID for probe in all_probes())}
    for name in ids:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "`skyt1-doctor causes` lists them."
            raise BadInput(f"There is no cause or probe called {name}; {hint}")


def examine_target(found: target.Target, budget: float, **choice: Collection[str]) -> examine.Examination:
    """Examine a target whose recipe can be read; a recipe that cannot be read ends the command before any probe."""
    yaml_recipe.read(found.recipe, found.shown(found.recipe))
    return examine.examine(found, budget, **choice)


def read_facts(path: str) -> Facts:
    """Facts from a file of `--save-facts` or from the JSON document of `check`."""
    try:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
        facts = read.get("facts", read)
        return Facts.from_json(facts)
    except OSError as error:
        raise BadInput(f"The facts file {path} cannot be read ({error.strerror}).") from None
    except (ValueError, AttributeError):
        raise BadInput(f"{path} holds no facts; write them with `skyt1-doctor check --save-facts FILE`.") from None


def write_facts(path: str, facts: Facts) -> None:
    try:
        text = json.dumps(redact.document(facts.to_json()), ensure_ascii=False, indent=1)
        Path(path).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"The facts cannot be written to {path} ({error.strerror}).") from None


def trial_view(facts: Facts) -> dict[str, Any]:
    """What `--deep` learnt from the target's own code; empty without it."""
    names = [name for name in ("parser", "lengths") if f"trial.{name}" in facts]
    return {name: facts.get(f"trial.{name}", {"unknown": facts.why_unknown(f"trial.{name}")}) for name in names}


def ranks_view(facts: Facts) -> dict[str, Any]:
    """What `--deep` measured of each rank; empty without it or where the ranks could not start."""
    if not facts.known("collective.ranks"):
        return {}
    from doctor.gpu.topology import drawn

    names = ("device", "ranks", "seconds", "transports")
    return {
        **{name: facts.get(f"collective.{name}") for name in names},
        "topology": drawn(facts.get("gpu.topology") or []),
    }


def _nearest_stack(facts: Facts, lang: str) -> dict[str, str]:
    """The proven package set that the target is nearest to, and what differs, for people ("it worked yesterday")."""
    name = facts.get("stack.nearest")
    if not name:
        return {}
    differs = facts.get("stack.differs", {})
    said = ", ".join(
        f"{package} {have or '-'} ({say('proven', lang)} {proven})" for package, (have, proven) in differs.items()
    )
    return {"nearest_stack": f"{name}: {said or say('as_in_stack', lang)}"}


def run(
    *,
    recipe: str | None,
    workdir: str | None,
    python: str | None,
    env: str | None,
    offline: bool,
    deep: bool,
    captured: str | None,
    save_facts: str | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    budget: float | None,
    form: str,
    lang: str | None,
    why: bool,
    slurm: bool = False,
    slurm_options: str | None = None,
    ray: str | None = None,
) -> int:
    known_ids([*only, *skip])
    if slurm or slurm_options or ray or (captured and cluster.is_capture(captured)):
        return cluster.check(**locals())
    lang = language(lang)
    shown: dict[str, str] | None = None
    cut_off: list[str] = []
    if captured:
        result = examine.replay(read_facts(captured), only, skip)
    else:
        seconds = budget or (examine.DEEP_BUDGET if deep else examine.DEFAULT_BUDGET)
        imports = Thread(target=all_probes, name="imports", daemon=True)  # while the target's interpreter answers
        imports.start()
        begun = time.monotonic()
        start = max(_START_AT_LEAST, seconds * _START_SHARE)  # what is left belongs to the probes
        try:
            found = within(start, lambda: target.find(recipe, workdir, python, env, offline, deep, budget=seconds))
            left = start - (time.monotonic() - begun)
            within(left, lambda: yaml_recipe.read(found.recipe, found.shown(found.recipe)))
        except TimeoutError:
            raise BadInput(
                f"The recipe, the working directory or the target's python did not answer within {start:g} s: a mount "
                "may hang; --budget SECONDS waits longer."
            ) from None
        imports.join()
        left = round(max(seconds * (1 - _START_SHARE), seconds - (time.monotonic() - begun)), 1)
        cut_off = unfinished.tell(found, lang)
        progress = Progress(lang)
        try:
            result = examine_target(msgspec.structs.replace(found, tell=progress.told), left, only=only, skip=skip)
        finally:
            progress.end()
        shown = {
            "target": f"{found.python} (Python {found.version}; {found.chosen_because})",
            "recipe": found.shown(found.recipe),
            **_nearest_stack(result.facts, lang),
        }
    if save_facts:
        write_facts(save_facts, result.facts)
    content: dict[str, Any] = document.examination("check", result, lang, with_facts=form == "json")
    if trial := trial_view(result.facts):
        content["trial"] = redact.document(trial)
    if ranks := ranks_view(result.facts):
        content["ranks"] = redact.document(ranks)
    if cut_off:
        content["interrupted"] = cut_off
    if form == "json":
        print_json(content)
    else:
        from doctor.report import text

        text.check(text.console(), content, redact.document(shown), lang, next_command("fix"), why)
    return ExitCode.OK if content["healthy"] else ExitCode.FINDINGS
