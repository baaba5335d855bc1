"""`train --ray`: LLaMA-Factory's own Ray run on raylets of this machine, two workers over gloo, to the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import raylets, toy
from tests.cluster.raylets import Raylets

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not raylets.installed(), reason=f"needs {raylets.VARIABLE} and {raylets.OTHER}"),
]
PROGRAM = str(Path(sys.executable).parent / "skyt1-doctor")


def test_two_workers_are_trained_to_the_end(tmp_path: Path) -> None:
    """LLaMA-Factory 0.9.5 wants 10 CPUs for each worker: the gate says so of raylets with two, and with --force the run
    waits at its placement group until larger ones join."""
    place = toy.place(tmp_path, toy.environment(tmp_path, raylets.VARIABLE), use_cpu=True)
    with Raylets(raylets.python(raylets.VARIABLE), 1) as cluster:
        # Without a dashboard LLaMA-Factory cannot ask Ray for the address of the head.
        words = [PROGRAM, "train", "--ray", cluster.address, "--python", str(cluster.python), "--no-rehearse"]
        more = ["--", f"master_addr={cluster.address.rpartition(':')[0]}"]
        environ = {**os.environ, "NPROC_PER_NODE": "1"}
        refused = subprocess.run(
            [*words, "--workers", "2", *more], cwd=place.root, env=environ, capture_output=True, text=True, timeout=300
        )  # fmt: skip
        assert refused.returncode == 4
        assert "cluster-ray-cpus" in refused.stderr
        cluster.enlarge()
        run = subprocess.run(
            [*words, "--workers", "2", "--force", *more], cwd=place.root, env=environ, capture_output=True, text=True,
            timeout=500,
        )  # fmt: skip
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    assert place.trained()


def test_an_address_where_nobody_listens_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("stage: sft\n")
    words = ["check", "recipe.yaml", "--python", str(raylets.python(raylets.VARIABLE)), "--ray"]
    for address in ("127.0.0.1:1", "nonsense"):
        answer = subprocess.run([PROGRAM, *words, address], cwd=tmp_path, capture_output=True, text=True, timeout=150)
        assert answer.returncode == 2
        assert len(answer.stderr.strip().splitlines()) == 1
        assert f"The Ray cluster at {address} does not answer" in answer.stderr
