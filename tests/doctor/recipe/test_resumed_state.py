import json
from pathlib import Path

import pytest

from doctor.recipe import resumed_state
from doctor.recipe.resumed_state import Reader
from tests.doctor.recipe import torch_written

READER = Reader(frozenset({"global_step", "total_flos", "log_history", "train_batch_size", "epoch"}), True)
SOURCE = '''
class Other:
    x: int = 0

@dataclass
class TrainerState:
    """
    Args:
        no_field (`int`): in words.
    """

    epoch: float | None = None
    global_step: int = 0

    def save(self):
        text: str = ""
'''


def state(tmp_path, text):
    path = tmp_path / "trainer_state.json"
    path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
    return path


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"global_step": "2"}', '{"global_step": null}', '{"global_step": 1.0}', '{"total_flos": "1"}',
     '{"log_history": ""}', '{"train_batch_size": "1"}', "\ufeff{}".encode(), "{}".encode("utf-16")],
)  # fmt: skip
def test_what_no_run_goes_on_from(tmp_path, text):
    (said,) = resumed_state.trainer_state(state(tmp_path, text), READER)
    assert "trainer_state.json" in said


def test_what_a_run_passes_over(tmp_path):
    text = json.dumps(
        {"global_step": 2, "epoch": "1", "log_history": None, "train_batch_size": None, "total_flos": 0.0}
    )
    assert list(resumed_state.trainer_state(state(tmp_path, text), READER)) == []
    text = '{"train_batch_size": "1"}'  # a transformers that only goes on with it when it looks for a batch size itself
    assert list(resumed_state.trainer_state(state(tmp_path, text), resumed_state.NOBODY)) == []


def test_a_key_of_another_release(tmp_path):
    path = state(tmp_path, '{"global_step": 2, "best_global_step": 1}')
    assert list(resumed_state.foreign_keys(path, resumed_state.NOBODY)) == []
    (said,) = resumed_state.foreign_keys(path, READER)
    assert "best_global_step" in said


def test_the_fields_are_read_from_the_source(tmp_path):
    assert resumed_state.reader([tmp_path]) == resumed_state.NOBODY
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers/__init__.py").write_text("")
    (tmp_path / "transformers/trainer_callback.py").write_text(SOURCE)
    (tmp_path / "transformers/trainer.py").write_text("if state.train_batch_size is not None:\n")
    assert resumed_state.reader([tmp_path]) == Reader(frozenset({"epoch", "global_step"}), True)
    asks = "if state.train_batch_size is not None and args.auto_find_batch_size:\n"
    (tmp_path / "transformers/trainer.py").write_text(asks)
    assert not resumed_state.reader([tmp_path]).takes_batch


@pytest.mark.parametrize(
    ("held", "fault"),
    [({"python": (3, (1, 2), None), "numpy": 1, "cpu": 2}, ""), ({"python": 1, "numpy": 1, "cpu": 2}, "interpreter"),
     ({"cpu": 1}, "python, numpy"), (torch_written.Saved((3,)), "python, numpy, cpu"), ([1], "python, numpy, cpu")],
)  # fmt: skip
def test_random_states(tmp_path, held, fault):
    torch_written.write(tmp_path / "rng_state.pth", held)
    said = list(resumed_state.random_states(tmp_path / "rng_state.pth"))
    assert (len(said) == 1 and fault in said[0]) if fault else said == []


def test_a_scheduler(tmp_path):
    torch_written.write(tmp_path / "scheduler.pt", {"last_epoch": 1})
    assert list(resumed_state.scheduler(tmp_path / "scheduler.pt")) == []
    torch_written.write(tmp_path / "scheduler.pt", [1])
    assert "holds a list" in next(resumed_state.scheduler(tmp_path / "scheduler.pt"))
    assert list(resumed_state.scheduler(Path("/nonexistent/scheduler.pt"))) == []
