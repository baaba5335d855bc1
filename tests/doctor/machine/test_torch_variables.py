"""Variables that torch reads: its allocator's options, its logs, libraries before its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doctor.facts import Facts
from doctor.machine import torch_variables

# Value of PYTORCH_CUDA_ALLOC_CONF -> whether torch 2.11 allocated with it on an H200.
SEEN = json.loads(Path(__file__).with_name("allocator_values.json").read_text())
CURRENT, OLD = "2.11.0+cu130", "2.5.1"


def said(environ: dict[str, str], torch: str = CURRENT, gpus: int = 1, root: Path | None = None) -> list[str]:
    held = torch_variables.collect(environ, root, [root.parent] if root else [])
    facts = Facts({**held, "packages.versions": {"torch": torch}, "gpu.count": gpus})
    return [finding.evidence[0].what for judgement in torch_variables.ALL for finding in judgement(facts)]


@pytest.mark.parametrize(("value", "allocated"), SEEN)
def test_what_torch_was_seen_to_take(value: str, allocated: bool) -> None:
    assert (said({"PYTORCH_CUDA_ALLOC_CONF": value}) == []) == allocated


@pytest.mark.parametrize(
    "value",
    ["expandable_segments:True", "max_split_size_mb:512, expandable_segments:True", "garbage_collection_threshold:0.8",
     "roundup_power2_divisions:[256:1,512:2,>:8],backend:native", "backend:cudaMallocAsync"],
)  # fmt: skip
def test_allocators_that_are_fine(value: str) -> None:
    for gpus in (0, 1):
        assert said({"PYTORCH_CUDA_ALLOC_CONF": value}, gpus=gpus) == []


@pytest.mark.parametrize(
    ("value", "word", "without_gpu"),
    [
        ("max_split_size_mb", "option:value", True),
        ("expandable_segments=True", "option:value", True),
        ("max_split_size_mb:", "option:value", True),
        (",", "option:value", True),
        ("expandable_segment:True", "names the option", False),
        ("expandable_segments:true", "True or False", False),
        ("max_split_size_mb:abc", "a number is needed", False),
        ("garbage_collection_threshold:2", "less than 1", False),
        ("backend:foo", "native", False),
    ],
)
def test_allocators_that_end_a_run(value: str, word: str, without_gpu: bool) -> None:
    environ = {"PYTORCH_CUDA_ALLOC_CONF": value}
    assert any(word in one for one in said(environ))
    assert any(word in one for one in said(environ, OLD))
    assert bool(said(environ, gpus=0)) == without_gpu
    assert said(environ, OLD, 0) == []
    assert said({"PYTORCH_ALLOC_CONF": value}, OLD) == []


@pytest.mark.parametrize("value", ["+dynamo", "dynamo, -inductor", "all", "json", "torch.nn", "own_module.part"])
def test_logs_that_are_known(tmp_path: Path, value: str) -> None:
    assert said({"TORCH_LOGS": value}, root=torch_of(tmp_path)) == []
    assert said({"TORCH_LOGS": value}) == []


@pytest.mark.parametrize("value", ["", "help", "dynamoo", "dynamo,foo.bar", "dynamo=x", "+"])
def test_logs_that_end_a_run(tmp_path: Path, value: str) -> None:
    assert len(said({"TORCH_LOGS": value}, root=torch_of(tmp_path))) == 1


def torch_of(site: Path) -> Path:
    (site / "torch/_logging").mkdir(parents=True)
    registered = 'register_log("dynamo", [])\nregister_log(\n    "inductor", [])\nregister_artifact("graph", "x")\n'
    (site / "torch/_logging/_registrations.py").write_text(registered)
    (site / "own_module.py").touch()
    return site / "torch"


def test_a_library_that_is_none(tmp_path: Path) -> None:
    environ: dict[str, Any] = {"LD_LIBRARY_PATH": f"{tmp_path}:/nowhere:"}
    assert said(environ) == []
    (tmp_path / "libssl.so.3").write_bytes(b"\x7fELF and more")
    (tmp_path / "libown.so.1").write_bytes(b"of another program")
    assert said(environ) == []
    (tmp_path / "libz.so.1").write_bytes(b"version https://git-lfs")
    assert any("libz.so.1 is no library" in one for one in said(environ))
