"""Faults of the launch and of the machine: variables, ports, programs, folders, the hub."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.catalogue.deepspeed import environ
from tests.faults.catalogue.recipe import values
from tests.faults.fault import COPY, Fault, Inject, together
from tests.faults.workspace import Workspace

MODEL = ("--model", "{model}")
TORCHRUN = environ(FORCE_TORCHRUN="1", MASTER_PORT="29573")


@contextmanager
def port_held(place: Workspace) -> Iterator[None]:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("0.0.0.0", 29573))
        held.listen()
        yield


@contextmanager
def full_disk(place: Workspace) -> Iterator[None]:
    """A file system of 300 kB where the run saves."""
    with mounted(place.root / "saves", "size=300k"):
        yield


@contextmanager
def read_only(place: Workspace) -> Iterator[None]:
    with mounted(place.root / "saves", "ro,size=1m"):
        yield


@contextmanager
def mounted(folder: os.PathLike[str], options: str) -> Iterator[None]:
    """Needs root."""
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def path_is(place: Workspace, *folders: str) -> None:
    place.environ["PATH"] = os.pathsep.join([*folders, "/usr/bin", "/bin"])


def not_activated(place: Workspace) -> None:
    """Another environment is active, one without LLaMA-Factory."""
    path_is(place)
    place.environ["VIRTUAL_ENV"] = ""


def torchrun_of_another(place: Workspace) -> None:
    """`torchrun` of another environment comes first on PATH, as after two activations."""
    other = place.root.parent / "other"
    (other / "bin").mkdir(parents=True)
    (other / "pyvenv.cfg").write_text("home = /usr/bin\n")
    shutil.copy("/usr/bin/python3", other / "bin/python")
    script = other / "bin/torchrun"
    script.write_text(f"#!{other}/bin/python\nimport torch.distributed.run\n")
    script.chmod(0o755)
    path_is(place, str(other / "bin"), str(place.environment.root / "bin"))
    TORCHRUN(place)


def shadowed(name: str) -> Inject:
    """A file of the user's own that is imported instead of the package."""

    def inject(place: Workspace) -> None:
        (place.root / f"{name}.py").write_text("rows = []\n")
        place.environ["PYTHONPATH"] = str(place.root)

    return inject


def output_is_a_file(place: Workspace) -> None:
    (place.root / "saves").mkdir()
    (place.root / "saves/toy").write_text("notes\n")


def cache_is_a_file(place: Workspace) -> None:
    (place.home / "cache").write_text("")
    place.environ["HF_HOME"] = str(place.home / "cache")


def hub(model: str = "Qwen/Qwen2.5-0.5B-Instruct", **variables: str) -> Inject:
    """A model of the hub, on a machine from which no hub can be reached."""
    around = {"HF_ENDPOINT": "http://127.0.0.1:9", **variables}
    return together(
        values(model_name_or_path=model), lambda place: environ(HF_HOME=str(place.home / "cache"), **around)(place)
    )


