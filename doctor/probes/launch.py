"""The launch: how many processes where, as llamafactory-cli reads it from the environment."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from doctor import redact
from doctor.facts import Facts, Unknown
from doctor.findings import Finding, Severity, found
from doctor.recipe.model_values import at_least
from doctor.target import Target

ID = "launch"
AFTER: tuple[str, ...] = ("gpu",)

_found = partial(found, ID)

DEFAULTS = {
    "FORCE_TORCHRUN": "1", "NNODES": "1", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29501",
}  # fmt: skip
RESOLVE_SECONDS = 2.0  # for the name of the first node

# Variables that change what a launch does; their values are recorded, redacted.
_RECORDED = {
    *DEFAULTS, "NPROC_PER_NODE", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_SIZE", "USE_RAY", "DISABLE_VERSION_CHECK",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "OMP_NUM_THREADS", "WANDB_MODE",
    "WANDB_DISABLED", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HOME", "USE_MODELSCOPE_HUB",
}  # fmt: skip
_RECORDED_PREFIXES = ("NCCL_", "TORCH_", "PYTORCH_", "DS_", "GLOO_", "SLURM_")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    environ = target.environ
    numbers = {name: _number(environ.get(name, DEFAULTS[name])) for name in ("NNODES", "NODE_RANK", "MASTER_PORT")}
    gpus = facts.get("gpu.count")
    given = environ.get("NPROC_PER_NODE")
    nproc: Any = _number(given) if given else max(1, gpus) if gpus is not None else Unknown("the GPU count is unknown")
    recorded = {
        name: redact.text(f"{name}={value}").partition("=")[2]
        for name, value in sorted(environ.items())
        if name in _RECORDED or name.startswith(_RECORDED_PREFIXES)
    }
    addr = environ.get("MASTER_ADDR", DEFAULTS["MASTER_ADDR"])
    port = numbers["MASTER_PORT"]
    known = isinstance(nproc, int) and isinstance(numbers["NNODES"], int)
    return {
        "launch.nproc": nproc,
        "launch.nproc_given": given is not None,
        "launch.nnodes": numbers["NNODES"],
        "launch.node_rank": numbers["NODE_RANK"],
        "launch.master_addr": addr,
        "launch.master_port": port,
        "launch.force_torchrun": environ.get("FORCE_TORCHRUN", DEFAULTS["FORCE_TORCHRUN"]).lower() in ("1", "true"),
        "launch.world_size": nproc * numbers["NNODES"] if known else Unknown("NNODES or NPROC_PER_NODE is unknown"),
        "launch.environ": recorded,
        "launch.unreadable": _unreadable(environ, gpus),
        **_master(addr),
        **_port(numbers["NODE_RANK"], port),
    }


def _number(text: str | None) -> Any:
    try:
        return int(text or "")
    except ValueError:
        return Unknown(f"{text!r} is not a number")


# Variables that torchrun reads as numbers, with the least and the greatest that make sense.
_NUMBERS = {"NNODES": (1, None), "NODE_RANK": (0, None), "MASTER_PORT": (1, 65535), "NPROC_PER_NODE": (1, None)}
_GRAPHICS = "/dev/dri"  # where the devices of Intel are
# What no host is called: numbers alone, four numbers with something behind them (the last part of a name starts with a
# letter, RFC 1123), a name with a port. Asking a resolver for these would only be slow.
_NO_NAME = re.compile(r"[\d.]+|(?:\d+\.){3}\d[\w-]*|[^:]*:\d+")
_PROCESS_WORDS = ("auto", "gpu", "cpu", "xpu")  # which torchrun takes for NPROC_PER_NODE


def _unreadable(environ: Mapping[str, str], gpus: int | None) -> dict[str, str]:
    """Variable -> why torchrun cannot use its value."""
    found = {}
    for name, (least, most) in _NUMBERS.items():
        value = environ.get(name, DEFAULTS.get(name, "1"))
        if name == "NPROC_PER_NODE" and value in _PROCESS_WORDS:
            if (value == "gpu" and gpus == 0) or (value == "xpu" and not os.path.exists(_GRAPHICS)):
                found[name] = f"asks for one process on each {value.upper()}, and there is none"
            continue
        try:
            number = int(value)
        except ValueError:
            found[name] = "is not a number"
            continue
        if number < least or (most is not None and number > most):
            found[name] = f"is not in {least}..{most}" if most else f"is less than {least}"
    return found


def _master(addr: str) -> dict[str, Any]:
    """`launch.master_unknown`: why MASTER_ADDR has no address, None when it has one. `launch.master_elsewhere`: whether all
    that it has belong to other machines. Asked in a thread, because a resolver can hang."""
    answer: list[str | set[str]] = []

    def ask() -> None:
        try:
            answer.append({str(found[4][0]) for found in socket.getaddrinfo(addr, None)})
        except (OSError, UnicodeError) as error:
            answer.append(getattr(error, "strerror", None) or str(error))

    if _loopback(addr) or not addr.strip():
        return {"launch.master_unknown": None, "launch.master_elsewhere": False}
    if _NO_NAME.fullmatch(addr) and not _numeric(addr):
        return {"launch.master_unknown": "it is no name and no address", "launch.master_elsewhere": False}
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(RESOLVE_SECONDS)
    if not answer:
        late = Unknown(f"the resolver did not answer within {RESOLVE_SECONDS:g} s")
        return {"launch.master_unknown": late, "launch.master_elsewhere": late}
    if isinstance(answer[0], str):
        return {"launch.master_unknown": answer[0], "launch.master_elsewhere": False}
    return {"launch.master_unknown": None, "launch.master_elsewhere": not any(map(_ours, answer[0]))}


def _numeric(addr: str) -> bool:
    """Whether it is an IPv4 address as C reads it, 127.1 among them."""
    try:
        socket.inet_aton(addr)
    except OSError:
        return False
    return True


def _loopback(addr: str) -> bool:
    if addr in ("localhost", "::1"):
        return True
    try:
        return ipaddress.IPv4Address(addr).is_loopback  # 127.0.0.1:29500 is none
    except ValueError:
        return False


def _ours(address: str) -> bool:
    """Whether the address is one of this machine: only there a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def _port(node_rank: Any, port: Any) -> dict[str, Any]:
    """Whether rank 0 can listen on the port: bound and closed again at once. Other nodes only connect."""
    if not isinstance(port, int) or node_rank != 0:
        return {"launch.port_busy": None, "launch.free_port": None}
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            if port != 0:
                return {"launch.port_busy": False, "launch.free_port": None}
            why = "0 takes any free port, and the ranks wait at port 0 for ever"
        except (OSError, OverflowError) as error:
            reason = getattr(error, "errno", None)
            why = "in use" if reason == errno.EADDRINUSE else "not permitted" if reason == errno.EACCES else str(error)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as free:
        free.bind(("", 0))
        return {"launch.port_busy": why, "launch.free_port": free.getsockname()[1]}


