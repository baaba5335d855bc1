"""Judgements of the folders that a run writes to and goes on from: pure functions of the facts of run_folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe
from doctor.recipe import adapter_tensors_judged, resumed_checkpoint, run_folders
from knowledge_base.schema import Severity

_finding = partial(found, "arguments")

# Kind of a fault of a checkpoint -> its cause.
_CAUSES = {resumed_checkpoint.UNUSABLE: "ckpt-missing-optimizer-state",
           resumed_checkpoint.FOREIGN: "ckpt-resume-mismatch",
           resumed_checkpoint.OTHER_RANKS: "ckpt-world-size-changed"}  # fmt: skip


def checkpoint_to_resume(facts: Facts) -> Iterator[Finding]:
    """The Trainer resumes from weights or an adapter with trainer_state.json; under DeepSpeed from global_step folders."""
    state = facts["arguments.resume"]
    if state is None:
        return
    deepspeed = bool(facts["recipe.values"].get("deepspeed"))
    lacks = [] if state["exists"] else ["does not exist"]
    if state["exists"]:
        if not state["weights"] and not state["global_step"]:
            lacks.append("holds neither weights nor an adapter")
        if not state["trainer_state"]:
            lacks.append("has no trainer_state.json")
        if deepspeed and not state["global_step"]:
            lacks.append("has no global_step folder of DeepSpeed")
    kind = resumed_checkpoint.UNUSABLE
    if not lacks and state.get("faults"):
        kind = state["faults"][0][0]
        lacks = [f"cannot be resumed from: {what}" for of, what in state["faults"] if of == kind]
    if not lacks and (shape := _other_shape(facts, state)):
        kind, lacks = resumed_checkpoint.FOREIGN, [f"cannot be resumed from: {shape}"]
    if not lacks:
        yield from _steps_left(facts, state)
        return
    key = state.get("key", "resume_from_checkpoint")
    details: dict[str, Any] = {"key": key, "resume_path": state["path"], "path_is_full_model": state["model"]}
    details["nothing_to_resume"] = not state["weights"] and not state["global_step"] and not state["complete"]
    what = f"{key}: {state['path']} {', '.join(lacks)}"
    if key == "output_dir":
        what = f"the run would go on from {state['path']} in output_dir, which {', '.join(lacks)}"
        details |= _elsewhere(facts)
    if state["complete"]:
        what += f"; {state['complete']} is complete"
        details["complete_checkpoint"] = state["complete"]
    yield _finding(_CAUSES[kind], what, in_recipe(facts, key), **details)


def _other_shape(facts: Facts, state: Mapping[str, Any]) -> str | None:
    """A tensor of the checkpoint that the model has in another shape. resize_vocab changes the model's vocabulary first."""
    model = (facts.get("model.weights") or {}).get("outline") or {}
    resized = facts["recipe.values"].get("resize_vocab") is True
    for name, told in (state.get("outline") or {}).items():
        there = (model.get(name) or {}).get("shapes")
        if resized and name.endswith(adapter_tensors_judged.OF_VOCABULARY):
            continue
        if there and not all(shape in there for shape in told["shapes"]):
            other = next(shape for shape in told["shapes"] if shape not in there)
            return f"{name} is {other} in it, {there[0]} in the model"
    return None


def _elsewhere(facts: Facts) -> dict[str, Any]:
    """A run that begins anew takes another output_dir: unsetting resume_from_checkpoint changes nothing."""
    free = (facts.get("arguments.output_dir") or {}).get("free")
    return {"nothing_to_resume": False} | ({"output_dir_suggestion": free} if free else {})


def _steps_left(facts: Facts, state: Mapping[str, Any]) -> Iterator[Finding]:
    """max_steps counts from the beginning, not from the checkpoint."""
    done, steps, key = state.get("steps_done"), facts["recipe.values"].get("max_steps"), "max_steps"
    if isinstance(done, int) and isinstance(steps, int) and 0 < steps <= done:
        what = f"{key}: {steps}, and {state['path']} was saved at step {done}: no step is left to train"
        again = state.get("key") == "output_dir"  # the recipe of a run that came to its end, started once more
        severity = Severity.WARNING if again else None
        yield _finding("cfg-does-not-train", what, in_recipe(facts, key), severity, why_not=what, key=key)


def output_dir_free(facts: Facts) -> Iterator[Finding]:
    """Weights without a checkpoint in output_dir are refused; a checkpoint there is resumed from without a word."""
    state, given = facts["arguments.output_dir"], facts["recipe.values"]
    resumes = given.get("resume_from_checkpoint") not in (None, False)
    if not state or not state["exists"] or resumes or not run_folders.goes_on(given):
        return
    details = {"output_dir": state["path"], "output_dir_suggestion": state["free"], "key": "output_dir"}
    if state["checkpoint"]:
        details["last_checkpoint"] = state["checkpoint"]
        what = f"training would go on from {state['checkpoint']}; choose another output_dir to start anew"
        yield _finding("cfg-output-dir-not-empty", what, in_recipe(facts, "output_dir"), Severity.INFO, **details)
    elif state["weights"]:
        what = f"{state['path']} already holds {', '.join(state['weights'])}"
        yield _finding("cfg-output-dir-not-empty", what, in_recipe(facts, "output_dir"), **details)


ALL = (checkpoint_to_resume, output_dir_free)
