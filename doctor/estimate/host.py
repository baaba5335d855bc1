"""Host memory of one node at the peak: loading, what is offloaded, saving. Pure.

Measured on one rank (benchmarks/memory/h100.jsonl): a process with its libraries takes about 1 GB; full offload 26.5
bytes for each parameter (its 18 bytes of states, pinned and with the buffers of a step), optimizer offload 22.8 to
24.7. Runs of 33e9 parameters were seen with 750 to 800 GB, which is 23 bytes for each: that much is surely needed.
Saving follows accelerate's `get_state_dict`, by which rank 0 gathers the 16-bit weights of ZeRO-3, and every rank copies
them under ZeRO-1 and 2. Two ranks of one node (benchmarks/several_gpus/h100x2.jsonl) took 6 to 18 % less than `expected`
under offload, and 11 to 44 % less under ZeRO without it, where loading decides.
"""

from __future__ import annotations

import msgspec

from doctor.estimate.settings import Settings, World
from doctor.estimate.shape import Shape
from doctor.estimate.timeline import trained

PROCESS = 1.05e9  # bytes of a rank with its libraries, nothing loaded
FULL_OFFLOAD = (23.0, 26.5)  # bytes for each parameter: at least, as measured on one rank
OPTIMIZER_OFFLOAD = (20.5, 24.7)
STATES = 16.0  # of them the 32-bit weight, its gradient and two moments; 2 more where 16-bit weights are offloaded too
SWAP_BUFFERS = 4.0  # DeepSpeed's buffer_count for the optimizer on NVMe: pinned, each of one group of 32-bit elements
SWAP_PARAMETERS = 1e9  # and for parameters: 5 buffers of 1e8 elements of 16 bits


class HostPeak(msgspec.Struct, frozen=True):
    """Bytes on one node: surely needed, and to be expected; of the latter those at loading and those at saving. `parts`
    adds up to what is to be expected: processes, loading, states, buffers, saving."""

    least: int
    expected: int
    loading: int
    saving: int
    parts: dict[str, int]


def peak(shape: Shape, use: Settings, world: World) -> HostPeak:
    ranks, nodes = max(1, world.nproc), max(1, world.nnodes)
    processes = PROCESS * ranks
    loading, saving = _loading(shape, use, ranks), _saving(shape, use, ranks)
    states, least, expected = _offloaded(shape, use, ranks, nodes)
    if use.inputs_on_host:
        expected += 2.0 * use.tokens * shape.hidden * shape.layers * ranks
    # ranks do not all read at once, and pages of a file can be dropped: one copy is sure
    sure = max(least, loading / ranks) + processes
    if loading >= expected + saving:
        parts = {"processes": processes, "loading": loading}
    else:
        parts = {"processes": processes, "states": states, "buffers": max(0.0, expected - states), "saving": saving}
    shown = {name: int(size) for name, size in parts.items() if size}
    return HostPeak(int(sure), sum(shown.values()), int(loading + processes), int(saving), shown)


def _loading(shape: Shape, use: Settings, ranks: int) -> float:
    """Copies of the weights while ranks read them; without DeepSpeed they are mapped and go straight to the card.
    Mapped pages count in a process's RSS and not here: the kernel drops them when memory is short."""
    size = float(shape.parameters + shape.vision)
    if use.fsdp:  # rank 0 of a node reads, the others get theirs from it; those outside hold empty weights
        return (4.0 if use.finetuning == "full" else 2.0) * size
    if not use.deepspeed or use.finetuning in ("lora", "oft"):  # measured: frozen weights are not copied either
        return 0.0
    # ZeRO-3 splits what each rank reads; below it each rank holds its own copy, widened for training
    return (2.0 if use.zero.stage == 3 or use.finetuning != "full" else 4.0) * size * ranks


def _saving(shape: Shape, use: Settings, ranks: int) -> float:
    """16-bit weights that are gathered or copied in host memory for a checkpoint, beside what training holds."""
    if not use.deepspeed or use.finetuning != "full":
        return 0.0
    if use.zero.stage == 3:
        return 2.0 * shape.parameters if use.gather_on_save else 0.0
    return 2.0 * shape.parameters * ranks


def _offloaded(shape: Shape, use: Settings, ranks: int, nodes: int) -> tuple[float, float, float]:
    """Of one node: states in host memory, what is surely needed with their buffers, what is to be expected."""
    zero, size, learnt = use.zero, float(shape.parameters), trained(shape, use)
    narrow = 2.0 * size / nodes if zero.parameters == "cpu" and use.finetuning != "full" else 0.0
    if zero.optimizer == "cpu":
        whole = zero.parameters == "cpu"
        low, high = FULL_OFFLOAD if whole else OPTIMIZER_OFFLOAD
        if use.fsdp:  # no second copy in 16 bits, and nothing pinned
            low, high, states = STATES, STATES + 2.0, STATES
        else:
            states = STATES + (2.0 if whole and use.finetuning == "full" else 0.0)
        return narrow + states * learnt / nodes, narrow + low * learnt / nodes, narrow + high * learnt / nodes
    if zero.optimizer == "nvme":
        group = min(use.sub_group, learnt / (ranks * nodes))
        buffers = ranks * SWAP_BUFFERS * 4.0 * group + 4.0 * learnt / nodes  # 32-bit gradients wait in host memory
        buffers += ranks * SWAP_PARAMETERS if zero.parameters == "nvme" else 0.0
        states = 2.0 * size / nodes if zero.parameters == "cpu" else 0.0
        return states, states, states + buffers
    return narrow, narrow, narrow
