"""Rank 0 tells the figures of a finished training; whether the run was well depends on everybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor.diagnose import Diagnosis, diagnose

BEGIN = "[INFO|trainer.py:2313] 2026-11-26 10:00:00,000 >> ***** Running training *****\n"
FIGURES = "{'train_runtime': 61.2, 'train_samples_per_second': 3.3, 'train_loss': 0.71, 'epoch': 3.0}\n"
SAVED = "[INFO|tokenization_utils_base.py:2421] 2026-11-26 10:09:00,000 >> tokenizer config file saved in saves/x\n"
FULL_DISK = (
    "{p}Traceback (most recent call last):\n"
    '{p}  File "/home/user/LLaMA-Factory/src/llamafactory/train/tuner.py", line 50, in run_exp\n'
    "{p}    trainer.save_model()\n"
    "{p}OSError: [Errno 122] Disk quota exceeded\n"
)
DEAD_CHILD = (
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
    "============================================================\n"
    "train.py FAILED\n"
    "Root Cause (first observed failure):\n"
    "[0]:\n"
    "  rank      : 1 (local_rank: 1)\n"
    "  exitcode  : 1 (pid: 4242)\n"
)


def told(*logs: Path) -> Diagnosis:
    return diagnose(list(logs))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("prefix", ["[rank1]: ", ""])
@pytest.mark.parametrize("launcher", [DEAD_CHILD, ""])
def test_a_rank_that_died_while_rank_0_told_its_figures(tmp_path: Path, prefix: str, launcher: str) -> None:
    log = write(tmp_path / "run.log", BEGIN + FULL_DISK.format(p=prefix) + FIGURES + launcher)
    result = told(log)
    if not prefix and not launcher:  # nobody says that it was not overcome
        assert (result.findings, result.ended_well) == ((), True)
        return
    assert (result.findings[0].cause, result.ended_well) == ("disk-quota", False)


def test_a_dead_child_after_the_figures_is_no_good_end_even_where_the_failure_is_not_known(tmp_path: Path) -> None:
    unknown = FULL_DISK.format(p="[rank1]: ").replace("OSError: [Errno 122] Disk quota exceeded", "FooError: spam")
    result = told(write(tmp_path / "run.log", BEGIN + unknown + FIGURES + DEAD_CHILD))
    assert result.findings == ()
    assert result.unrecognised is not None
    assert (result.unrecognised.exception, result.unrecognised.rank) == ("FooError", 1)


def test_an_earlier_launch_that_died_is_over_when_the_next_one_ended_well(tmp_path: Path) -> None:
    first = BEGIN + FULL_DISK.format(p="[rank1]: ") + DEAD_CHILD
    result = told(write(tmp_path / "run.log", first + BEGIN + FIGURES))
    assert (result.findings, result.ended_well) == ((), True)


def test_an_earlier_launch_is_not_blamed_for_what_failed_after_the_good_end(tmp_path: Path) -> None:
    later = FULL_DISK.format(p="").replace("OSError: [Errno 122] Disk quota exceeded", "FooError: spam")
    result = told(write(tmp_path / "run.log", BEGIN + FULL_DISK.format(p="") + FIGURES + later + DEAD_CHILD))
    assert result.findings == ()
    assert result.unrecognised is not None
    assert result.unrecognised.exception == "FooError"


@pytest.mark.parametrize("failing", [1, 3])
def test_of_a_folder_of_ranks_the_one_that_failed_counts_not_the_others_that_ended_well(
    tmp_path: Path, failing: int
) -> None:
    for rank in range(4):
        place = tmp_path / "run-1" / "attempt_0" / str(rank)
        write(place / "stdout.log", FIGURES if rank == 0 else "")
        write(place / "stderr.log", BEGIN + (FULL_DISK.format(p="") if rank == failing else SAVED))
    found = told(tmp_path).findings[0]
    assert (found.cause, found.rank) == ("disk-quota", failing)


def test_what_a_rank_overcame_is_over_though_its_other_stream_tells_the_good_end(tmp_path: Path) -> None:
    place = tmp_path / "attempt_0" / "0"
    write(place / "stdout.log", FIGURES)
    write(place / "stderr.log", BEGIN + FULL_DISK.format(p="") + SAVED)
    result = told(tmp_path)
    assert (result.findings, result.ended_well) == ((), True)


def test_of_two_nodes_the_one_that_failed_counts(tmp_path: Path) -> None:
    good = write(tmp_path / "node0.log", BEGIN + FIGURES)
    bad = write(tmp_path / "node1.log", BEGIN + FULL_DISK.format(p=""))
    assert told(good, bad).findings[0].cause == told(bad, good).findings[0].cause == "disk-quota"


def wandb_run(root: Path, output: str) -> Path:
    """What wandb keeps of a run: the console without colours in files/output.log, its own two logs beside it."""
    run = root / "wandb" / "run-20261126_100000-k3v9x2ab"
    write(run / "files" / "output.log", output)
    write(run / "files" / "requirements.txt", "torch==2.5.1\ntransformers==4.46.1\n")
    write(run / "files" / "config.yaml", "learning_rate:\n  value: 1e-05\n")
    write(
        run / "logs" / "debug.log",
        "2026-11-26 10:00:00,000 INFO    MainThread:77 [wandb_setup.py:_flush():67] Starting\n",
    )
    write(
        run / "logs" / "debug-internal.log",
        '{"time":"2026-11-26T10:00:00Z","level":"INFO","msg":"stream: starting","core version":"0.18.7"}\n'
        '{"time":"2026-11-26T10:00:09Z","level":"ERROR","msg":"monitor: neuron: failed to start: not found"}\n',
    )
    return run


STEPS = "".join(
    f"{{'loss': {2 - step / 10:.4f}, 'grad_norm': 1.0, 'learning_rate': 1e-05, 'epoch': 0.{step}}}\n"
    f" {step}%|{'█' * step}{' ' * (10 - step)}| {step}/40 [00:0{step}<01:00,  1.50s/it]\n"
    for step in range(1, 6)
)


@pytest.mark.parametrize("whole_run", [True, False], ids=["the folder of the run", "output.log"])
def test_what_wandb_kept_of_the_console_is_read_like_the_console(tmp_path: Path, whole_run: bool) -> None:
    run = wandb_run(tmp_path, BEGIN + STEPS + FULL_DISK.format(p=""))
    result = told(run if whole_run else run / "files" / "output.log")
    assert [finding.cause for finding in result.findings] == ["disk-quota"]
    assert "output.log" in result.findings[0].evidence[0].where or not whole_run


def test_a_run_that_wandb_saw_end_well_gives_nothing_though_its_own_log_complains(tmp_path: Path) -> None:
    result = told(wandb_run(tmp_path, BEGIN + STEPS + FIGURES))
    assert (result.findings, result.unrecognised, result.ended_well) == ((), None, True)


def test_a_step_that_counts_its_tokens_is_no_good_end(tmp_path: Path) -> None:
    """With include_num_input_tokens_seen every step's line has a train_runtime."""
    step = (
        "{'loss': '1.93', 'grad_norm': '0.08', 'learning_rate': '4e-06', 'epoch': '0.1', 'num_input_tokens_seen': 16384, "
        "'train_runtime': '3.09', 'train_tokens_per_second': '5302'}\n"
    )
    log = write(tmp_path / "train.log", BEGIN + step + FULL_DISK.format(p="") + step)
    assert (told(log).findings[0].cause, told(log).ended_well) == ("disk-quota", False)
    assert not told(write(tmp_path / "cut-off.log", BEGIN + step * 3)).ended_well
