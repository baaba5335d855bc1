"""`check --slurm` on a real Slurm of three slurmd: inside and outside an allocation, nodes that differ, hang or are gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import slurm

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0 or bool(slurm.missing()), reason="needs root, slurm-wlm and munge"),
]
BUDGET = "12"  # seconds


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    with slurm.Cluster(tmp_path_factory.mktemp("slurm"), 3) as started:
        yield started


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text("stage: sft\nsave_strategy: 'no'\n")
    return tmp_path


def check(cluster: slurm.Cluster, workspace: Path, *words: str, **environ: str) -> tuple[int, dict[str, Any], float]:
    """Exit code, document and seconds of one `check`."""
    program = str(Path(sys.executable).parent / "skyt1-doctor")
    argv = [program, "check", "recipe.yaml", "--format", "json", "--budget", BUDGET, *words]
    begun = time.monotonic()
    answer = subprocess.run(
        argv, cwd=workspace, env={**cluster.environ, "MASTER_ADDR": "127.0.0.1", **environ}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    return answer.returncode, json.loads(answer.stdout), time.monotonic() - begun


def test_outside_an_allocation_one_is_made_and_given_back(cluster: slurm.Cluster, workspace: Path) -> None:
    _, content, _ = check(cluster, workspace, "--slurm", "--slurm-options", "-N 3")
    assert content["nodes"] == dict.fromkeys(cluster.names, "answered")
    heard = content["cluster_facts"]["facts"]["meeting.heard"]
    assert [group["nodes"] for group in heard if isinstance(group["value"], list)] == ["node1"]
    assert "launch-rendezvous-timeout" not in {finding["cause"] for finding in content["findings"]}
    assert not list((workspace / ".skyt1-doctor").glob("collector-*"))
    left = subprocess.run(["squeue", "-h"], env=cluster.environ, capture_output=True, text=True, check=True).stdout
    assert left.strip() == "" or " CG " in left


def test_inside_an_allocation_its_nodes_are_asked(cluster: slurm.Cluster, workspace: Path) -> None:
    program = str(Path(sys.executable).parent / "skyt1-doctor")
    argv = ["salloc", "-N", "2", program, "check", "recipe.yaml", "--slurm", "--format", "json", "--budget", BUDGET]
    out = subprocess.run(argv, cwd=workspace, env=cluster.environ, capture_output=True, text=True, timeout=120).stdout
    assert list(json.loads(out)["nodes"]) == ["node1", "node2"]


def test_a_working_directory_that_is_not_shared(cluster: slurm.Cluster, workspace: Path) -> None:
    """The zipapp cannot be laid there, so it comes over standard input; the nodes say what they lack."""
    away = workspace / "away"
    away.mkdir()
    words = ("--slurm", "--slurm-options", "-N 2", "--workdir", str(away))
    os.rename(workspace / "recipe.yaml", away / "recipe.yaml")
    away.chmod(0o755)
    (away / ".skyt1-doctor").write_text("a file where the folder should be")
    _, content, _ = check(cluster, workspace, *words)
    assert set(content["nodes"].values()) == {"answered"}


def test_a_hung_node_is_unknown_and_holds_up_nobody(cluster: slurm.Cluster, workspace: Path) -> None:
    cluster.freeze_node("node3")
    try:
        _, content, seconds = check(cluster, workspace, "--slurm", "--slurm-options", "-N 3")
    finally:
        cluster.freeze_node("node3", frozen=False)
    assert content["nodes"]["node1"] == content["nodes"]["node2"] == "answered"
    assert "unknown" in content["nodes"]["node3"]
    assert seconds < float(BUDGET) + 12
    assert all("node3" not in finding["nodes"] for finding in content["findings"])


def test_a_hung_node_does_not_end_the_others_when_srun_gives_up(cluster: slurm.Cluster, workspace: Path) -> None:
    """After about 15 s srun ends the whole step because of the node that it cannot launch on; the others are asked again."""
    cluster.freeze_node("node3")
    try:
        _, content, _ = check(cluster, workspace, "--slurm", "--slurm-options", "-N 3", "--budget", "40", NNODES="4")
    finally:
        cluster.freeze_node("node3", frozen=False)
    assert content["nodes"]["node1"] == content["nodes"]["node2"] == "answered"
    assert "failed on node node3" in content["nodes"]["node3"]["unknown"]


def test_slurm_says_why_it_gives_no_nodes(cluster: slurm.Cluster, workspace: Path) -> None:
    code, content, _ = check(cluster, workspace, "--slurm", "--slurm-options", "-p nowhere")
    assert code == 2
    assert "invalid partition" in content["error"].lower()


def test_a_capture_is_judged_again_elsewhere(cluster: slurm.Cluster, workspace: Path) -> None:
    _, here, _ = check(cluster, workspace, "--slurm", "--slurm-options", "-N 2", "--save-facts", "nodes.json")
    _, there, _ = check(cluster, workspace, "--from", "nodes.json")
    assert there["findings"] == here["findings"]
    assert there["nodes"] == here["nodes"]
