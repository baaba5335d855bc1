"""Host memory of one node at the peak: loading, and what is offloaded. Pure.

Measured on one rank (benchmarks/memory/h100.jsonl): a process with its libraries takes about 1 GB; full offload 26.5
bytes for each parameter (its 18 bytes of states, pinned and with the buffers of a step), optimizer offload 22.8 to
24.7. Runs of 33e9 parameters were seen with 750 to 800 GB, which is 23 bytes for each: that much is surely needed.
"""

from __future__ import annotations

import msgspec

from doctor.estimate.settings import Settings, World
from doctor.estimate.shape import Shape
from doctor.estimate.timeline import trained

PROCESS = 1.05e9  # bytes of a rank with its libraries, nothing loaded
FULL_OFFLOAD = (23.0, 26.5)  # bytes for each parameter: at least, as measured on one rank
OPTIMIZER_OFFLOAD = (20.5, 24.7)


class HostPeak(msgspec.Struct, frozen=True):
    """Bytes on one node: surely needed, and to be expected; of the latter those at loading."""

    least: int
    expected: int
    loading: int


def peak(shape: Shape, use: Settings, world: World) -> HostPeak:
    ranks, nodes = max(1, world.nproc), max(1, world.nnodes)
    processes = PROCESS * ranks
    zero, size = use.zero, float(shape.parameters)
    loading = 0.0
    if use.deepspeed:  # ZeRO-3 splits what each rank reads; below it each rank holds its own copy, widened for training
        loading = 2.0 * size * ranks if zero.stage == 3 or use.finetuning != "full" else 4.0 * size * ranks
    least = expected = 0.0
    if use.deepspeed and zero.optimizer == "cpu":
        low, high = FULL_OFFLOAD if zero.parameters == "cpu" else OPTIMIZER_OFFLOAD
        if use.finetuning == "full":
            least, expected = low * size / nodes, high * size / nodes
        else:
            rest = (2.0 * size if zero.parameters == "cpu" else 0.0) / nodes
            least = expected = rest + high * trained(shape, use) / nodes
    # ranks do not all read at once, and pages of a file can be dropped: one copy is sure
    sure = max(least, loading / ranks) + processes
    return HostPeak(int(sure), int(max(expected, loading) + processes), int(loading))
