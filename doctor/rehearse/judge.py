"""What the log of a launch shows while it grows: the step, the phase, and in the end which stage a failure belongs to."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from doctor.rehearse.notes import note
from knowledge_base.schema import Text

EXPLODED = 5.0  # times the first loss
TRAIN, EVALUATE, SAVE = "train", "evaluate", "save"

# Lines of the Trainer (transformers/trainer.py) and of LLaMA-Factory, all releases from 4.41 on.
_STEP = re.compile(r"\{'loss': '?(?P<loss>[^,'}\s]+)")
_NORM = re.compile(r"'grad_norm': '?(?P<norm>[^,'}\s]+)")
_EVALUATED = re.compile(r"'(?:eval|predict)_(?:loss|runtime|bleu-4|rouge-1)': '?(?P<loss>[^,'}\s]+)")
_EVALUATING = re.compile(r"\*{5} Running (?:Evaluation|Prediction) \*{5}")
_SAVING = re.compile(r"Saving model checkpoint to|Configuration saved in|\{'train_runtime'")
_BUILDING = re.compile(r"^\[\d+/\d+\] \S*(?:c\+\+|nvcc|g\+\+|clang)\S* ")
# Functions in a traceback that tell what the trainer was at, innermost first.
_FRAME = re.compile(r'File "[^"]*", line \d+, in (?P<name>\w+)')
_FUNCTIONS = {
    SAVE: re.compile(
        r"^_save$|^_save_(?:checkpoint|optimizer_and_scheduler|rng_state)$"
        r"|^save_(?:model|pretrained|checkpoint|16bit_model|state|metrics)$"
        r"|^_rotate_checkpoints$|^create_modelcard_and_push$|^plot_loss$"
    ),
    EVALUATE: re.compile(r"^evaluate$|^evaluation_loop$|^prediction_step$|^predict$|^compute_metrics$"),
    TRAIN: re.compile(r"^training_step$|^_inner_training_loop$|^get_dataset$|^load_model$|^load_tokenizer$"),
}


class Watch:
    """Follows one launch line by line: `losses` of the steps finished, `evaluated`, `seconds` spent in each phase."""

    def __init__(self, total: int, progress: Callable[[Text], None], clock: Callable[[], float]) -> None:
        self.total, self.progress, self.clock = total, progress, clock
        self.phase = TRAIN
        self.since = clock()
        self.seconds = dict.fromkeys((TRAIN, EVALUATE, SAVE), 0.0)
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.evaluated = False
        self.frames: list[str] = []
        self.told_building = False

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def exploded(self) -> bool:
        """Whether the loss rose to several times that of a random model, which only an absurd step can do."""
        return any(loss > EXPLODED * self.losses[0] > 0 for loss in self.losses)

    @property
    def dead(self) -> bool:
        """Whether a step left a model without any gradient: its weights are beyond what its activations let through."""
        alive = next((n for n, norm in enumerate(self.norms) if norm > 0), len(self.norms))
        return 0.0 in self.norms[alive:]

    def line(self, text: str) -> None:
        if found := _STEP.search(text):
            self.losses.append(_number(found["loss"]))
            if norm := _NORM.search(text):
                self.norms.append(_number(norm["norm"]))
            self.enter(TRAIN)
            self.progress(note("step", step=self.steps, total=self.total, loss=_short(found["loss"])))
        elif found := _EVALUATED.search(text):
            self.evaluated = True
            self.enter(TRAIN)
            if "eval_loss" in found[0]:
                self.progress(note("evaluated", loss=_short(found["loss"])))
        elif _EVALUATING.search(text):
            self.enter(EVALUATE)
        elif _SAVING.search(text):
            self.enter(SAVE)
        elif _BUILDING.search(text) and not self.told_building:
            self.told_building = True
            self.progress(note("building"))
        if frame := _FRAME.search(text):
            self.frames.append(frame["name"])

    def enter(self, phase: str) -> None:
        now = self.clock()
        self.seconds[self.phase] += now - self.since
        self.phase, self.since = phase, now

    def finish(self) -> None:
        self.enter(self.phase)

    def failed_in(self) -> str:
        """The stage of a failure: by the functions of its traceback, else by what was going on."""
        for name in reversed(self.frames):
            for stage, functions in _FUNCTIONS.items():
                if functions.search(name):
                    return stage
        return self.phase


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _short(text: str) -> str:
    value = _number(text)
    return f"{value:.4g}" if math.isfinite(value) else text[:12]
