"""Faults of the shell: variables whose readers end the run at an import or at the launch."""

from __future__ import annotations

from tests.faults.catalogue.deepspeed import environ
from tests.faults.catalogue.launch import TORCHRUN, hub
from tests.faults.fault import COPY, Fault, Inject, together


def variable(id: str, what: str, base: str = "sky-t1 full", cause: str = "launch-variable-invalid") -> Fault:
    """NAME=value as it is exported. Only its user knows why it is there."""
    name, _, value = what.partition("=")
    return Fault(id, cause, what, environ(**{name: value}), base, fresh=True, healable=False)


def elastic(**values: str) -> Inject:
    return together(TORCHRUN, environ(RDZV_ID="ours", **values))


FAULTS = [
    Fault("threads-in-words", "launch-variable-invalid", "OMP_NUM_THREADS=many", environ(OMP_NUM_THREADS="many"),
          "sky-t1 full zero2", fresh=True, healable=False),
    Fault("compiler-nowhere", "env-compiler-missing", "CXX names no compiler", environ(CXX="/opt/gcc-14/bin/g++"),
          "sky-t1 full zero2", fresh=True, healable=False),
    Fault("operators-in-proc", "disk-readonly", "TORCH_EXTENSIONS_DIR cannot be made",
          environ(TORCH_EXTENSIONS_DIR="/proc/operators"), "sky-t1 full zero2", fresh=True, healable=False),
    variable("memory-limit-with-unit", "HF_DATASETS_IN_MEMORY_MAX_SIZE=1GB"),
    variable("hub-timeout-with-unit", "HF_HUB_DOWNLOAD_TIMEOUT=10s"),
    variable("hub-timeout-in-words", "HF_HUB_ETAG_TIMEOUT=ten", "current full"),
    variable("verbosity-unknown", "LLAMAFACTORY_VERBOSITY=LOUD"),
    variable("verbosity-of-accelerate", "ACCELERATE_LOG_LEVEL=LOUD"),
    variable("debug-level-unknown", "TORCH_DISTRIBUTED_DEBUG=FULL"),
    variable("accelerator-unknown", "DS_ACCELERATOR=gpu"),
    variable("plot-backend-unknown", "MPLBACKEND=TkAgg2"),
    variable("dynamo-backend-unknown", "ACCELERATE_DYNAMO_BACKEND=foo"),
    variable("deepspeed-left-by-accelerate", "ACCELERATE_USE_DEEPSPEED=true"),
    variable("deepspeed-left-by-accelerate-current", "ACCELERATE_USE_DEEPSPEED=true", "current full"),
    variable("megatron-left-by-accelerate", "ACCELERATE_USE_MEGATRON_LM=true"),
    variable("bars-in-words", "TQDM_MININTERVAL=often", "current full"),
    variable("user-warnings-are-errors", "PYTHONWARNINGS=ignore,error::UserWarning", "current full"),
    variable("proxy-exception-in-brackets", "NO_PROXY=[::1]"),
    variable("torch-switched-off", "USE_TORCH=0"),
    variable("tensorflow-asked-for", "USE_TF=1"),
    variable("warnings-are-errors", "PYTHONWARNINGS=error"),
    variable("certificates-absent", "SSL_CERT_FILE=/nonexistent.pem", cause="hub-ssl"),
    variable("ray-not-installed", "USE_RAY=1", "current full", "pkg-missing"),
    variable("megatron-not-installed", "USE_MCA=1", "current full", "pkg-missing"),
    Fault("openmind-not-installed", "pkg-missing", "USE_OPENMIND_HUB=1 without openmind", hub(USE_OPENMIND_HUB="1"),
          fresh=True, packages=COPY, healable=False),
    Fault("size-of-another-launch", "launch-rank-env-stale", "WORLD_SIZE left in the shell",
          environ(FORCE_TORCHRUN="0", WORLD_SIZE="4"), fresh=True),
    Fault("gloo-interface-absent", "nccl-socket-ifname", "GLOO_SOCKET_IFNAME=eth9",
          together(TORCHRUN, environ(GLOO_SOCKET_IFNAME="eth9")), fresh=True),
    Fault("restarts-in-words", "launch-variable-invalid", "MAX_RESTARTS=many", elastic(MAX_RESTARTS="many"),
          "current full", fresh=True, healable=False),
    Fault("nodes-crossed", "launch-variable-invalid", "MIN_NNODES=2 above MAX_NNODES=1",
          elastic(MIN_NNODES="2", MAX_NNODES="1"), "current full", fresh=True, healable=False),
]  # fmt: skip