def port_in_use(facts: Facts) -> Iterator[Finding]:
    """Only torchrun needs the port; the command line starts it when told to, or for more than one GPU."""
    if not facts["launch.force_torchrun"] and facts.get("gpu.count") in (0, 1):
        return
    if facts["launch.port_busy"]:
        what = f"port {facts['launch.master_port']} cannot be listened on: {facts['launch.port_busy']}"
        yield _found("launch-port-in-use", what, "MASTER_PORT", free_port=facts["launch.free_port"])


def numbers_readable(facts: Facts) -> Iterator[Finding]:
    """torchrun ends at a value that is no number, and waits for ever for a node rank that is not among the nodes."""
    if not facts["launch.force_torchrun"] and facts.get("gpu.count") in (0, 1):
        return
    for name, why in facts["launch.unreadable"].items():
        if name == "NNODES" and _between(facts):
            continue
        if name != "MASTER_PORT" or "number" in why:  # a number that is no port cannot be bound: port_in_use says it
            what = f"{name}={facts['launch.environ'].get(name)} {why}"
            yield _found("launch-variable-invalid", what, name, variable=name, default=DEFAULTS.get(name, "1"))


def _between(facts: Facts) -> bool:
    """NNODES=1:4, the least and the most nodes: torchrun takes it, and later launchers ask for one number first."""
    least, _, most = str(facts["launch.environ"].get("NNODES")).partition(":")
    release = facts.get("llamafactory.version")
    older = isinstance(release, str) and not at_least(release, "0.9.3")
    return older and least.isdecimal() and most.isdecimal() and 0 < int(least) <= int(most)


def node_rank_fits(facts: Facts) -> Iterator[Finding]:
    nodes, rank = facts["launch.nnodes"], facts["launch.node_rank"]
    if rank >= nodes and (facts["launch.force_torchrun"] or facts.get("gpu.count") not in (0, 1)):
        what = f"NODE_RANK={rank} with NNODES={nodes}: ranks of nodes count from 0 to {nodes - 1}"
        details: dict[str, Any] = {"variable": "NODE_RANK", "default": "0"} if nodes == 1 else {}
        yield _found("launch-variable-invalid", what, "NODE_RANK", **details)


