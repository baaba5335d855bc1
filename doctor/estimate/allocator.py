"""PyTorch's caching allocator, played back: what it reserves for a sequence of allocations.

The rules are those of c10/cuda/CUDACachingAllocator.cpp: sizes above 1 MiB come from the large pool; the smallest free
block that fits is taken and split when more than 1 MiB would be left; a new segment is 20 MiB for requests under
10 MiB, else the request rounded up to 2 MiB; neighbours that are free are joined again. Requests up to 1 MiB are only
counted. What is taken has a kind, so that a peak can be told apart: `at_peak` is kind -> bytes.
"""

from __future__ import annotations

from bisect import bisect_left, insort

_MIB = 1 << 20
SMALL, MIDDLE, SEGMENT, ROUND, GRAIN = _MIB, 10 * _MIB, 20 * _MIB, 2 * _MIB, 512


class Block:
    __slots__ = ("after", "before", "free", "kind", "number", "size")

    def __init__(self, size: int, number: int) -> None:
        self.size = size
        self.number = number
        self.free = False
        self.kind = ""
        self.before: Block | None = None
        self.after: Block | None = None


class Allocator:
    """`take` gives a handle for `give`. All figures are bytes; `capacity` is what may be reserved."""

    def __init__(self, capacity: float = float("inf")) -> None:
        self.capacity = capacity
        self.failed = False  # a request did not fit even after all unused segments were given back
        self.reserved = self.allocated = self.peak = self.peak_reserved = 0
        self._free: list[tuple[int, int]] = []
        self._blocks: dict[int, Block] = {}
        self._numbers = 0
        self._held: dict[str, int] = {}
        self._at_peak: dict[str, int] = {}
        self._rising = False  # the peak was passed, and nothing was given back since

    @property
    def at_peak(self) -> dict[str, int]:
        return dict(self._held if self._rising else self._at_peak)

    def take(self, size: float, kind: str = "") -> Block:
        block = self._take(size)
        block.kind = kind
        self._held[kind] = self._held.get(kind, 0) + block.size
        if self.allocated > self.peak:
            self.peak, self._rising = self.allocated, True
        return block

    def _take(self, size: float) -> Block:
        wanted = max(GRAIN, -(-int(size) // GRAIN) * GRAIN)
        self.allocated += wanted
        if wanted <= SMALL:
            return self._new(wanted, -1)
        at = bisect_left(self._free, (wanted, 0))
        if at < len(self._free):
            _, number = self._free.pop(at)
            block = self._blocks[number]
        else:
            segment = SEGMENT if wanted < MIDDLE else -(-wanted // ROUND) * ROUND
            if self.reserved + segment > self.capacity:
                self._give_back()
                self.failed |= self.reserved + segment > self.capacity
            self.reserved += segment
            self.peak_reserved = max(self.peak_reserved, self.reserved)
            block = self._new(segment, None)
        block.free = False
        if block.size - wanted > SMALL:
            rest = self._new(block.size - wanted, None)
            rest.before, rest.after = block, block.after
            if block.after:
                block.after.before = rest
            block.after, block.size = rest, wanted
            self._release(rest)
        else:
            self.allocated += block.size - wanted  # the whole block counts as allocated
        return block

    def give(self, block: Block) -> None:
        if self._rising:
            self._at_peak, self._rising = dict(self._held), False
        self._held[block.kind] -= block.size
        self.allocated -= block.size
        if block.number < 0:
            return
        for other in (block.before, block.after):
            if other is not None and other.free:
                self._free.pop(bisect_left(self._free, (other.size, other.number)))
                block.size += other.size
                del self._blocks[other.number]
                if other is block.before:
                    block.before = other.before
                    if other.before:
                        other.before.after = block
                else:
                    block.after = other.after
                    if other.after:
                        other.after.before = block
        self._release(block)

    def _give_back(self) -> None:
        """Return segments without a used block to the driver, as before a retry."""
        for size, number in [*self._free]:
            block = self._blocks[number]
            if block.before is None and block.after is None:
                self._free.pop(bisect_left(self._free, (size, number)))
                del self._blocks[number]
                self.reserved -= size

    def _new(self, size: int, number: int | None) -> Block:
        if number is None:
            self._numbers += 1
            number = self._numbers
        block = Block(size, number)
        if number >= 0:
            self._blocks[number] = block
        return block

    def _release(self, block: Block) -> None:
        block.free = True
        insort(self._free, (block.size, block.number))
