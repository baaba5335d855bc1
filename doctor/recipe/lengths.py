"""Lengths of records in tokens: what cutoff_len cuts, which records keep nothing to learn, and their distribution."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

BARS = 12
EXAMPLES = 3
QUANTILES = (0.5, 0.9, 0.95, 0.99, 1.0)
ROUND = 64  # a cutoff is a multiple of it


class Bar(msgspec.Struct, frozen=True):
    """`count` records of `low` to `high` tokens."""

    low: int
    high: int
    count: int


class Lengths(msgspec.Struct, frozen=True):
    """Of a sample: `sampled` of `read` records (`complete`: all that there are were looked at).

    `dropped`: the preprocessing of the release leaves them out. `cut`: longer than `cutoff`. `unlabelled`: no token is left
    to learn, `unlabelled_uncut` of them although nothing was cut. `lost`: share of all tokens that is cut off. `examples`:
    places in the sample of records without a label, else of the longest that are cut.
    """

    sampled: int
    read: int
    complete: bool
    cutoff: int
    dropped: int
    cut: int
    unlabelled: int
    unlabelled_uncut: int
    lost: float
    quantiles: dict[str, int]
    bars: list[Bar]
    examples: list[int]


def summarise(
    whole: Sequence[int], kept: Sequence[int], labels: Sequence[int], cutoff: int, read: int, complete: bool
) -> Lengths | None:
    """From tokens of each record whole and under the cutoff (-1: dropped) and its learnt tokens; None without records."""
    places = [place for place, tokens in enumerate(whole) if tokens >= 0]
    if not whole:
        return None
    lengths = sorted(whole[place] for place in places)
    cut = [place for place in places if whole[place] > cutoff]
    bare = [place for place in places if labels[place] == 0]
    total = sum(lengths)
    longest = sorted(cut, key=lambda place: -whole[place])
    return Lengths(
        sampled=len(whole),
        read=read,
        complete=complete,
        cutoff=cutoff,
        dropped=len(whole) - len(places),
        cut=len(cut),
        unlabelled=len(bare),
        unlabelled_uncut=sum(whole[place] <= cutoff for place in bare),
        lost=sum(max(0, whole[place] - max(0, kept[place])) for place in cut) / total if total else 0.0,
        quantiles={f"{share:g}": quantile(lengths, share) for share in QUANTILES} if lengths else {},
        bars=bars(lengths),
        examples=(bare or longest)[:EXAMPLES],
    )


def quantile(ordered: Sequence[int], share: float) -> int:
    """The smallest length that is at least as long as `share` of them."""
    return ordered[min(len(ordered) - 1, max(0, -(-round(share * len(ordered) * 1e6) // 10**6) - 1))]


def bars(ordered: Sequence[int], most: int = BARS) -> list[Bar]:
    """A histogram whose width is a power of two from 16 on, of `most` bars at most."""
    if not ordered:
        return []
    width = 16
    while ordered[-1] // width >= most:
        width *= 2
    counts = [0] * (ordered[-1] // width + 1)
    for length in ordered:
        counts[length // width] += 1
    first = ordered[0] // width
    return [Bar(place * width, (place + 1) * width - 1, counts[place]) for place in range(first, len(counts))]


def fitting_cutoff(lengths: Lengths, longest_of_model: int | None) -> int | None:
    """The cutoff that keeps 99 of a hundred records whole, within what the model was made for; None if there is none."""
    wanted = -(-lengths.quantiles.get("0.99", 0) // ROUND) * ROUND
    limit = longest_of_model if longest_of_model else wanted
    return min(wanted, limit) if min(wanted, limit) > lengths.cutoff else None
