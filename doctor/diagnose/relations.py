"""Whether numbers that a signature captured stand in the relation that it demands.

A pattern tells the message, not what its figures mean: of "44.56 GiB total capacity; 27.93 GiB reserved; 565 MiB free"
only a subtraction shows that 16 GiB belong to somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

NUMBER = re.compile(r"^(?P<number>\d+(?:\.\d+)?) ?(?P<unit>[KMGT]i?B|bytes|B|)$")
SIZES = {"": 1, "B": 1, "BYTES": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
TOKEN = re.compile(r"\s*(?:(?P<name>[a-z_]\w*)|(?P<number>\d+(?:\.\d+)?)|(?P<sign>[-+*<=>]))")


def holds(relation: str, groups: Mapping[str, str]) -> bool:
    """Whether `relation` (see `parsed`) is true of the captured texts; False where one is missing or no number."""
    left, order, right = parsed(relation)
    try:
        lower, upper = _value(left, groups), _value(right, groups)
    except (KeyError, ValueError):
        return False
    return {"<": lower < upper, "=": lower == upper, ">": lower > upper}[order]


def quantity(text: str) -> float:
    """A number as programs print it; sizes in bytes (`1.63 GiB`, `565.31 MiB`). Raises ValueError where it is none."""
    match = NUMBER.match(text.strip())
    if match is None:
        raise ValueError(f"no number: {text!r}")
    return float(match["number"]) * SIZES[match["unit"].upper().replace("I", "")]


@lru_cache(maxsize=256)
def parsed(relation: str) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """`total - used > 0.3 * total` → (("total", "-", "used"), ">", ("0.3", "*", "total")): the tokens of the two sides and
    what stands between them. A side is a sum of products of groups' names and numbers. Raises ValueError saying what is
    wrong."""
    tokens = []
    place = 0
    while place < len(relation.rstrip()):
        match = TOKEN.match(relation, place)
        if match is None:
            raise ValueError(f"{relation!r}: not understood from {relation[place:]!r}")
        tokens.append(match[0].strip())
        place = match.end()
    orders = [token for token in tokens if token in "<=>"]
    if len(orders) != 1:
        raise ValueError(f"{relation!r}: one of < = > is needed")
    middle = tokens.index(orders[0])
    sides = tuple(tokens[:middle]), tuple(tokens[middle + 1 :])
    for side in sides:
        if len(side) % 2 == 0 or any((token in "+-*") == (number % 2 == 0) for number, token in enumerate(side)):
            raise ValueError(f"{relation!r}: each side is a sum such as total - 0.5 * used")
    return sides[0], orders[0], sides[1]


def names(relation: str) -> set[str]:
    """The groups that a relation speaks of."""
    left, _, right = parsed(relation)
    return {token for token in (*left, *right) if token[0].isalpha()}


def _value(side: tuple[str, ...], groups: Mapping[str, str]) -> float:
    total, product, sign = 0.0, _term(side[0], groups), 1.0
    for operator, token in zip(side[1::2], side[2::2], strict=True):
        if operator == "*":
            product *= _term(token, groups)
            continue
        total += sign * product
        product, sign = _term(token, groups), 1.0 if operator == "+" else -1.0
    return total + sign * product


def _term(token: str, groups: Mapping[str, str]) -> float:
    return float(token) if token[0].isdigit() else quantity(groups[token])
