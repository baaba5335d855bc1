"""What a checkpoint says beside its weights: trainer_state.json, config.json, the random states and the scheduler's.

The Trainer makes a TrainerState of every key in trainer_state.json, so that one key of a newer transformers ends the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from doctor.recipe import json_object, source_tree, torch_file, weight_files
from doctor.recipe.safetensors_header import Tensor

NAME = "trainer_state.json"
# Fields of TrainerState that a run counts on with whole numbers, and with numbers.
_WHOLE, _NUMBERS = ("global_step",), ("total_flos",)
_SAVED = (dict, list, tuple, str, int, float, Tensor)  # objects of other classes are not read
_RANDOM = ("python", "numpy", "cpu")


class Reader(NamedTuple):
    """What the installed transformers does with a state. `fields`: of its TrainerState, none where it is not to be read;
    `takes_batch`: it goes on with the batch size of the state."""

    fields: frozenset[str] = frozenset()
    takes_batch: bool = False


NOBODY = Reader()


def reader(site: Iterable[Path]) -> Reader:
    root = source_tree.package_root("transformers", site)
    if root is None:
        return NOBODY
    body = source_tree.text(root / "trainer_callback.py").partition("\nclass TrainerState")[2].partition("\nclass ")[0]
    trainer = source_tree.text(root / "trainer.py")
    asks = "state.train_batch_size is not None and args.auto_find_batch_size" in trainer
    fields = re.findall(r"^    ([a-z]\w*):", body.partition("    def ")[0], re.MULTILINE)
    return Reader(frozenset(fields), bool(trainer) and not asks)


def trainer_state(path: Path, of: Reader) -> Iterator[str]:
    """What ends the run whoever saved it."""
    try:
        held = json.loads(path.read_bytes().decode())
    except (OSError, RecursionError):
        return  # that it is missing is said where the pieces are counted
    except ValueError as error:
        yield f"{NAME} is not JSON ({str(error)[:120]})"
        return
    if not isinstance(held, dict):
        yield f"{NAME} holds no JSON object"
        return
    for name in (*_WHOLE, *_NUMBERS):
        given, kinds = held.get(name, 0), int if name in _WHOLE else (int, float)
        if isinstance(given, bool) or not isinstance(given, kinds):
            yield f"{name} of {NAME} is {str(given)[:40]!r}; a {'whole ' if name in _WHOLE else ''}number is needed"
    batch, history = held.get("train_batch_size"), held.get("log_history")
    if of.takes_batch and batch is not None and not isinstance(batch, int):
        yield f"train_batch_size of {NAME} is {str(batch)[:40]!r}; a whole number is needed"
    if history is not None and not isinstance(history, list):
        yield f"log_history of {NAME} is a {type(history).__name__}; a list is needed"


def foreign_keys(path: Path, of: Reader) -> Iterator[str]:
    held, _ = json_object.read(path)
    unknown = sorted(str(name) for name in (held or {}) if name not in of.fields)
    if of.fields and unknown:
        shown = ", ".join(unknown[:4])[:120]
        yield f"{NAME} has {shown}, which the installed transformers does not know: another release of it saved this"


def configuration(path: Path) -> Iterator[str]:
    """The Trainer reads the version that saved the weights from it."""
    held, why = json_object.read(path)
    if held is None and why and why != weight_files.MISSING:
        yield f"config.json: {why[:120]}"


def random_states(path: Path) -> Iterator[str]:
    held = _content(path)
    if held is torch_file.UNREAD:
        return
    lacking = [name for name in _RANDOM if name not in held] if isinstance(held, Mapping) else list(_RANDOM)
    if lacking:
        yield f"{path.name} has no random state of {', '.join(lacking)}"
    elif not isinstance(held["python"], (tuple, list)) or len(held["python"]) != 3:
        yield f"{path.name} has no random state of python that the interpreter takes"


def scheduler(path: Path) -> Iterator[str]:
    """torch's LambdaLR takes lr_lambdas out of it; that of plateaus takes any mapping."""
    held = _content(path)
    if held is not torch_file.UNREAD and not isinstance(held, Mapping):
        yield f"{path.name} holds a {type(held).__name__}, and no state of a scheduler"


def _content(path: Path) -> Any:
    held = torch_file.readable(path)
    return held if isinstance(held, _SAVED) else torch_file.UNREAD
