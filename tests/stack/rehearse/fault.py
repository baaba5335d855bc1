"""What a fault of this campaign is: an edit of a healthy workspace that lets `check` pass or not, and breaks the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.stack.reproductions.place import Place

Inject = Callable[[Place], None]


@dataclass(frozen=True)
class Fault:
    """One fault.

    what: one line for the table. causes: what the rehearsal may call it; empty where the knowledge base has no cause of
    its own, and a failure of unknown cause is the right answer. fresh: it needs starts of its own (what is read at
    import). environ: variables of the user's shell. stack: the environment; around: what must hold meanwhile.
    """

    id: str
    what: str
    inject: Inject
    causes: tuple[str, ...] = ()
    stack: str = "sky-t1"
    processes: int = 1
    environ: dict[str, str] = field(default_factory=dict)
    fresh: bool = False
    around: Callable[[Place], AbstractContextManager[Any]] = field(default=lambda place: nullcontext())


def prepare(place: Place, processes: int, environ: dict[str, str]) -> None:
    """The healthy workspace: two epochs of 16 records, checkpoints, the accumulation that the recipe is about."""
    place.set_recipe(
        max_steps=None, num_train_epochs=2.0, save_strategy="steps", save_steps=100, gradient_accumulation_steps=2,
        cutoff_len=128, preprocessing_num_workers=None,
    )  # fmt: skip
    torchrun = "1" if processes > 1 else "0"
    place.environ |= {"NPROC_PER_NODE": str(processes), "FORCE_TORCHRUN": torchrun, **environ}


def recipe(**values: Any) -> Inject:
    return lambda place: place.set_recipe(**values)


def model_json(name: str, **values: Any) -> Inject:
    """Change keys of a JSON file of the model."""

    def inject(place: Place) -> None:
        path = place.model / name
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**content, **values}, indent=1))

    return inject


def row(number: int, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Inject:
    """Change one record of the data."""

    def inject(place: Place) -> None:
        rows = place.rows()
        rows[number] = change(rows[number])
        place.write_rows(rows)

    return inject


def zero(**values: Any) -> Inject:
    """A DeepSpeed file; on the newer stack without bf16, which its transformers refuses on a CPU."""

    def inject(place: Place) -> None:
        place.write_deepspeed(**values)
        if "current" in place.environment.root.name:
            place.set_recipe(bf16=None)

    return inject


def together(*edits: Inject) -> Inject:
    def inject(place: Place) -> None:
        for edit in edits:
            edit(place)

    return inject


def custom_code(body: str) -> Inject:
    """A model with code of its own, a Qwen2 whose class is `body`."""

    def inject(place: Place) -> None:
        code = (
            "import os, time\nimport torch\nfrom torch import nn\nfrom transformers import Qwen2ForCausalLM\n\n" + body
        )
        (place.model / "modeling_odd.py").write_text(code)
        settings = {
            "architectures": ["OddForCausalLM"],
            "auto_map": {"AutoModelForCausalLM": "modeling_odd.OddForCausalLM"},
        }
        model_json("config.json", **settings)(place)  # LLaMA-Factory 0.9.1 trusts the code of every model

    return inject


def write(place: Place, name: str, text: str) -> Path:
    path = place.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
