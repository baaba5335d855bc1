import os
from pathlib import Path

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


def found(tmp_path, config=OFFLOAD, gpus=1, headers=True, torch_cuda="12.4", disks=None, **environ):
    (tmp_path / "home").mkdir(exist_ok=True)
    target = world(tmp_path, environ=environ)
    header = Path(target.interpreter.include) / "Python.h"
    header.parent.mkdir(parents=True, exist_ok=True)
    header.write_text("") if headers else header.unlink(missing_ok=True)
    known = Facts(
        {
            "deepspeed.config": config,
            "deepspeed.config_path": "ds.json",
            "gpu.count": gpus,
            "recipe.values": {},
            "launch.environ": environ,
            "packages.cuda_builds": {"torch": torch_cuda},
            "machine.disks": disks or {},
        }
    )
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


def test_a_python_without_its_headers(tmp_path, path):
    (finding,) = found(tmp_path, PATH=path, headers=False)
    assert (finding.cause, "no Python.h" in finding.evidence[0].what) == ("env-python-headers-missing", True)
    assert found(tmp_path, {"zero_optimization": {"stage": 3}}, PATH=path, headers=False) == []


def test_a_toolkit_of_another_major_version(tmp_path, path):
    (tmp_path / "cuda/version.json").write_text('{"cuda": {"name": "CUDA SDK", "version": "11.8.0"}}')
    (finding,) = found(tmp_path, PATH=path)
    assert finding.cause == "env-cuda-toolkit-mismatch"
    assert finding.details == {"toolkit": "11.8.0", "torch_cuda": "12.4"}
    assert found(tmp_path, PATH=path, torch_cuda="11.7") == []  # DeepSpeed lets the minor versions differ
    assert found(tmp_path, PATH=path, torch_cuda=None) == []
    assert found(tmp_path, PATH=path, gpus=0) == []
    assert found(tmp_path, PATH=path, DS_SKIP_CUDA_CHECK="1") == []


def test_offload_to_nvme_without_libaio(tmp_path, path):
    nvme = {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "/"}}}
    library, header = tmp_path / "lib/libaio.so", tmp_path / "include/libaio.h"
    for file in (library, header):
        file.parent.mkdir()
        file.write_text("")
    environ = {"PATH": path, "LD_LIBRARY_PATH": str(library.parent), "CPATH": str(header.parent)}
    assert found(tmp_path, nvme, **environ) == []
    library.unlink()
    header.unlink()
    causes = [finding.cause for finding in found(tmp_path, nvme, **environ)]
    assert causes == ([] if os.path.exists("/usr/include/libaio.h") else ["env-libaio-missing"])


def built(tmp_path, *names):
    for name in names:
        library = tmp_path / "home/.cache/torch_extensions/py311_cu124" / name / f"{name}.so"
        library.parent.mkdir(parents=True, exist_ok=True)
        library.write_bytes(b"")


def test_another_compiler_builds_anew_what_was_built(tmp_path, path):
    built(tmp_path, "cpu_adam", "deepspeed_shm_comm")
    assert found(tmp_path, PATH=path, gpus=0) == []
    (one,) = found(tmp_path, PATH=path, gpus=0, CXX="/nowhere/g++")
    assert (one.cause, one.evidence[0].where) == ("env-compiler-missing", "CXX")


def test_the_folder_of_operators_must_be_writable(tmp_path, path):
    disks = {"torch_extensions": {"path": "/proc/x", "write_error": "ENOENT"}}
    (one,) = found(tmp_path, PATH=path, disks=disks)
    assert (one.cause, one.evidence[0].where) == ("disk-readonly", "/proc/x")
    assert found(tmp_path, config=None, PATH=path, disks=disks) == []
