"""The zipapp: alone, under a bare interpreter, it says what the installed doctor says."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from doctor.cluster import bundle, collector, wire
from tests.support.targets import add_distribution

BUDGET = 20.0


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv's skeleton and a recipe with its data, model configuration and DeepSpeed file."""
    root = tmp_path_factory.mktemp("node")
    work = root / "work"
    (work / "data").mkdir(parents=True)
    (work / "model").mkdir()
    (work / "recipe.yaml").write_text(
        "stage: sft\nmodel_name_or_path: model\ndataset: one\ntemplate: qwen\ndeepspeed: ds.json\noutput_dir: saves\n"
    )
    (work / "ds.json").write_text('{"zero_optimization": {"stage": 3}}')
    (work / "data/dataset_info.json").write_text('{"one": {"file_name": "one.json"}}')
    (work / "data/one.json").write_text(json.dumps([{"instruction": "a", "input": "", "output": "b"}] * 50))
    (work / "model/config.json").write_text('{"model_type": "qwen2", "hidden_size": 8}')
    (work / "model/model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (root / "pyz").write_bytes(bundle.build())
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "env")], check=True)
    site = next((root / "env").glob("lib/python3*/site-packages"))
    add_distribution(site, "deepspeed", "0.15.4", ("torch",))
    add_distribution(site, "torch", "2.5.1")
    return root


def request(root: Path, **more: Any) -> dict[str, Any]:
    python = str(root / "env/bin/python")
    return {"workdir": str(root / "work"), "recipe": "recipe.yaml", "python": python, "budget": BUDGET, **more}


def collect(root: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """What the zipapp sends, run isolated from everything that is installed here."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(root)}
    argv = [str(root / "env/bin/python"), "-I", str(root / "pyz"), "collect", json.dumps(wanted)]
    out = subprocess.run(argv, env=environ, cwd="/", capture_output=True, text=True, check=True, timeout=120).stdout
    receiver = wire.Receiver()
    (answer,) = [got for line in out.splitlines() if (got := receiver.feed(line))]
    return json.loads(gzip.decompress(answer[1]))


def test_it_says_what_the_installed_doctor_says(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = collect(workspace, request(workspace))
    monkeypatch.setenv("HOME", str(workspace))
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    ours = json.loads(json.dumps(collector.facts(request(workspace))))
    assert sent["node.failed"] is None
    assert sent["node.not_collected"] == ours["node.not_collected"] or sent["node.not_collected"] == {}
    # What the moment or the process decides may differ; everything else is the same fact.
    moment = ("machine.memory_available", "machine.cgroup_memory_used", "machine.disks", "machine.roomy", "machine.shm")
    own = ("node.clock", "launch.environ", "launch.free_port", "machine.limits", "cli.path", "tools.uv", "hub.clock")
    certificates = ("hub.ca_bundle", "hub.system_bundle")  # named by variables of this process
    differing = {n for n in sent.keys() | ours.keys() if sent.get(n) != ours.get(n)} - {*moment, *own, *certificates}
    assert differing == set()
    assert sent["packages.versions"] == {"deepspeed": "0.15.4", "torch": "2.5.1"}


def test_it_is_small_and_so_is_what_it_sends(workspace: Path) -> None:
    assert len(bundle.build()) < 1 << 20
    assert len(gzip.compress(json.dumps(collect(workspace, request(workspace))).encode())) < 64 << 10


def test_a_document_that_would_be_too_large_does_without_its_largest_fact() -> None:
    digests = {f"model-{n:05d}.safetensors": hashlib.sha256(bytes([n % 256, n >> 8])).hexdigest() for n in range(4000)}
    data = collector.packed({"files.seen": digests, "node.host": "toy", "packages.versions": {"torch": "2.5.1"}})
    assert len(data) <= collector.LARGEST_DOCUMENT
    kept = json.loads(gzip.decompress(data))
    assert kept["files.seen"]["unknown"].startswith("too large to be sent (")
    assert (kept["node.host"], kept["packages.versions"]) == ("toy", {"torch": "2.5.1"})


def test_a_node_without_the_working_directory_says_so(workspace: Path) -> None:
    sent = collect(workspace, request(workspace, workdir="/nowhere"))
    assert "/nowhere does not exist" in sent["node.failed"]


def test_secrets_stay_on_the_node(workspace: Path) -> None:
    token = "hf_" + "abcdefghijklmnopqrstuvwxyz0123456789"[:34]
    sent = collect(workspace, request(workspace, environ={"NCCL_SECRET_TOKEN": token, "HF_TOKEN": token}))
    assert token not in json.dumps(sent)