def stale_ranks(facts: Facts) -> Iterator[Finding]:
    """Without torchrun, RANK and WORLD_SIZE of an earlier launch make the only process wait for others."""
    environ = facts["launch.environ"]
    if facts["launch.force_torchrun"] or facts.get("gpu.count") not in (0, 1):
        return
    left = [name for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") if environ.get(name)]
    others = environ.get("WORLD_SIZE", "1") != "1"
    if environ.get("LOCAL_RANK", "-1") != "-1" and (others or len(left) < 3):
        what = ", ".join(f"{name}={environ[name]}" for name in left)
        what += " in the environment of a launch without torchrun: it takes part in a group that nobody starts"
        yield _found("launch-rank-env-stale", what, "WORLD_SIZE" if others else "LOCAL_RANK")
    elif len(left) == 3 and (why := _no_group_of_one(environ)):
        what = ", ".join(f"{name}={environ[name]}" for name in left)
        yield _found("launch-rank-env-stale", f"{what} in the environment of a launch without torchrun: {why}", "RANK")
    elif others and facts.get("gpu.count") == 0 and environ["WORLD_SIZE"].isdecimal():
        # On the CPU accelerate goes by the size alone.
        what = (
            f"WORLD_SIZE={environ['WORLD_SIZE']} in the environment of a launch without torchrun: it waits for others"
        )
        yield _found("launch-rank-env-stale", what, "WORLD_SIZE")


def _no_group_of_one(environ: Mapping[str, str]) -> str | None:
    """Why the only process does not make a group of its own with these variables, or None."""
    if environ["RANK"].isdecimal() and int(environ["RANK"]) > 0:
        return f"it waits for the rank 0 of {environ['WORLD_SIZE']}"
    lacking = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environ.get(name)]
    return f"it asks for {' and '.join(lacking)} too, which the shell does not have" if lacking else None


def renamed_variables(facts: Facts) -> Iterator[Finding]:
    """RANK instead of NODE_RANK with several nodes: nodes started by the settings of 0.8.3 never meet."""
    environ = facts["launch.environ"]
    if facts["launch.nnodes"] > 1 and "RANK" in environ and "NODE_RANK" not in environ:
        what = f"NNODES={facts['launch.nnodes']} and RANK={environ['RANK']}, but NODE_RANK is not set: every node is rank 0"
        yield _found("launch-env-var-renamed", what, "RANK", node_rank=environ["RANK"])


def master_addr(facts: Facts) -> Iterator[Finding]:
    """Several nodes cannot meet at the loopback address; torchrun meets at MASTER_ADDR on a single node, too."""
    addr, nodes = facts["launch.master_addr"], facts["launch.nnodes"]
    torchrun = nodes > 1 or facts["launch.force_torchrun"] or facts.get("gpu.count") not in (0, 1)
    what, severity = None, None
    if nodes > 1 and _loopback(addr):
        what = f"NNODES={nodes} with MASTER_ADDR={addr}"
    elif not addr.strip() and facts["launch.force_torchrun"]:
        what = "MASTER_ADDR is set and empty: torchrun is given --master_addr without an address"
    elif torchrun and facts["launch.master_unknown"]:
        what = f"MASTER_ADDR={addr} has no address here: {facts['launch.master_unknown']}"
    elif (
        torchrun
        and facts["launch.master_elsewhere"]
        and (nodes == 1 or facts["launch.environ"].get("NODE_RANK") == "0")
    ):
        # A virtual address in front of node 0 belongs to no machine and works.
        severity = Severity.WARNING if nodes > 1 else None
        what = f"MASTER_ADDR={addr} is no address of this machine, " + (
            "which is node 0" if nodes > 1 else "and there is no other node (NNODES=1)"
        )
    if what is not None:
        yield _found("launch-master-addr", what, "MASTER_ADDR", severity)


def processes_against_gpus(facts: Facts) -> Iterator[Finding]:
    """More processes than GPUs: two ranks share one card, which NCCL refuses."""
    gpus, nproc = facts["gpu.count"], facts["launch.nproc"]
    if 0 < gpus < nproc:
        what = f"NPROC_PER_NODE={nproc}, {gpus} visible GPU{'s' if gpus > 1 else ''}"
        yield _found("launch-nproc-mismatch", what, "NPROC_PER_NODE", gpus=gpus, nproc=nproc)


JUDGEMENTS = (
    port_in_use, numbers_readable, node_rank_fits, stale_ranks, renamed_variables, master_addr, processes_against_gpus,
)  # fmt: skip
