"""Runs inside the environment that trains: measures the configurations of GRID on all GPUs, `python memory_runs.py ORDER`.

As the memory benchmark does it (../memory/campaign.py): one parent imports everything, never touches CUDA, and forks for
each configuration, here one child for each rank. ORDER is JSON: {"out", "root", "ranks", "cpu", "seconds"}; each row is
appended to OUT/rows.jsonl as soon as it is known.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "memory")]

import campaign  # noqa: E402
from grid import row  # noqa: E402
from rows import Out, limit  # noqa: E402

LIMIT = 150.0  # seconds for one configuration
ECHO = 12.0  # seconds that the other ranks get once one has failed: they wait for it
_LORA = {"finetuning_type": "lora", "lora_rank": 8, "lora_target": "all"}
_OFF = {"disable_gradient_checkpointing": True}
# The order is priority. Shapes, lengths and engines are those of the memory benchmark on one GPU.
GRID = [
    row("0.5B", 2048, 4, "z2"),
    row("0.5B", 2048, 4, "z3"),
    row("1.5B", 2048, 2, "z2"),
    row("1.5B", 2048, 2, "z3"),
    row("1.5B", 4096, 2, "z3-o"),
    row("1.5B", 2048, 2, "z2-oo"),
    row("0.5B", 2048, 4, "ddp"),
    row("3B", 4096, 4, "z2"),
    row("3B", 4096, 4, "z3"),
    row("3B", 8192, 1, "z3-oo"),
    row("1.5B", 8192, 1, "z3"),
    row("0.5B", 4096, 2, "z2", accumulation=2),
    row("0.5B", 4096, 2, "z3", accumulation=2, recipe=_OFF),
    row("1.5B", 1024, 2, "z3", save=True),
    row("1.5B", 1024, 2, "z2", save=True),
    row("7B-8-layers", 2048, 2, "z3"),
    row("7B-8-layers", 2048, 2, "z2"),
    row("7B", 2048, 1, "z3", recipe=_LORA),
    row("7B", 2048, 1, "z3"),
    row("7B", 2048, 1, "z2"),
    row("7B", 4096, 1, "z3-o"),
    row("7B", 2048, 1, "z2-oo"),
    row("moe", 2048, 2, "z3"),
    row("0.5B", 32768, 1, "z3"),
    row("0.5B", 2048, 2, "z1"),
]
TINY = [row("tiny", 256, 2, "ddp", recipe={"bf16": False, "use_cpu": True})]


# -- what is sampled beside the ranks -----------------------------------------------------------------------------------
def sample(path: str, cards: int) -> None:
    """Until killed: the peak of each card (NVML) and of host memory, rewritten on each rise."""
    handles: list[Any] = []
    if cards:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(cards)]
    peaks = [0] * (cards + 1)
    while True:
        now = [pynvml.nvmlDeviceGetMemoryInfo(card, version=pynvml.nvmlMemory_v2).used for card in handles]
        now.append(campaign._host_used())
        if any(a > b for a, b in zip(now, peaks, strict=True)):
            peaks = [max(pair) for pair in zip(now, peaks, strict=True)]
            Path(path + ".new").write_text(json.dumps({"nvml": peaks[:-1], "host": peaks[-1]}))
            os.replace(path + ".new", path)
        time.sleep(0.004)


# -- one configuration --------------------------------------------------------------------------------------------------
def _rank(config: dict[str, Any], output: Path, rank: int, ranks: int, port: int) -> None:
    """In the child: be that rank, train, leave a row."""
    code = 1
    try:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks),
                       "LOCAL_WORLD_SIZE": str(ranks), "MASTER_PORT": str(port)}  # fmt: skip
        log = os.open(output / f"log{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        gc.collect()
        random.seed(rank)
        found = campaign.train(config, output)
        (output / f"row{rank}.new").write_text(json.dumps(found))
        os.replace(output / f"row{rank}.new", output / f"row{rank}.json")
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def _wait(children: dict[int, int], output: Path) -> dict[int, int]:
    """Status of each rank; ranks that outlast the limit, or a failed one, are killed."""
    statuses: dict[int, int] = {}
    until = time.monotonic() + limit(LIMIT)
    while children.keys() - statuses.keys():
        for rank, child in children.items():
            if rank in statuses:
                continue
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                statuses[rank] = status
                kept = output / f"row{rank}.json"
                if not kept.exists() or json.loads(kept.read_text())["outcome"] != "trained":
                    until = min(until, time.monotonic() + ECHO)
        if time.monotonic() > until:
            for rank, child in children.items():
                if rank not in statuses:
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
    return statuses


def measure(config: dict[str, Any], number: int, ranks: int, cards: int) -> dict[str, Any]:
    output = campaign.ROOT / f"run{number}"
    output.mkdir(parents=True, exist_ok=True)
    writer = os.fork()  # not in the parent: what arrow starts must not be forked
    if writer == 0:
        campaign.write_samples(config, output, ranks)
        os._exit(0)
    os.waitpid(writer, 0)
    idle, port = campaign._host_used(), _free_port()
    sampler = subprocess.Popen([sys.executable, __file__, "sample", str(output / "peaks.json"), str(cards)])
    begun = time.monotonic()
    children: dict[int, int] = {}
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            _rank(config, output, rank, ranks, port)
        children[rank] = child
    statuses = _wait(children, output)
    seconds = round(time.monotonic() - begun, 1)
    sampler.kill()
    sampler.wait()
    kept = output / "peaks.json"
    peaks = json.loads(kept.read_text()) if kept.exists() else {"nvml": [], "host": idle}
    found = []
    for rank in range(ranks):
        path = output / f"row{rank}.json"
        result = {"outcome": "ended", "status": statuses[rank], "log": _end_of(output / f"log{rank}.txt")}
        found.append(json.loads(path.read_text()) if path.exists() else result)
    outcomes = {one["outcome"] for one in found}
    outcome = next(o for o in ("out of memory", "failed", "ended", "trained") if o in outcomes)
    subprocess.run(["rm", "-rf", str(output)], check=False)
    return {**config, "ranks": ranks, "outcome": outcome, "nvml": peaks["nvml"], "host": peaks["host"] - idle,
            "wall_seconds": seconds, "each": found}  # fmt: skip


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def _end_of(path: Path) -> str:
    return path.read_text(errors="replace")[-1500:] if path.exists() else ""


def _shared_json(output: Path) -> None:
    """Each rank writes the same DeepSpeed JSON; one that another rank reads must never be half written."""
    plain = campaign.deepspeed_json

    def whole(engine: str, place: Path) -> Path:
        own = place / f"rank{os.environ.get('RANK', '0')}"
        own.mkdir(exist_ok=True)
        return Path(plain(engine, own))

    campaign.deepspeed_json = whole


def main(order: dict[str, Any]) -> None:
    begun = time.monotonic()
    out, ranks, cpu = Out(Path(order["out"]), "memory"), int(order["ranks"]), bool(order["cpu"])
    os.environ |= {**campaign.SETTINGS, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "NCCL_NVLS_ENABLE": "0"}
    campaign.ROOT = Path(order["root"])
    _shared_json(campaign.ROOT)
    cards = 0 if cpu else ranks
    if cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        out.row("machine", ranks=ranks, machine=campaign.machine())
    import torch

    campaign.import_all()
    print(f"imports took {time.monotonic() - begun:.1f} s; CUDA touched: {torch.cuda.is_initialized()}", flush=True)
    if torch.cuda.is_initialized():
        sys.exit("an import started CUDA: children could not use it")
    for number, config in enumerate(TINY if cpu else GRID):
        if time.monotonic() - begun > order["seconds"]:
            out.row("left out for want of time", number=number, shape=config["shape"], engine=config["engine"])
            continue
        name = " ".join(str(config[key]) for key in ("shape", "length", "batch", "engine"))
        out.row(name, **measure(config, number, ranks, cards))


if __name__ == "__main__":
    if sys.argv[1] == "sample":
        sample(sys.argv[2], int(sys.argv[3]))
    main(json.loads(sys.argv[1]))
