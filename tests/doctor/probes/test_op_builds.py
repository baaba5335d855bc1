import os

import pytest

from doctor.facts import Facts
from doctor.probes import op_builds, surroundings, tools
from tests.support.worlds import world

OFFLOAD = {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}}


def program(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def found(tmp_path, config=OFFLOAD, gpus=1, **environ):
    (tmp_path / "home").mkdir(exist_ok=True)
    target = world(tmp_path, environ=environ)
    known = Facts({"deepspeed.config": config, "gpu.count": gpus, "recipe.values": {}})
    for probe in (surroundings, tools, op_builds):
        known = known.merged(probe.collect(target, known))
    return [finding for judgement in op_builds.JUDGEMENTS for finding in judgement(known)]


@pytest.fixture
def path(tmp_path):
    """A PATH with a compiler and a toolkit."""
    program(tmp_path / "cuda/bin/nvcc")
    return str(program(tmp_path / "bin/c++").parent) + os.pathsep + str(tmp_path / "cuda/bin")


def test_with_a_compiler_and_a_toolkit_nothing_is_said(tmp_path, path):
    assert found(tmp_path, PATH=path) == []
    assert found(tmp_path, PATH=path, CUDA_HOME=str(tmp_path / "cuda")) == []


def test_an_offloaded_optimizer_without_a_compiler(tmp_path, path):
    (finding,) = found(tmp_path, PATH=str(tmp_path / "cuda/bin"))
    assert finding.cause == "env-compiler-missing"
    assert "there is no c++" in finding.evidence[0].what
    (finding,) = found(tmp_path, PATH=path, CXX="g++-9")
    assert "there is no g++-9" in finding.evidence[0].what


def test_what_was_built_before_needs_no_compiler(tmp_path, path):
    version = "".join(world(tmp_path).version.split(".")[:2])
    program(tmp_path / f"home/.cache/torch_extensions/py{version}_cu124/cpu_adam/cpu_adam.so")
    assert found(tmp_path, PATH=str(tmp_path / "cuda/bin")) == []


@pytest.mark.parametrize("config", [None, {"zero_optimization": {"stage": 3}}])
def test_a_run_that_compiles_nothing_needs_nothing(tmp_path, config):
    assert found(tmp_path, config, PATH=str(tmp_path), CUDA_HOME="/opt/cuda-gone") == []


def test_a_cuda_home_that_is_gone_counts_before_the_nvcc_on_path(tmp_path, path):
    """Seen on an H100: FileNotFoundError: '/opt/cuda-gone/bin/nvcc'."""
    (finding,) = found(tmp_path, PATH=path, CUDA_HOME="/opt/cuda-gone")
    assert (finding.cause, finding.evidence[0].where) == ("env-cuda-home-missing", "CUDA_HOME")
    assert found(tmp_path, gpus=0, PATH=path, CUDA_HOME="/opt/cuda-gone") == []
