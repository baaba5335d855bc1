"""Lines as tqdm, transformers 4.46 and 5.6, and LLaMA-Factory print them."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.train.trainer_lines import Bar, Count, Logged, Phase, ordinary, parse, trainer_log

BAR = " 25%|██▌       | 1/4 [00:00<00:02,  1.29it/s]"
OLD = "{'loss': 6.9449, 'grad_norm': 1.3128056598629156, 'learning_rate': 8.535533905932739e-06, 'epoch': 0.25}"
NEW = "{'loss': '6.95', 'grad_norm': '1.327', 'learning_rate': '1e-05', 'epoch': '0.25'}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (BAR, [Bar(1, 4, None, 0)]),
        ("100%|██████████| 4/4 [01:02:03<00:00,  1.12it/s][INFO|trainer.py:3801] >> x", [Bar(4, 4, None, 3723)]),
        ("Running tokenizer on dataset (num_proc=16):  50%|█▌ | 8/16 [00:07<00:07, 1.1 examples/s]",
         [Bar(8, 16, "Running tokenizer on dataset (num_proc=16)", 7)]),
        ("  0%|          | 0/4 [00:00<?, ?it/s]", [Bar(0, 4)]),
        ("[INFO|trainer.py:1478] 2026-11-23 19:11:17,946 >>   Total optimization steps = 1,531", [Count("total", 1531)]),
        ("[INFO] >>   Total train batch size (w. parallel, distributed & accumulation) = 96", [Count("batch", 96)]),
        ("[INFO] >>   Continuing training from global step 300", [Count("start", 300)]),
        ("[INFO] >> ***** Running training *****", [Phase("training")]),
        ("[INFO] >> Saving model checkpoint to saves/a b/checkpoint-4", [Phase("saving", "saves/a b/checkpoint-4")]),
        ("***** train metrics *****", [Phase("done")]),
        ("[INFO|configuration_utils.py:414] >> Configuration saved in /home/user/config.json", []),
        ("{'task': {'name': 'Causal Language Modeling', 'type': 'text-generation'}}", []),
    ],
)  # fmt: skip
def test_a_line(line, said):
    assert parse(line) == said


@pytest.mark.parametrize("line", [OLD, NEW])
def test_logged_values_of_both_generations(line):
    (logged,) = parse(line)
    assert isinstance(logged, Logged)
    assert logged.of_step
    assert logged.values["loss"] == pytest.approx(6.945, abs=0.01)
    assert logged.values["epoch"] == 0.25


def test_nan_is_a_value():
    (logged,) = parse("{'loss': 0.0, 'grad_norm': nan, 'learning_rate': 1e-05, 'epoch': 0.1}")
    assert math.isnan(logged.values["grad_norm"])
    (logged,) = parse("{'loss': 'nan', 'grad_norm': 'inf', 'learning_rate': '1e-05'}")
    assert math.isnan(logged.values["loss"])
    assert math.isinf(logged.values["grad_norm"])


COUNTING = (  # include_num_input_tokens_seen: each step's line has its figures of the run so far
    "{'loss': '11.93', 'grad_norm': '0.089', 'learning_rate': '4e-06', 'epoch': '0.1', 'num_input_tokens_seen': 16384, "
    "'train_runtime': '3.09', 'train_tokens_per_second': '5302'}"
)


def test_a_step_that_counts_its_tokens_is_no_end_of_the_run():
    (logged,) = parse(COUNTING)
    assert logged.of_step
    assert not logged.of_run
    assert logged.values["num_input_tokens_seen"] == 16384


def test_results_of_evaluation_and_training_are_no_steps():
    (evaluated,) = parse("{'eval_loss': 1.5, 'eval_runtime': 3.2, 'epoch': 1.0}")
    (ended,) = parse("{'train_runtime': 3.5854, 'train_loss': 6.9, 'epoch': 1.0}")
    assert not evaluated.of_step
    assert not ended.of_step
    assert ended.of_run
    assert not evaluated.of_run


def test_trainer_log_rows():
    row = {"current_steps": 3, "total_steps": 12, "loss": 5.8, "lr": 1e-5, "epoch": 0.5, "throughput": 900.5}
    found = {"step": 3, "total": 12, "loss": 5.8, "learning_rate": 1e-5, "epoch": 0.5, "tokens_per_second": 900.5}
    assert trainer_log(json.dumps(row)) == found
    assert trainer_log(json.dumps(row)[:40]) is None
    assert parse(json.dumps(row)) == [
        Count("total", 12),
        Logged({"loss": 5.8, "learning_rate": 1e-5, "epoch": 0.5}),
        Bar(3, 12),
    ]


def test_what_the_live_view_leaves_out():
    assert not ordinary(BAR)
    assert not ordinary(OLD)
    assert ordinary("[WARNING] something odd at 25% of | the way")


@given(st.text(alphabet=st.sampled_from("{}'%|[]<>:,./0123456789naifloss eE+-\x1b█"), max_size=200))
def test_no_line_is_too_odd(line):
    parse(line)
    parse(BAR[:20] + line)