LAUNCH = [
    Fault(
        "port-in-use",
        "launch-port-in-use",
        "another run listens on MASTER_PORT",
        TORCHRUN,
        around=port_held,
        fresh=True,
    ),
    Fault(
        "port-in-words",
        "launch-variable-invalid",
        "MASTER_PORT=29501a",
        environ(FORCE_TORCHRUN="1", MASTER_PORT="29501a"),
        fresh=True,
    ),
    Fault("port-zero", "launch-port-in-use", "MASTER_PORT=0", environ(FORCE_TORCHRUN="1", MASTER_PORT="0"), fresh=True),
    Fault(
        "port-too-high",
        "launch-port-in-use",
        "MASTER_PORT=295010",
        environ(FORCE_TORCHRUN="1", MASTER_PORT="295010"),
        "current full",
        fresh=True,
    ),
    Fault(
        "nodes-without-master",
        "launch-master-addr",
        "NNODES=2 and no MASTER_ADDR",
        together(TORCHRUN, environ(NNODES="2")),
        fresh=True,
        healable=False,
    ),
    Fault(
        "master-unknown",
        "launch-master-addr",
        "a MASTER_ADDR that cannot be resolved",
        together(TORCHRUN, environ(NNODES="2", NODE_RANK="1", MASTER_ADDR="node0.cluster.invalid")),
        "current full",
        fresh=True,
        healable=False,
    ),
    Fault(
        "master-unknown-one-node",
        "launch-master-addr",
        "a MASTER_ADDR that cannot be resolved, on the only node",
        together(TORCHRUN, environ(MASTER_ADDR="node0.cluster.invalid")),
        "current full",
        fresh=True,
    ),
    Fault(
        "master-elsewhere",
        "launch-master-addr",
        "the MASTER_ADDR of another machine, on the only node",
        together(TORCHRUN, environ(MASTER_ADDR="10.255.255.1")),
        "current full",
        fresh=True,
    ),
    Fault(
        "node-rank-too-high",
        "launch-variable-invalid",
        "NODE_RANK=1 with NNODES=1",
        together(TORCHRUN, environ(NODE_RANK="1")),
        fresh=True,
    ),
    Fault(
        "processes-in-words",
        "launch-variable-invalid",
        "NPROC_PER_NODE=two",
        together(TORCHRUN, environ(NPROC_PER_NODE="two")),
        fresh=True,
    ),
    Fault(
        "ranks-of-another-launch",
        "launch-rank-env-stale",
        "RANK and WORLD_SIZE left in the shell",
        environ(
            FORCE_TORCHRUN="0", RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="29577"
        ),
    ),
    Fault(
        "environment-not-active",
        "cli-not-on-path",
        "llamafactory-cli: command not found",
        not_activated,
        fresh=True,
        healable=False,
    ),
    Fault(
        "torchrun-of-another-environment",
        "env-python-mismatch",
        "torchrun on PATH is of another environment",
        torchrun_of_another,
        fresh=True,
        healable=False,
    ),
    Fault(
        "datasets-shadowed",
        "pkg-shadowed-module",
        "a datasets.py of the user's own on PYTHONPATH",
        shadowed("datasets"),
        fresh=True,
        healable=False,
    ),
    Fault(
        "random-shadowed",
        "pkg-shadowed-module",
        "a random.py of the user's own on PYTHONPATH",
        shadowed("random"),
        "current full",
        fresh=True,
        healable=False,
    ),
]
MORE = [
    Fault("torchrun-in-words", "launch-torchrun-missing", "FORCE_TORCHRUN=yes, which does not count",
          environ(FORCE_TORCHRUN="yes", LOCAL_SIZE="1"), "sky-t1 full zero2", fresh=True),
    Fault("nodes-in-words", "launch-variable-invalid", "NNODES=one", together(TORCHRUN, environ(NNODES="one")), fresh=True),
    Fault("no-processes", "launch-variable-invalid", "NPROC_PER_NODE=0", together(TORCHRUN, environ(NPROC_PER_NODE="0")),
          "current full", fresh=True),
    Fault("output-below-a-file", "disk-readonly", "output_dir below a file",
          values(output_dir="data/dataset_info.json/out")),
]  # fmt: skip
MACHINE = [
    Fault(
        "bf16-without-gpu", "gpu-bf16-unsupported", "bf16 on a machine without GPU", values(bf16=True), "current full"
    ),
    Fault("fp16-without-gpu", "gpu-bf16-unsupported", "fp16 on a machine without GPU", values(fp16=True), warns=True),
    Fault(
        "tf32-without-gpu", "gpu-bf16-unsupported", "tf32 on a machine without GPU", values(tf32=True), "sky-t1 lora"
    ),
    Fault("output-is-a-file", "disk-readonly", "output_dir is a file", output_is_a_file),
    Fault("output-read-only", "disk-readonly", "output_dir on a read-only file system", values(), around=read_only),
    Fault(
        "output-full",
        "disk-full",
        "300 kB left for the checkpoint",
        values(save_strategy="steps", save_steps=1),
        "sky-t1 full",
        around=full_disk,
        healable=False,
    ),
    Fault(
        "cache-is-a-file",
        "disk-readonly",
        "HF_HOME is a file",
        cache_is_a_file,
        "current full",
        fresh=True,
        healable=False,
    ),
]
HUB = [
    Fault(
        "hub-unreachable", "hub-unreachable", "a hub model, and no way to the hub", hub(), arguments=MODEL, fresh=True
    ),
    Fault(
        "hub-offline",
        "hub-offline-cache-miss",
        "HF_HUB_OFFLINE=1 and an empty cache",
        hub(HF_HUB_OFFLINE="1"),
        arguments=MODEL,
        fresh=True,
    ),
    Fault(
        "hub-endpoint-without-scheme",
        "hub-mirror",
        "HF_ENDPOINT=hf-mirror.com",
        hub(HF_ENDPOINT="hf-mirror.com"),
        "current full",
        arguments=MODEL,
        fresh=True,
    ),
    Fault(
        "modelscope-not-installed",
        "hub-modelscope-missing",
        "USE_MODELSCOPE_HUB=1 without modelscope",
        hub(USE_MODELSCOPE_HUB="1"),
        arguments=MODEL,
        fresh=True,
        packages=COPY,
    ),
    Fault(
        "hf-transfer-not-installed",
        "hub-hf-transfer-missing",
        "HF_HUB_ENABLE_HF_TRANSFER=1 without hf_transfer",
        hub(HF_HUB_ENABLE_HF_TRANSFER="1"),
        arguments=MODEL,
        fresh=True,
        packages=COPY,
    ),
]
FAULTS = [*LAUNCH, *MORE, *MACHINE, *HUB]
