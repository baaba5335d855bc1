"""The job script: what it asks Slurm for, what it exports, and that bash can read it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from doctor.cluster import on_node, script
from doctor.errors import BadInput
from tests.support import checkpoints


def job(root: Path, **changes: Any) -> script.Job:
    values: dict[str, Any] = {
        "folder": root / "run", "workdir": root, "recipe": "recipe.yaml", "python": Path("/env/bin/python"),
        "scripts": Path("/env/bin"), "doctor": None, "options": ("-N", "3", "--time=1-0"), "environ": {}, "name": "sft",
        "seconds_to_save": 580, "check": True, "rehearse": True,
    }  # fmt: skip
    return script.Job(**{**values, **changes})


def test_what_it_asks_slurm_for(tmp_path: Path) -> None:
    asked = [line for line in script.text(job(tmp_path)).splitlines() if line.startswith("#SBATCH")]
    assert asked == [
        "#SBATCH --job-name=sft", "#SBATCH -N 3", "#SBATCH --time=1-0", "#SBATCH --ntasks-per-node=1",
        f"#SBATCH --chdir={tmp_path}", f"#SBATCH --output={tmp_path}/run/job.log", "#SBATCH --open-mode=append",
        "#SBATCH --requeue", "#SBATCH --signal=B:USR1@580",
    ]  # fmt: skip


def test_the_users_own_signal_wins(tmp_path: Path) -> None:
    text = script.text(job(tmp_path, options=("-N", "1", "--signal=B:USR1@60")))
    assert text.count("#SBATCH --signal=") == 1


@pytest.mark.parametrize("changes", [{}, {"doctor": Path("/opt/with space/doctor")}, {"environ": {"A": "b c'd"}}])
def test_bash_can_read_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    place = tmp_path / "job.sh"
    place.write_text(script.text(job(tmp_path / "it's here", **changes)))
    subprocess.run(["bash", "-n", str(place)], check=True)


@pytest.mark.parametrize(
    "words",
    [["--ntasks-per-node=8"], ["-n8"], ["--requeue"], ["-o", "x"], ["--export=NONE"], ["--array=0-3"], ["stray"]],
)
def test_options_that_would_break_it_are_refused(words: list[str]) -> None:
    with pytest.raises(BadInput):
        script.directives(words)


def test_the_nodes_are_checked_before_the_first_start_only(tmp_path: Path) -> None:
    text = script.text(job(tmp_path, doctor=Path("/opt/skyt1-doctor")))
    assert "\nDOCTOR=/opt/skyt1-doctor\n" in text
    assert '[ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then\n  "$DOCTOR" check recipe.yaml' in text
    assert '"$DOCTOR" rehearse' in text
    assert (
        "rehearse" not in script.text(job(tmp_path, doctor=Path("/opt/skyt1-doctor"), rehearse=False)).split("\n", 1)[1]
    )


def test_a_large_checkpoint_is_given_more_time() -> None:
    assert script.seconds_to_save(None) == 120
    assert script.seconds_to_save(459 * 10**9) == 579


@pytest.mark.parametrize(
    ("option", "seconds"),
    [
        ("--time=90", 5400), ("-t90", 5400), ("--time=90:30", 5430), ("--time=1:30:00", 5400), ("--time=2-0", 172800),
        ("--time=1-12:30", 131400), ("--time=0-0:1:2", 62), ("--time=UNLIMITED", None), ("--tmp=9", None),
    ],
)  # fmt: skip
def test_the_time_limit_is_read_as_sbatch_reads_it(option: str, seconds: float | None) -> None:
    assert script.limit(["-N", "3", option]) == seconds
    assert script.limit(["-t", "5", "-N", "3"]) == 300


def test_a_time_limit_that_leaves_no_time_to_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="600 s, of which 580 s"):
        script.text(job(tmp_path, options=("--time=10",)))
    assert "USR1@60" in script.text(job(tmp_path, options=("--time=10", "--signal=B:USR1@60")))


def test_a_percent_sign_in_a_folder_is_no_pattern_of_slurms(tmp_path: Path) -> None:
    text = script.text(job(tmp_path / "50%j"))
    assert "50%%j/run/job.log" in text
    assert "50%%j/run/train.log" in text


def test_a_port_is_free_and_away_from_outgoing_connections() -> None:
    port = on_node.free_port(77)
    assert 20000 <= port < 32000
    with socket.create_server(("", port)):
        assert on_node.free_port(77) == port + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("output_dir: saves  # keep\nmax_steps: 9\n")
    known = {"workdir": str(tmp_path), "output_dir": "saves", "overwrite_output_dir": False, "nproc": 1}
    (run / "job.json").write_text(json.dumps({**known, "resume_from_checkpoint": None}))
    return run


def test_the_first_start_takes_the_recipe_as_it_is(folder: Path) -> None:
    assert on_node.recipe(folder, 2, 0) == Path("runs/one/recipe.yaml")


def test_a_requeued_job_goes_on_from_the_last_complete_checkpoint(folder: Path) -> None:
    saves = folder.parents[1] / "saves"
    checkpoints.write(saves / "checkpoint-4", ranks=2)
    checkpoints.write(saves / "checkpoint-6", ranks=2, without="trainer_state.json")
    chosen = folder.parents[1] / on_node.recipe(folder, 2, 1)
    assert f"resume_from_checkpoint: {saves}/checkpoint-4" in chosen.read_text()
    assert chosen.read_text().startswith("output_dir: saves  # keep\n")
    assert sorted(path.name for path in saves.iterdir()) == ["checkpoint-4", "incomplete-checkpoint-6"]


def test_a_job_that_is_submitted_once_more_goes_on_too(folder: Path) -> None:
    on_node.recipe(folder, 2, 0)
    checkpoints.write(folder.parents[1] / "saves" / "checkpoint-4", ranks=2)
    chosen = folder.parents[1] / on_node.recipe(folder, 2, 0)
    assert "saves/checkpoint-4" in chosen.read_text()


def test_without_any_checkpoint_it_begins_anew(folder: Path) -> None:
    assert on_node.recipe(folder, 2, 1) == Path("runs/one/recipe.yaml")


def test_with_overwriting_an_earlier_runs_checkpoint_is_not_taken(folder: Path) -> None:
    saves = folder.parents[1] / "saves"
    checkpoints.write(saves / "checkpoint-4", ranks=2)
    long_ago = time.time() - 10000
    for path in saves.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    known = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**known, "overwrite_output_dir": True}))
    on_node.recipe(folder, 2, 0)
    assert on_node.recipe(folder, 2, 1) == Path("runs/one/recipe.yaml")
