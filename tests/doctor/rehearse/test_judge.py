"""Which stage a launch is in, and which one a failure belongs to, from lines as the packages print them."""

import pytest

from doctor.rehearse.judge import Watch

STEP_446 = "{'loss': 11.9297, 'grad_norm': 0.84, 'learning_rate': 1e-05, 'epoch': 0.5}"
STEP_5 = "{'loss': '11.93', 'grad_norm': '0.84', 'learning_rate': '1e-05', 'epoch': '0.5'}"
EVALUATED = "{'eval_loss': 11.92, 'eval_runtime': 0.1, 'epoch': 0.5}"
SAVING = "[INFO|trainer.py:3801] 2026-11-24 00:00:00,000 >> Saving model checkpoint to saves/x/checkpoint-1"
EVALUATING = "[INFO|trainer.py:4117] >> ***** Running Evaluation *****"


def watched(*lines):
    ticks = iter(range(1000))
    heard = []
    watch = Watch(2, heard.append, lambda: float(next(ticks)))
    for line in lines:
        watch.line(line)
    watch.finish()
    return watch, [text.en for text in heard]


@pytest.mark.parametrize("step", [STEP_446, STEP_5])
def test_steps_of_all_releases_are_counted(step):
    watch, heard = watched(step, SAVING, step)
    assert watch.steps == 2
    assert heard[-1] == "step 2 of 2: loss 11.93"
    assert watch.seconds["save"] == 1.0


@pytest.mark.parametrize(
    ("losses", "exploded"), [((6.2, 6.1), False), ((6.2, 84211.0), True), ((0.69, 0.7), False), (("nan", 6.0), False)]
)
def test_a_loss_that_explodes_is_seen(losses, exploded):
    watch, _ = watched(*(f"{{'loss': {loss}, 'grad_norm': 1.0}}" for loss in losses))
    assert watch.exploded is exploded


@pytest.mark.parametrize(
    ("norms", "dead"),
    [
        (("2.5", "0.0"), True),
        (("2.5", "2.4"), False),
        (("0.0", "0.0"), False),
        (("0.0", "1.5"), False),
        (("nan", "0.0"), False),
    ],
)
def test_a_step_that_leaves_no_gradient_is_seen(norms, dead):
    """A learning rate of 1e5 on a real toy: loss 6.2251 → 6.2383, grad_norm 2.54 → 0. All zero: a release that logs none."""
    watch, _ = watched(*(f"{{'loss': 6.2, 'grad_norm': {norm}, 'learning_rate': 1.0}}" for norm in norms))
    assert watch.dead is dead
    assert not watched("{'loss': 6.2}", "{'loss': 6.1}")[0].dead


def test_an_evaluation_is_seen_to_begin_and_to_end():
    watch, heard = watched(STEP_446, EVALUATING)
    assert (watch.phase, watch.evaluated) == ("evaluate", False)
    watch, heard = watched(STEP_446, EVALUATING, EVALUATED)
    assert watch.evaluated
    assert heard[-1] == "evaluated: loss 11.92"


def frames(*names):
    return [f'  File "/x/trainer.py", line 7, in {name}' for name in names]


@pytest.mark.parametrize(
    ("names", "stage"),
    [
        (("run_exp", "train", "_inner_training_loop", "training_step", "forward"), "train"),
        (("_inner_training_loop", "_maybe_log_save_evaluate", "_save_checkpoint", "save_model", "save_file"), "save"),
        (("_inner_training_loop", "evaluate", "evaluation_loop", "prediction_step", "forward"), "evaluate"),
        (("run_sft", "get_dataset", "map", "dumps", "save"), "train"),
    ],
)
def test_a_traceback_tells_the_stage(names, stage):
    assert watched(STEP_446, *frames(*names))[0].failed_in() == stage


def test_without_a_traceback_the_phase_tells():
    assert watched(STEP_446, SAVING)[0].failed_in() == "save"


def test_the_first_build_of_an_operator_is_told_once():
    _, heard = watched("[1/3] c++ -MMD cpu_adam.o", "[2/3] c++ -MMD cpu_adam_impl.o", STEP_446)
    assert sum("builds an operator" in line for line in heard) == 1
    _, heard = watched("Building extension module cpu_adam...", "ninja: no work to do.")
    assert heard == []
