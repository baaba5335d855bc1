"""What a file written by `torch.save` holds: names, shapes and dtypes of its tensors. None is read, nothing of it is run.

Since torch 1.6 such a file is a zip archive whose `data.pkl` names the storages beside it; before, three small pickles, the
content, the names of the storages and then their bytes. The pickle is read with stand-ins for every class that it names.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import IO, Any

from doctor.recipe.safetensors_header import Tensor

LARGEST_PICKLE = 64 << 20  # bytes of data.pkl
LARGEST_LEGACY = 4 << 30  # bytes of a file without an archive: its content is at its beginning
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MOST_TENSORS = 1_000_000

_DTYPES = {"Double": "F64", "Float": "F32", "Half": "F16", "BFloat16": "BF16", "Long": "I64", "Int": "I32", "Short": "I16",
           "Char": "I8", "Byte": "U8", "Bool": "BOOL"}  # fmt: skip
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_PLAIN = {("collections", "OrderedDict"): dict, ("builtins", "set"): set, ("__builtin__", "set"): set}


UNREAD = object()


class Unusable(Exception):
    """The file is whole, or seems so, and transformers cannot take a state dict from it; the message says what it holds."""


class CutOff(Exception):
    """The bytes of its storages are not all there."""


class _Foreign:
    """An object of a class that no state dict has, such as a model that was saved whole."""

    name = ""

    def __new__(cls, *_: Any, **__: Any) -> _Foreign:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass


def _rebuilt(storage: Any, _: Any = None, size: Any = (), *__: Any) -> Tensor:
    dtype = storage[0] if isinstance(storage, tuple) else "?"
    whole = isinstance(size, tuple) and all(isinstance(length, int) for length in size)
    return Tensor(dtype, list(size) if whole else [], (0, 0))


def _as_it_is(data: Any, *_: Any) -> Any:
    return data


_MADE_BY = {"_rebuild_tensor": _rebuilt, "_rebuild_tensor_v2": _rebuilt, "_rebuild_parameter": _as_it_is,
            "_rebuild_parameter_with_state": _as_it_is}  # fmt: skip


class _Reader(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """`storages`: key -> dtype and number of elements.

    The reader in Python: that in C takes memory for the greatest place in its memo that a pickle names, and so some
    gigabytes for seventy bytes. No state dict has a bytearray, for which both take as much as the pickle says.
    """

    dispatch = {**pickle._Unpickler.dispatch}  # type: ignore[attr-defined]  # noqa: RUF012 - as its base has it
    del dispatch[pickle.BYTEARRAY8[0]]

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.storages: dict[str, tuple[str, int]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in _MADE_BY:
            return _MADE_BY[name]
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return _DTYPES.get(name.removesuffix("Storage"), "?")
        return _PLAIN.get((module, name)) or type(name, (_Foreign,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5:
            return ("?", 0)
        dtype = pid[1] if isinstance(pid[1], str) else "?"
        count = pid[4] if isinstance(pid[4], int) else 0
        self.storages[str(pid[2])] = (dtype, count)
        return (dtype, count)


def tensors(path: Path) -> dict[str, Tensor] | None:
    """By name; None where the file is too large or of a form that is not read here. Raises Unusable, CutOff, OSError."""
    held = content(path)
    return None if held is UNREAD else _state_dict(held)


def content(path: Path) -> Any:
    """Whatever was saved, with Tensor in the place of tensors; UNREAD as above. Raises CutOff, OSError."""
    try:
        with path.open("rb") as file:
            return _of_archive(path) if file.read(4) == b"PK\x03\x04" else _of_pickles(file)
    except (OSError, CutOff):
        raise
    except Exception:  # noqa: BLE001 - a pickle of anybody's: what cannot be read here says nothing about the run
        return UNREAD


def readable(path: Path) -> Any:
    """The same for a file whose missing or cut off bytes are said elsewhere: UNREAD for these, too."""
    try:
        return content(path)
    except (CutOff, OSError):
        return UNREAD


def _of_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        inside = next((entry for entry in archive.infolist() if entry.filename.rpartition("/")[2] == "data.pkl"), None)
        if inside is None or inside.file_size > LARGEST_PICKLE:
            return UNREAD
        with archive.open(inside) as file:
            return _Reader(file).load()


def _of_pickles(file: IO[bytes]) -> Any:
    size = file.seek(0, 2)
    file.seek(0)
    if size > LARGEST_LEGACY or _Reader(file).load() != LEGACY_MAGIC:
        return UNREAD
    _Reader(file).load()  # the version of the form
    _Reader(file).load()  # the sizes of this machine's numbers
    reader = _Reader(file)
    held = reader.load()
    keys = _Reader(file).load()
    stored = [reader.storages.get(str(key), ("?", 0)) for key in keys]
    if all(dtype in _BYTES for dtype, _ in stored):
        end = file.tell() + sum(8 + _BYTES[dtype] * count for dtype, count in stored)
        if end > size:
            raise CutOff(f"{size:,} bytes of {end:,}")
    return held


def _state_dict(held: Any) -> dict[str, Tensor] | None:
    if isinstance(held, _Foreign):
        raise Unusable(f"it holds one {held.name}, saved whole by torch.save, and no tensors by name")
    if not isinstance(held, dict):
        raise Unusable(f"it holds a {type(held).__name__}, and no tensors by name")
    found = {name: tensor for name, tensor in held.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
    if len(found) > MOST_TENSORS:
        return None
    inner = [str(n) for n, v in held.items() if isinstance(v, dict) and any(isinstance(t, Tensor) for t in v.values())]
    if not found and inner:
        raise Unusable(f'its tensors lie under "{inner[0][:40]}", as a training program saves them')
    if not found:
        names = ", ".join(str(name)[:40] for name in list(held)[:4]) or "nothing"
        raise Unusable(f"it holds no tensors by name, but {names}")
    return found
