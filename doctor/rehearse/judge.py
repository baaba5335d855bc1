"""What the log of a launch shows while it grows: the step, the phase, and in the end which stage a failure belongs to."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from doctor.rehearse.notes import note
from knowledge_base.schema import Text

TRAIN, EVALUATE, SAVE = "train", "evaluate", "save"

# Lines of the Trainer (transformers/trainer.py) and of LLaMA-Factory, all releases from 4.41 on.
_STEP = re.compile(r"\{'loss': '?(?P<loss>[^,'}\s]+)")
_EVALUATED = re.compile(r"'(?:eval|predict)_(?:loss|runtime|bleu-4|rouge-1)': '?(?P<loss>[^,'}\s]+)")
_EVALUATING = re.compile(r"\*{5} Running (?:Evaluation|Prediction) \*{5}")
_SAVING = re.compile(r"Saving model checkpoint to|Configuration saved in|'train_runtime'")
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
    """Follows one launch line by line. `steps` finished, `evaluated`, `seconds` spent in each phase."""

    def __init__(self, total: int, progress: Callable[[Text], None], clock: Callable[[], float]) -> None:
        self.total, self.progress, self.clock = total, progress, clock
        self.phase = TRAIN
        self.since = clock()
        self.seconds = dict.fromkeys((TRAIN, EVALUATE, SAVE), 0.0)
        self.steps = 0
        self.evaluated = False
        self.frames: list[str] = []
        self.told_building = False

    def line(self, text: str) -> None:
        if found := _STEP.search(text):
            self.steps += 1
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


def _short(number: str) -> str:
    try:
        value = float(number)
    except ValueError:
        return number[:12]
    return f"{value:.4g}" if math.isfinite(value) else number
