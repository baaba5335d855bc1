"""`train --slurm` on a real Slurm: two processes trained to the end through sbatch; the signal before the time limit, the
requeue and the resume; a node that fails; a job that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster import slurm, toy

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0 or bool(slurm.missing()), reason="needs root, slurm-wlm and munge"),
    pytest.mark.timeout(1800),
]
LIMIT = 900.0  # seconds for one job with its requeues; Slurm waits two minutes before each new start
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return toy.environment(tmp_path_factory.mktemp("env"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[slurm.Cluster]:
    with slurm.Cluster(tmp_path / "slurm", 3) as started:
        yield started


class Submitted:
    """A job of `train --slurm`, followed through scontrol."""

    def __init__(
        self, cluster: slurm.Cluster, place: Any, environment: Any, options: str,
        words: tuple[str, ...] = ("--force", "--no-rehearse"), **environ: str,
    ) -> None:  # fmt: skip
        self.cluster, self.place = cluster, place
        program = str(Path(sys.executable).parent / "skyt1-doctor")
        argv = [program, "train", "--slurm", "--slurm-options", options, *words]
        given = {**cluster.environ, "NPROC_PER_NODE": "1", "LOCAL_SIZE": "1", **environ}
        out = subprocess.run(
            [*argv, "--python", str(environment.python)], cwd=place.root, env=given, capture_output=True, text=True,
            check=True, timeout=120,
        ).stdout  # fmt: skip
        self.number = out.strip()
        (self.folder,) = (place.root / ".skyt1-doctor" / "runs").iterdir()

    def field(self, name: str) -> str:
        argv = ["scontrol", "show", "job", self.number]
        text = subprocess.run(
            argv, env=self.cluster.environ, capture_output=True, text=True, check=True, timeout=30
        ).stdout
        return next((word.partition("=")[2] for word in text.split() if word.startswith(f"{name}=")), "")

    def wait(self, seconds: float = LIMIT) -> str:
        end = time.monotonic() + seconds
        while (state := self.field("JobState")) not in ENDED:
            assert time.monotonic() < end, f"{state}\n{self.log()}"
            time.sleep(1)
        return state

    def log(self) -> str:
        return (self.folder / "job.log").read_text(errors="replace")


def test_two_processes_are_trained_to_the_end(cluster: slurm.Cluster, environment: Any, tmp_path: Path) -> None:
    """In a folder whose name needs every kind of quoting, submitted from a shell with the recipe's usual MASTER_ADDR."""
    root = tmp_path / "it's 数据 50%j"
    root.mkdir()
    job = Submitted(
        cluster, toy.place(root, environment), environment, "-N 2 --time=10", MASTER_ADDR="127.0.0.1"
    )  # fmt: skip
    assert job.wait() == "COMPLETED", job.log()
    assert job.place.trained()
    names = sorted(path.name for path in (job.folder / "ranks").iterdir())
    assert [name for name in names if name.endswith("err.log")] == ["rank0.node1.err.log", "rank1.node2.err.log"]


def test_the_nodes_are_checked_and_the_recipe_rehearsed_before_the_first_start(
    cluster: slurm.Cluster, environment: Any, tmp_path: Path
) -> None:
    job = Submitted(cluster, toy.place(tmp_path, environment), environment, "-N 2 --time=15", words=())
    assert job.wait() == "COMPLETED", job.log()
    assert "2 of 2 nodes answered" in job.log()
    assert job.log().index("nodes answered") < job.log().index("rehears") < job.log().index("2 nodes (node[1-2])")
    assert job.place.trained()


def test_a_job_whose_nodes_do_not_pass_the_gate_is_not_launched(
    cluster: slurm.Cluster, environment: Any, tmp_path: Path
) -> None:
    place = toy.place(tmp_path, environment)
    job = Submitted(cluster, place, environment, "-N 2 --time=10", words=(), GLOO_SOCKET_IFNAME="eth77")
    assert job.wait() == "FAILED"
    assert "nccl-socket-ifname" in job.log()
    assert not (job.folder / "train.log").exists()


def test_a_job_that_fails_names_where_to_look(cluster: slurm.Cluster, environment: Any, tmp_path: Path) -> None:
    place = toy.place(tmp_path, environment)
    place.data.write_text("[")
    job = Submitted(cluster, place, environment, "-N 2 --time=10")
    assert job.wait() == "FAILED"
    assert f"skyt1-doctor diagnose {job.folder}/ranks" in job.log()
    assert "✗ data-invalid-json" in job.log()
    program = str(Path(sys.executable).parent / "skyt1-doctor")
    argv = [program, "diagnose", str(job.folder / "ranks"), "--format", "json"]
    content = json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout)
    assert content["findings"][0]["cause"] == "data-invalid-json"
    assert "node" in content["findings"][0]["evidence"][0]["where"]


def test_before_the_time_limit_it_saves_and_goes_on_after_the_requeue(
    cluster: slurm.Cluster, environment: Any, tmp_path: Path
) -> None:
    """With DeepSpeed: several CPU ranks without it cannot resume (ckpt-resume-cpu-ranks)."""
    place = toy.place(tmp_path, environment, max_steps=150, save_steps=100000)
    place.write_deepspeed()
    place.write_rows(place.rows() * 20)
    job = Submitted(cluster, place, environment, "-N 2 --time=2 --signal=B:USR1@45")
    assert job.wait() == "COMPLETED", job.log()
    assert int(job.field("Restarts")) >= 1
    assert "is saved; the job goes on after a requeue" in job.log()
    assert "goes on from" in job.log()
    state = json.loads((place.root / "saves/toy/trainer_state.json").read_text())
    assert state["global_step"] == 150


def test_a_node_that_fails_is_left_and_the_job_starts_elsewhere(
    cluster: slurm.Cluster, environment: Any, tmp_path: Path
) -> None:
    place = toy.place(tmp_path, environment, max_steps=150, save_steps=20)
    place.write_deepspeed()
    place.write_rows(place.rows() * 20)
    job = Submitted(cluster, place, environment, "-N 2 --time=20")
    end = time.monotonic() + LIMIT
    while not (place.root / "saves/toy/checkpoint-20/latest").exists():
        assert time.monotonic() < end, job.log()
        time.sleep(0.5)
    cluster.end_node("node2")
    # Its step dies with it, the daemon of the step first: it would tell Slurm of an exit code, which a dead node does not.
    ranks = [p for p in psutil.process_iter() if b"--node_rank\x001" in _command(Path(f"/proc/{p.pid}"))]
    daemons = [parent for rank in ranks for parent in rank.parents() if parent.name().startswith("slurmstepd")]
    assert daemons
    for process in [*daemons, *ranks]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert job.wait() == "COMPLETED", job.log()
    assert "goes on from" in job.log()


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
