"""Mutations of files: of their bytes, and of the JSON values in them. Everything is drawn from the `random.Random` given."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

LARGEST = 200_000  # bytes of a mutated file; what matters here is its form

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**400, 1e308, -1e-308, float("nan"), float("inf"), "",
    " ", "auto", "none", "\x00", "\ud800", "模型", "../../x", "/", "~", "a" * 5000, "1e-5", "<image>", "{}", "[", [], {},
    [[]], [None], [{}], {"": None}, {"a": {"b": {"c": []}}}, [1, "1", None, [], {}], ["x"] * 300,
)  # fmt: skip
WORDS = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"'", b"\\", b"\n", b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"//",
    b"/*", b"#", b"null", b"true", b"NaN", b"-", b"- ", b"? ", b"&a ", b"*a", b"<<: ", b"!!", b"%", b"|\n", b">", b"---\n",
    b"1e999", b"0x", b"\xe4\xbd", b"\\ud800", b"\\u0000", b"]]]]", b"[" * 3000, b'{"a":' * 2000, b"9" * 5000, b"\r", b"\xa0",
)  # fmt: skip


def _span(draw: random.Random, size: int, longest: int = 64) -> tuple[int, int]:
    start = draw.randrange(size + 1)
    return start, min(size, start + draw.randint(1, longest))


def _flip(raw: bytes, draw: random.Random) -> bytes:
    if not raw:
        return raw
    made = bytearray(raw)
    for _ in range(draw.choice((1, 1, 2, 8))):
        made[draw.randrange(len(made))] ^= 1 << draw.randrange(8)
    return bytes(made)


def _delete(raw: bytes, draw: random.Random) -> bytes:
    start, end = _span(draw, len(raw))
    return raw[:start] + raw[end:]


def _repeat(raw: bytes, draw: random.Random) -> bytes:
    start, end = _span(draw, len(raw))
    return raw[:end] + raw[start:end] * draw.choice((1, 2, 50)) + raw[end:]


def _insert(raw: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(raw) + 1)
    return raw[:at] + draw.choice(WORDS) + raw[at:]


def _noise(raw: bytes, draw: random.Random) -> bytes:
    start, end = _span(draw, len(raw), 16)
    return raw[:start] + draw.randbytes(end - start) + raw[end:]


def _truncate(raw: bytes, draw: random.Random) -> bytes:
    return raw[: draw.randrange(len(raw) + 1)]


def _swap(raw: bytes, draw: random.Random) -> bytes:
    a, b = sorted((_span(draw, len(raw)), _span(draw, len(raw))))
    if a[1] > b[0]:
        return raw
    return raw[: a[0]] + raw[b[0] : b[1]] + raw[a[1] : b[0]] + raw[a[0] : a[1]] + raw[b[1] :]


def _number(raw: bytes, draw: random.Random) -> bytes:
    """Replace a digit by another number."""
    places = [at for at, byte in enumerate(raw[:4096]) if 0x30 <= byte <= 0x39]
    if not places:
        return raw
    at = draw.choice(places)
    return raw[:at] + draw.choice((b"-1", b"1e9", b"99999999999999999999", b"0.5", b"", b"NaN")) + raw[at + 1 :]


def _encoding(raw: bytes, draw: random.Random) -> bytes:
    return raw.decode("utf-8", "replace").encode(draw.choice(("utf-16", "utf-32", "gb18030", "utf-8-sig")), "replace")


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _flip, _delete, _repeat, _insert, _insert, _noise, _truncate, _swap, _number, _encoding,
)  # fmt: skip


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """One to four mutations of the bytes."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        raw = draw.choice(BYTES)(raw, draw)
    return raw[:LARGEST]


def odd_value(raw: bytes, draw: random.Random) -> bytes:
    """The JSON document with one to three of its values, keys or items changed. Other bytes are mutated as bytes."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return mutated(raw, draw)
    for _ in range(draw.choice((1, 1, 2, 3))):
        document = _changed(document, draw)
    return json.dumps(document, ensure_ascii=draw.random() < 0.5, indent=draw.choice((None, 1))).encode(
        "utf-8", "surrogatepass" if draw.random() < 0.5 else "replace"
    )


def _changed(value: Any, draw: random.Random) -> Any:
    """`value` with a change somewhere in it: at itself or, more often, further down."""
    if not isinstance(value, (dict, list)) or not value or draw.random() < 0.15:
        return draw.choice(ODD)
    if isinstance(value, dict):
        key = draw.choice(list(value))
        kind = draw.randrange(6)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        if kind == 1:
            return {
                draw.choice(("", "x", "__class__", key.upper(), key + " ")) if k == key else k: v
                for k, v in value.items()
            }
        return {**value, key: _changed(value[key], draw)}
    at = draw.randrange(len(value))
    kind = draw.randrange(5)
    if kind == 0:
        return value[:at] + value[at + 1 :]
    if kind == 1:
        return [*value, _changed(value[at], draw)]
    return [*value[:at], _changed(value[at], draw), *value[at + 1 :]]


def choose(seeds: Sequence[bytes], draw: random.Random) -> bytes:
    """A mutated file made from one of the seeds; now and then the front of one and the back of another."""
    raw = draw.choice(seeds)
    if draw.random() < 0.05:
        other = draw.choice(seeds)
        raw = raw[: draw.randrange(len(raw) + 1)] + other[draw.randrange(len(other) + 1) :]
    return odd_value(raw, draw) if draw.random() < 0.45 else mutated(raw, draw)
