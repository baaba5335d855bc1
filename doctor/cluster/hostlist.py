"""Host lists as Slurm writes them: `node[003-007,012],login`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBERED = re.compile(r"(?P<head>.*?)(?P<number>\d{1,18})(?P<tail>\D*)")


def fold(names: Iterable[str]) -> str:
    """Names as one host list, sorted; only the last number of a name is folded, its leading zeros are kept."""
    plain: list[str] = []
    numbered: dict[tuple[str, str, int], list[int]] = {}
    for name in dict.fromkeys(names):
        match = _NUMBERED.fullmatch(name)
        if match is None:
            plain.append(name)
            continue
        digits = match["number"]
        width = len(digits) if digits.startswith("0") else 0  # 0: no leading zeros, 9 and 10 fold together
        numbered.setdefault((match["head"], match["tail"], width), []).append(int(digits))
    _adopt(numbered)
    parts = [_folded(*key, sorted(numbers)) for key, numbers in numbered.items()]
    return ",".join(sorted([*plain, *parts]))


def _adopt(numbered: dict[tuple[str, str, int], list[int]]) -> None:
    """`node009` and `node010` belong together: numbers without leading zeros join the padded ones of their length."""
    for head, tail, width in [key for key in numbered if key[2]]:
        unpadded = numbered.get((head, tail, 0), [])
        fitting = [number for number in unpadded if len(str(number)) == width]
        numbered[head, tail, width] += fitting
        rest = [number for number in unpadded if len(str(number)) != width]
        numbered[head, tail, 0] = rest
        if not rest:
            del numbered[head, tail, 0]


def _folded(head: str, tail: str, width: int, numbers: list[int]) -> str:
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    if len(numbers) == 1:
        return f"{head}{numbers[0]:0{width}d}{tail}"
    shown = (f"{a:0{width}d}" if a == b else f"{a:0{width}d}-{b:0{width}d}" for a, b in ranges)
    return f"{head}[{','.join(shown)}]{tail}"


def expand(hostlist: str) -> list[str]:
    """The names of a host list with at most one bracket in each part. Raises ValueError for anything else."""
    names: list[str] = []
    for part in _parts(hostlist):
        head, bracket, rest = part.partition("[")
        inside, closed, tail = rest.partition("]")
        if not bracket:
            names.append(part)
            continue
        if not closed or "[" in tail:
            raise ValueError(f"{part} is no host list")
        for piece in inside.split(","):
            first, _, last = piece.partition("-")
            names += [f"{head}{n:0{len(first)}d}{tail}" for n in range(int(first), int(last or first) + 1)]
    return names


def _parts(hostlist: str) -> list[str]:
    """Split at the commas that stand outside brackets."""
    parts, depth = [""], 0
    for letter in hostlist:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part]
