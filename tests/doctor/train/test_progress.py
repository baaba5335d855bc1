"""Where a run stands, fed with real lines and made-up times."""

import pytest

from doctor.train.progress import Progress, row

START = [
    "[INFO|trainer.py:2314] >> ***** Running training *****",
    "[INFO|trainer.py:2316] >>   Num Epochs = 2",
    "[INFO|trainer.py:2319] >>   Total train batch size (w. parallel, distributed & accumulation) = 8",
    "[INFO|trainer.py:2322] >>   Total optimization steps = 10",
]


def bar(step, total=10):
    return f"{step * 10:3d}%|###| {step}/{total} [00:{step:02d}<00:05,  1.00it/s]"


def logged(step, loss=2.0, **more):
    values = {"loss": loss, "grad_norm": 1.0, "learning_rate": 1e-05, "epoch": step / 5, **more}
    return str(values)


def fed(lines, begin=0.0, seconds=1.0):
    progress = Progress(begin)
    done = []
    for number, line in enumerate(lines):
        done += progress.feed([line], "", begin + number * seconds)
    return progress, done


def test_the_bar_after_logged_values_names_their_step():
    _, done = fed([*START, bar(0), logged(1), bar(1), bar(2), logged(2), bar(2), logged(3), bar(3)])
    assert [one.step for one in done] == [1, 2, 3]


def test_a_step_s_rates():
    progress, done = fed([*START, *[line for step in range(1, 7) for line in (logged(step), bar(step))]])
    assert progress.median_seconds() == 2.0
    assert progress.seconds_left() == 8.0
    assert row(done[-1], progress.total) == {
        "step": 6, "total": 10, "epoch": 1.2, "loss": 2.0, "learning_rate": 1e-05, "grad_norm": 1.0,
        "step_seconds": 2.0, "tokens_per_second": None, "samples_per_second": 4.0,
    }  # fmt: skip


def test_steps_that_count_their_tokens_tell_the_rate_by_the_trainer_s_clock():
    """transformers 5.6 with include_num_input_tokens_seen; we see lines a while after they were written."""
    counted = [(logged(n, num_input_tokens_seen=8192 * n, train_runtime=2.5 + n * 0.5), bar(n)) for n in (1, 2, 3)]
    _, done = fed([*START, *(line for lines in counted for line in lines)], seconds=0.7)
    assert [one.tokens_per_second for one in done] == [None, 16384, 16384]
    by_us = [(logged(n, num_input_tokens_seen=8192 * n), bar(n)) for n in (1, 2)]
    _, done = fed([*START, *(line for lines in by_us for line in lines)])
    assert [one.tokens_per_second for one in done] == [None, 4096]


def test_steps_that_are_read_together_share_the_time():
    progress, _ = fed([*START, logged(1), bar(1)])
    done = progress.feed([logged(2), bar(2), logged(3), bar(3)], "", 7.0)  # step 1 was seen at 5.0
    assert [one.seconds for one in done] == [1.0, 1.0]
    assert list(progress.durations) == [1.0]


def test_without_bars_the_epoch_tells_the_step():
    progress, done = fed([*START, logged(1), logged(2), logged(3), "{'train_runtime': 3.0, 'train_loss': 2.0}"])
    assert [one.step for one in done] == [1, 2, 3]
    assert progress.step == 3


def test_an_evaluation_s_bar_is_no_training_step():
    lines = [*START, logged(1), bar(1), "***** Running Evaluation *****", bar(7), bar(9)]
    progress, _ = fed(lines)
    assert (progress.step, progress.phase) == (1, "evaluating")
    progress.feed(["{'eval_loss': 1.5, 'eval_runtime': 3.2, 'epoch': 1.0}"], "", 500.0)
    assert progress.phase == "training"
    assert progress.moved == 500.0  # the evaluation is no step that took long
    progress.feed([bar(2)], "", 501.0)
    assert progress.durations[-1] == 1.0


def test_a_resumed_run_begins_where_it_says():
    progress, done = fed([*START, "  Continuing training from global step 6", logged(7), bar(7), logged(8), bar(8)])
    assert (progress.start, progress.step, [one.step for one in done]) == (6, 8, [7, 8])


def test_a_run_joined_late_has_the_bar_s_own_pace():
    progress = Progress(0.0)
    for line in [*START, *[bar(step) for step in range(1, 8)]]:
        progress.feed([line], "", 0.0)  # all at once, from the file
    assert progress.median_seconds() == 1.0


def test_a_bar_that_stands_is_seen_before_its_line_ends():
    progress, _ = fed([*START, logged(1)])
    (done,) = progress.feed([], "\r" + bar(1), 9.0)
    assert done.step == 1
    assert progress.feed([], "\r 20%|###| 2/1", 9.5) == []


@pytest.mark.parametrize("end", ["***** train metrics *****"])
def test_the_end(end):
    progress, _ = fed([*START, logged(1), bar(1), end])
    assert progress.phase == "done"
