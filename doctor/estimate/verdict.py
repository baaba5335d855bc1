"""One configuration judged: the card's peak, the host's, and whether they fit. Pure."""

from __future__ import annotations

import msgspec

from doctor.estimate import host
from doctor.estimate.settings import Settings, World
from doctor.estimate.shape import Shape
from doctor.estimate.timeline import STEPS, Peaks, Run

_MIB = 1 << 20
# What a process holds of a card beside PyTorch's allocator, on an H100 with torch 2.11: its CUDA context and loaded
# kernels, with NCCL, with DeepSpeed's communicators, and with the streams of an offload.
CONTEXT, CONTEXT_NCCL, CONTEXT_DEEPSPEED, CONTEXT_OFFLOAD = 767 * _MIB, 1331 * _MIB, 1721 * _MIB, 1755 * _MIB
MARGIN = 0.03  # of a card that must stay free for "fits"
WIDE_MARGIN = 0.2  # instead, where no run was measured with what the recipe asks for
ROOMY = 0.85  # of a card that tensors may take where a run fits only because the allocator gives segments back

FITS, NOT, UNKNOWN = "fits", "does not fit", "cannot tell"
WIDE = "GPU memory is within the wide margin of what no run was measured with"


class Judged(msgspec.Struct, frozen=True):
    """`gpu` is what the card shows at the peak; `sure` of it is held by tensors and context, the rest is slack."""

    gpu: int
    sure: int
    context: int
    held: dict[str, int]  # what tensors hold at that moment, by what it is
    host: host.HostPeak
    verdict: str
    reason: str


def context(use: Settings, world: World) -> int:
    if use.deepspeed:
        return CONTEXT_OFFLOAD if use.zero.optimizer in ("cpu", "nvme") else CONTEXT_DEEPSPEED
    return CONTEXT_NCCL if world.size > 1 else CONTEXT


def judge(shape: Shape, use: Settings, world: World, steps: int = STEPS) -> Judged:
    """Play the run with a card as large as it needs; if it may not fit, again with what there is."""
    outside = context(use, world)
    open_end = Run(shape, use, world).play(steps)
    needs = host.peak(shape, use, world)
    peaks, verdict, reason = open_end, UNKNOWN, "the size of the GPUs is not known"
    if world.gpu_bytes:
        peaks, verdict, reason = _on_card(shape, use, world, open_end, outside, steps)
    if (
        (use.unmeasured or shape.vision or shape.latent)
        and verdict != UNKNOWN
        and _near(peaks, outside, world, verdict)
    ):
        verdict, reason = UNKNOWN, WIDE
    if verdict == FITS and world.host_bytes is not None:
        if needs.least > world.host_bytes:
            verdict, reason = NOT, "host memory"
        elif needs.expected > world.host_bytes:
            verdict, reason = UNKNOWN, "host memory is within the margin"
    gpu = max(peaks.reserved, peaks.allocated) + outside
    return Judged(gpu, peaks.allocated + outside, outside, peaks.held, needs, verdict, reason)


def _near(peaks: Peaks, outside: int, world: World, verdict: str) -> bool:
    """Whether a figure that no run was compared with is too near to the card's size for a verdict."""
    total = world.gpu_bytes or 0
    if verdict == FITS:
        return max(peaks.reserved, peaks.allocated) + outside > total * (1 - WIDE_MARGIN)
    return peaks.allocated + outside < total * (1 + WIDE_MARGIN)


def _on_card(
    shape: Shape, use: Settings, world: World, open_end: Peaks, outside: int, steps: int
) -> tuple[Peaks, str, str]:
    total = world.gpu_bytes or 0
    if open_end.reserved + outside <= total * (1 - MARGIN):
        return open_end, FITS, ""
    if open_end.allocated + outside > total:
        return open_end, NOT, "GPU memory"
    # PyTorch gives unused segments back before it fails: what counts then is how the rest lies
    bounded = Run(shape, use, world, total * (1 - MARGIN) - outside).play(steps)
    if bounded.fits:
        roomy = open_end.allocated + outside <= total * ROOMY
        return bounded, FITS if roomy else UNKNOWN, "" if roomy else "GPU memory is within the margin"
    shown = msgspec.structs.replace(open_end, reserved=min(open_end.reserved, total - outside), fits=False)
    return shown, UNKNOWN, "GPU memory is within the margin"
