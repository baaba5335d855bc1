"""`check --ray` on real raylets: a node from another environment, and one that is killed while it is asked."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import raylets
from tests.cluster.raylets import Raylets

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not raylets.installed(), reason=f"needs {raylets.VARIABLE} and {raylets.OTHER}"),
]
BUDGET = "120"  # seconds; a first worker of each raylet imports Ray, all on one machine


def check(cluster: Raylets, workspace: Path) -> dict[str, Any]:
    (workspace / "recipe.yaml").write_text("stage: sft\nsave_strategy: 'no'\n")
    program = str(Path(sys.executable).parent / "skyt1-doctor")
    argv = [program, "check", "recipe.yaml", "--ray", cluster.address, "--python", str(cluster.python)]
    argv += ["--format", "json", "--budget", BUDGET]
    answer = subprocess.run(argv, cwd=workspace, capture_output=True, text=True, timeout=500, check=False)
    return json.loads(answer.stdout)


def test_a_node_from_another_environment_is_the_odd_one(tmp_path: Path) -> None:
    with Raylets(raylets.python(raylets.VARIABLE), 2, raylets.python(raylets.OTHER)) as cluster:
        content = check(cluster, tmp_path)
    assert list(content["nodes"].values()) == ["answered"] * 3
    (finding,) = [
        f for f in content["findings"] if f["cause"] == "cluster-packages-differ" and f["severity"] == "error"
    ]
    assert finding["node_count"] == 1
    told = " ".join(item["what"] for item in finding["evidence"])
    assert "torch not installed" in told
    assert "torch 2.11.0" in told


def test_a_node_killed_while_it_is_asked_is_unknown_with_the_reason(tmp_path: Path) -> None:
    with Raylets(raylets.python(raylets.VARIABLE), 3) as cluster:
        killer = threading.Timer(8.0, cluster.kill_one)
        killer.start()
        content = check(cluster, tmp_path)
        killer.cancel()
    answers = list(content["nodes"].values())
    assert answers.count("answered") == 2
    (reason,) = [answer["unknown"] for answer in answers if isinstance(answer, dict)]
    assert "died" in reason or "dead" in reason or "NodeAffinity" in reason or "Error" in reason
    assert all(finding["cause"] != "launch-master-addr" for finding in content["findings"])
