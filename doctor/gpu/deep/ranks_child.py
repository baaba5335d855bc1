"""Runs in the target's python: forks one process per rank; each works on its own device, then all reduce one tensor.

Imports torch once, before the fork, and touches CUDA only after it. Reads one JSON order from stdin: {"ranks", "device":
"cuda" | "cpu", "port", "seconds"}. Tells one JSON object a line on stdout, each in one write, so that lines of several
ranks never mix; a stage is told before it begins, so that a rank that stops is known by the last one it told:

    {"stage": "imported", "seconds", "torch", "cuda"}              once, before the fork
    {"stage": "device" | "work" | "join" | "reduce" | "done", "rank", …figures}
    {"stage": "failed", "rank", "during", "exception", "message"}
    {"stage": "ended", "rank", "code"}                             negative: the signal that ended it

Rates are in bytes and operations per second. Needs nothing but torch and the standard library.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

WORK_SECONDS = 0.5  # of each measurement
LEAVE_SECONDS = 0.3  # rank 0 keeps the store that the others may still ask
GIB = 1 << 30


def tell(stage: str, **more: Any) -> None:
    os.write(1, (json.dumps({"stage": stage, **more}) + "\n").encode())


def rate(call: Callable[[], Any], amount: int, settle: Callable[[], Any], seconds: float = WORK_SECONDS) -> float:
    """`amount` per second of `call`, which may return before its work is done; `settle` waits for it."""
    call()
    settle()
    rounds, begun = 0, time.perf_counter()
    while True:
        for _ in range(3):
            call()
        settle()
        rounds += 3
        taken = time.perf_counter() - begun
        if taken > seconds:
            return amount * rounds / taken


def on_cuda(torch: Any, rank: int) -> dict[str, float]:
    """Figures of one GPU; of a card that others fill, with smaller tensors."""
    begun = time.perf_counter()
    torch.cuda.set_device(rank)
    free, total = torch.cuda.mem_get_info()
    properties = torch.cuda.get_device_properties(rank)
    devices = torch.cuda.device_count()
    peer = (rank + 1) % devices
    tell(
        "work",
        rank=rank,
        seconds=round(time.perf_counter() - begun, 3),
        name=properties.name,
        uuid=str(getattr(properties, "uuid", "")) or None,
        free=free,
        total=total,
        peer=peer if devices > 1 else None,
        peer_access=torch.cuda.can_device_access_peer(rank, peer) if devices > 1 else None,
    )
    big = free > 4 * GIB
    kind = torch.bfloat16 if properties.major >= 8 else torch.float16
    size = 8192 if big else 2048
    square = torch.randn(size, size, dtype=kind, device="cuda")
    product = torch.empty_like(square)
    settle = torch.cuda.synchronize
    found = {"matmul": rate(lambda: torch.mm(square, square, out=product), 2 * size**3, settle)}
    count = (GIB if big else GIB // 16) // 4  # elements of four bytes
    source = torch.empty(count, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    found["memory"] = rate(lambda: target.copy_(source), 2 * 4 * count, settle)
    host = torch.empty(64 << 20, dtype=torch.uint8).pin_memory()
    part = source.view(torch.uint8)[: host.numel()]
    found["to_device"] = rate(lambda: part.copy_(host, non_blocking=True), host.numel(), settle, WORK_SECONDS / 2)
    found["to_host"] = rate(lambda: host.copy_(part, non_blocking=True), host.numel(), settle, WORK_SECONDS / 2)
    if peer != rank and torch.cuda.can_device_access_peer(rank, peer):
        with suppress(RuntimeError):  # in compute mode `exclusive process` the peer is its own rank's alone
            there = torch.empty(count // 4, dtype=torch.float32, device=f"cuda:{peer}")
            found["to_peer"] = rate(lambda: there.copy_(source[: count // 4]), count, settle, WORK_SECONDS / 2)
    return found


def on_cpu(torch: Any, rank: int) -> dict[str, float]:
    tell("work", rank=rank, name="cpu", seconds=0.0)
    size = 512
    a, b = torch.randn(size, size), torch.randn(size, size)
    source = torch.zeros(4 << 20)
    target = torch.empty_like(source)
    return {
        "matmul": rate(lambda: torch.mm(a, b), 2 * size**3, int, WORK_SECONDS / 2),
        "memory": rate(lambda: target.copy_(source), 2 * 4 * source.numel(), int, WORK_SECONDS / 2),
    }


def together(torch: Any, rank: int, order: dict[str, Any], figures: dict[str, float]) -> None:
    """Join the process group and reduce one tensor over all ranks. Tells the rate of the bus, as NCCL's tests count it."""
    import torch.distributed as dist

    cuda, ranks = order["device"] == "cuda", order["ranks"]
    tell("join", rank=rank, **figures)
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=f"tcp://127.0.0.1:{order['port']}",
        rank=rank,
        world_size=ranks,
        timeout=datetime.timedelta(seconds=order["seconds"]),
    )
    tell("reduce", rank=rank)
    count = (256 << 20) // 2 if cuda else 1 << 20
    tensor = torch.ones(count, dtype=torch.bfloat16 if cuda else torch.float32, device="cuda" if cuda else "cpu")
    settle = torch.cuda.synchronize if cuda else int
    dist.all_reduce(tensor)
    settle()
    if abs(tensor[-1].item() - ranks) > 0.01 * ranks:
        raise ValueError(f"all-reduce of ones over {ranks} ranks gave {tensor[-1].item()}")
    begun, rounds = time.perf_counter(), 5
    for _ in range(rounds):
        dist.all_reduce(tensor)
    settle()
    taken = (time.perf_counter() - begun) / rounds
    dist.barrier()  # nobody leaves while another one still reads from its memory
    settle()
    size = tensor.numel() * tensor.element_size()
    tell("done", rank=rank, bus=2 * (ranks - 1) / ranks * size / taken if ranks > 1 else None)


def work(torch: Any, rank: int, order: dict[str, Any]) -> int:
    during = "device"
    try:
        tell("device", rank=rank)
        figures = (on_cuda if order["device"] == "cuda" else on_cpu)(torch, rank)
        during = "together"
        together(torch, rank, order, figures)
        time.sleep(LEAVE_SECONDS)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        message = " ".join(str(error).split())[:1500]
        tell("failed", rank=rank, during=during, exception=type(error).__name__, message=message)
        return 1
    return 0


def main() -> None:
    order = json.loads(sys.stdin.readline())
    begun = time.perf_counter()
    import torch

    tell("imported", seconds=round(time.perf_counter() - begun, 2), torch=torch.__version__, cuda=torch.version.cuda)
    torch.set_num_threads(1)
    ranks: dict[int, int] = {}
    for rank in range(order["ranks"]):
        process = os.fork()
        if process == 0:
            os._exit(work(torch, rank, order))
        ranks[process] = rank
    while ranks:
        process, status = os.wait()
        tell(
            "ended",
            rank=ranks.pop(process),
            code=-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
        )


if __name__ == "__main__":
    main()
