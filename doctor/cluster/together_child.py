"""Runs in the target's python on every node, one rank for each: all reduce one tensor, then each pair measures its link.

It stands alone. Reads one JSON order from stdin: {"rank", "nodes", "address", "port", "seconds"}; "device" is cuda where
torch finds a GPU, else cpu with gloo. Tells one JSON object a line on stdout, a stage before it begins:

    {"stage": "imported"} {"stage": "join"} {"stage": "reduce"} {"stage": "done", "bytes_per_second": {…}}
    {"stage": "pairs", "bytes_per_second": {…}, "peer", "after"}     peer: whose link is being measured, None between two
    {"stage": "failed", "during", "message"}
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from typing import Any

PAIR_BYTES = 16 << 20
# A link is measured until this much time was spent on it, or so many times, and the best counts: a fast one takes
# milliseconds, in which another program on either end is enough to make it look slow.
ENOUGH_SECONDS, TIMES = 0.2, 10
MOST_PAIRS = 64  # rounds; every node meets at most so many others
BEGUN = time.monotonic()


def tell(stage: str, **more: Any) -> None:
    print(json.dumps({"stage": stage, **more}), flush=True)


def meetings(nodes: int) -> list[list[tuple[int, int]]]:
    """Rounds in which every node meets one other: the circle method, all pairs after nodes - 1 rounds."""
    places = list(range(nodes + nodes % 2))
    rounds = []
    for _ in range(min(len(places) - 1, MOST_PAIRS)):
        half = len(places) // 2
        pairs = zip(places[:half], reversed(places[half:]), strict=True)
        rounds.append([(min(a, b), max(a, b)) for a, b in pairs if max(a, b) < nodes])
        places = [places[0], places[-1], *places[1:-1]]
    return rounds


def main() -> None:
    order = json.loads(sys.stdin.readline())
    during = "import"
    try:
        import torch
        import torch.distributed as dist

        cuda = torch.cuda.is_available()
        tell("imported", torch=torch.__version__, cuda=cuda)
        during = "join"
        tell("join")
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            init_method=f"tcp://{order['address']}:{order['port']}",
            rank=order["rank"],
            world_size=order["nodes"],
            timeout=datetime.timedelta(seconds=order["seconds"]),
        )
        during = "reduce"
        tell("reduce")
        place = torch.device("cuda", 0) if cuda else torch.device("cpu")
        ones = torch.ones(1 << 18, device=place)
        dist.all_reduce(ones)
        if ones[-1].item() != order["nodes"]:
            raise ValueError(f"all-reduce of ones over {order['nodes']} nodes gave {ones[-1].item()}")
        during = "pairs"
        tell("done", bytes_per_second=pairs(torch, dist, order, place))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        tell("failed", during=during, message=f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])
        sys.exit(1)


def pairs(torch: Any, dist: Any, order: dict[str, Any], place: Any) -> dict[str, int]:
    """Rank of the peer -> bytes per second there and back, one pair at a time for each node."""
    found: dict[str, int] = {}

    def at(peer: int | None) -> None:
        tell("pairs", bytes_per_second=found, peer=peer, after=round(time.monotonic() - BEGUN, 1))

    data = torch.zeros(PAIR_BYTES, dtype=torch.uint8, device=place)
    flag = torch.zeros(1, dtype=torch.uint8, device=place)
    for meeting in meetings(order["nodes"]):
        at(None)
        dist.barrier()
        for low, high in meeting:
            if order["rank"] not in (low, high):
                continue
            peer = high if order["rank"] == low else low
            first = order["rank"] == low
            at(peer)
            _swap(dist, data[:1], peer, first)  # the connection is made outside the measurement
            seconds: list[float] = []
            again = True
            while again:
                begun = time.perf_counter()
                _swap(dist, data, peer, first)
                if place.type == "cuda":
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - begun)
                flag[0] = len(seconds) < TIMES and sum(seconds) < ENOUGH_SECONDS
                (dist.send if first else dist.recv)(flag, peer)  # the first of the two decides for both
                again = bool(flag.item())
            found[str(peer)] = round(2 * PAIR_BYTES / min(seconds))
    return found


def _swap(dist: Any, data: Any, peer: int, first: bool) -> None:
    for send in (first, not first):
        if send:
            dist.send(data, peer)
        else:
            dist.recv(data, peer)


if __name__ == "__main__":
    main()
