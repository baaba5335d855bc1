"""Files that are whole, and that the installed libraries do not read: their form is newer, or their kind is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from packaging.version import Version

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe
from doctor.probes import Judgement
from doctor.probes.packages import version_of
from doctor.target import Target

ID = "readers"
AFTER: tuple[str, ...] = ("model",)

_found = partial(found, ID)

# A merge as a list of two, as tokenizers writes it since 0.20; before it was a text with one space.
_PAIRS = re.compile(rb'"merges"\s*:\s*\[\s*\[')


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`readers.merges_are_pairs`: of tokenizer.json."""
    folder = facts.get("model.path") if facts.get("model.local") else facts.get("model.cached_path")
    try:
        pairs = bool(folder and _PAIRS.search((Path(str(folder)) / "tokenizer.json").read_bytes()))
    except OSError:
        pairs = False
    return {"readers.merges_are_pairs": pairs}


def tokenizer_of_newer_library(facts: Facts) -> Iterator[Finding]:
    have = version_of(facts, "tokenizers")
    if have and have < Version("0.20") and facts["readers.merges_are_pairs"]:
        what = f"the merges of tokenizer.json are pairs, as tokenizers 0.20 and newer write them; {have} is installed"
        yield _found("tok-tokenizers-too-old", what, in_recipe(facts, "model_name_or_path"))


def torch_load_is_allowed(facts: Facts) -> Iterator[Finding]:
    """transformers after 4.51.3 refuses torch.load under a torch before 2.6 (utils/import_utils.py,
    check_torch_load_is_safe): weights in .bin files, and the states of a run that is resumed."""
    torch, transformers = version_of(facts, "torch"), version_of(facts, "transformers")
    if not torch or not transformers or torch >= Version("2.6") or transformers <= Version("4.51.3"):
        return
    needs = f"transformers {transformers} reads with torch 2.6 or newer only; {torch} is installed"
    states = _states(facts)
    if (facts.get("model.weights") or {}).get("format") == "bin":
        what = f"the weights are .bin files, which {needs}"
        yield _found("ckpt-torch-load-needs-2.6", what, in_recipe(facts, "model_name_or_path"))
    elif states:
        what = f"the run would go on from {', '.join(states[:3])}, which {needs}"
        yield _found("ckpt-torch-load-needs-2.6", what, in_recipe(facts, _resumed(facts)))


def random_states_are_plain(facts: Facts) -> Iterator[Finding]:
    """torch 2.6 loads plain tensors only, and the random states hold NumPy's; transformers from 4.47 on allows them."""
    torch, transformers = version_of(facts, "torch"), version_of(facts, "transformers")
    if not torch or not transformers or torch < Version("2.6") or transformers >= Version("4.47"):
        return
    environ = facts.get("launch.environ") or {}
    states = [name for name in _states(facts) if name.startswith("rng_state")]
    if states and not environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        what = (
            f"{states[0]} holds NumPy objects, which torch {torch} loads where transformers 4.47 or newer allows them"
        )
        details: dict[str, Any] = {"global": "numpy"}
        where = in_recipe(facts, _resumed(facts))
        yield _found("ckpt-torch-load-weights-only", f"{what}; {transformers} is installed", where, **details)


def _states(facts: Facts) -> list[str]:
    states: list[str] = (facts.get("arguments.resume") or {}).get("torch_files", [])
    return states


def _resumed(facts: Facts) -> str:
    return str((facts.get("arguments.resume") or {}).get("key", "resume_from_checkpoint"))


JUDGEMENTS: tuple[Judgement, ...] = (tokenizer_of_newer_library, torch_load_is_allowed, random_states_are_plain)
