"""The header of a .safetensors file: which tensors it holds, and whether the file is whole. Weights are never read.

Format: 8 bytes length of the header (little endian), that many bytes of JSON, then the tensors
(https://github.com/huggingface/safetensors#format). The library refuses headers above 100,000,000 bytes.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from doctor.recipe.json_records import UNDECODABLE

HEADER_LIMIT = 100_000_000  # bytes; MAX_HEADER_SIZE of the safetensors library
LFS_MARK = b"version https://git-lfs.github.com/spec/"

# Kinds of Unreadable
POINTER = "git-lfs pointer"
EMPTY = "empty"
CUT_OFF = "cut off"
TOO_LONG = "longer than its header says"
HEADER_TOO_LARGE = "header above the limit"
NOT_SAFETENSORS = "not a safetensors file"


class Tensor(msgspec.Struct, frozen=True):
    """`data_offsets` are relative to the end of the header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]

    @property
    def elements(self) -> int:
        count = 1
        for length in self.shape:
            count *= length
        return count


class Unreadable(Exception):
    """The file is not a whole safetensors file; `kind` is one of the kinds above, the message shows the figures."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


# Dtypes of the library beside those below, of less than a byte or newer than most of its releases.
_OTHERS = ("F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64")
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "F8_E4M3": 1,
          "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1}  # fmt: skip
_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TENSOR = msgspec.json.Decoder(Tensor)


def read(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Raises Unreadable, OSError. Cost: one read of the header."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(200)
        if not head:
            raise Unreadable(EMPTY, "0 bytes")
        if head.startswith(LFS_MARK):
            raise Unreadable(POINTER, f"{size} bytes of git-lfs pointer text")
        if size < 8:
            raise Unreadable(CUT_OFF, f"{size} bytes")
        length = int.from_bytes(head[:8], "little")
        if length > HEADER_LIMIT:
            whole = 8 + length <= size and head[8:9] == b"{"
            kind = HEADER_TOO_LARGE if whole else NOT_SAFETENSORS
            raise Unreadable(kind, f"a header of {length:,} bytes in a file of {size:,}")
        if 8 + length > size:
            kind = CUT_OFF if head[8:9] in (b"{", b"") else NOT_SAFETENSORS
            raise Unreadable(kind, f"a header of {length:,} bytes in a file of {size:,}")
        raw = (head + file.read(max(0, 8 + length - len(head))))[8 : 8 + length]
    try:
        parts = _DECODER.decode(raw)
        tensors = {name: _TENSOR.decode(part) for name, part in parts.items() if name != "__metadata__"}
    except UNDECODABLE as error:
        raise Unreadable(NOT_SAFETENSORS, f"its header is not the JSON of tensors ({error})") from None
    for name, tensor in tensors.items():
        size_of_one = _BYTES.get(tensor.dtype)
        taken = tensor.data_offsets[1] - tensor.data_offsets[0]
        if size_of_one is not None and tensor.elements * size_of_one != taken:
            raise Unreadable(NOT_SAFETENSORS, f"{name} of {tensor.shape} in {tensor.dtype} cannot take {taken:,} bytes")
    _laid_out(tensors)
    _metadata(parts.get("__metadata__"))
    end = 8 + length + max((t.data_offsets[1] for t in tensors.values()), default=0)
    if end > size:
        raise Unreadable(CUT_OFF, f"{size:,} bytes of {end:,}")
    if end < size:
        raise Unreadable(TOO_LONG, f"{size:,} bytes where the header accounts for {end:,}")
    return tensors


def _laid_out(tensors: dict[str, Tensor]) -> None:
    """Each tensor begins where the one before it ends, and is of a dtype that the library has. Raises Unreadable."""
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begins, ends = tensor.data_offsets
        if tensor.dtype not in _BYTES and tensor.dtype not in _OTHERS:
            raise Unreadable(NOT_SAFETENSORS, f"{name} is of the dtype {tensor.dtype[:40]!r}, which there is none of")
        if begins != at or ends < begins:
            raise Unreadable(NOT_SAFETENSORS, f"{name} begins at byte {begins:,} where {at:,} is the next")
        at = ends


def _metadata(raw: msgspec.Raw | None) -> None:
    """The library takes text alone. Raises Unreadable."""
    try:
        msgspec.json.decode(raw or b"{}", type=dict[str, str])
    except UNDECODABLE as error:
        raise Unreadable(NOT_SAFETENSORS, f"its metadata hold something other than text ({error})") from None


def made_by_torch(path: Path) -> bool:
    """Whether the metadata name the format `pt`, or one that transformers turns; releases before 5 ask for it."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            raw = file.read(min(length, HEADER_LIMIT))
        held = msgspec.json.decode(_DECODER.decode(raw).get("__metadata__", msgspec.Raw(b"null")))
    except (OSError, *UNDECODABLE):
        return True  # what cannot be read is said elsewhere
    return isinstance(held, dict) and held.get("format") in ("pt", "mlx")
