"""One file of weights: whether it is whole, and which tensors it holds. A fault is said in words, never raised."""

from __future__ import annotations

from pathlib import Path

import msgspec

from doctor.recipe import safetensors_header, torch_file
from doctor.recipe.safetensors_header import LFS_MARK, Tensor

# Kinds of fault of a weight file, beside those of safetensors_header
MISSING = "missing"
INCOMPLETE = "download not finished"
INDEX_MISMATCH = "does not hold the tensors that the index says"
UNREADABLE = "cannot be read"
NOT_A_PICKLE = "not written by torch"
NO_STATE_DICT = "no state dict"


class WeightFault(msgspec.Struct, frozen=True):
    """One weight file that is not as it must be."""

    file: str
    kind: str
    text: str


def safetensors(path: Path, wanted: set[str]) -> tuple[WeightFault | None, dict[str, Tensor]]:
    try:
        tensors = safetensors_header.read(path)
    except FileNotFoundError:
        return _absent(path), {}
    except safetensors_header.Unreadable as why:
        return WeightFault(path.name, why.kind, str(why)), {}
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return WeightFault(path.name, UNREADABLE, f"{UNREADABLE} ({getattr(error, 'strerror', error)})"), {}
    return _lacking(path, wanted, tensors), tensors


def torch_written(path: Path, wanted: set[str]) -> tuple[WeightFault | None, dict[str, Tensor]]:
    """A .bin is a zip archive (torch 1.6 and later) or a pickle; its tensors, where it has the form of a state dict."""
    fault = _by_its_ends(path)
    if fault is not None:
        return fault, {}
    try:
        tensors = torch_file.tensors(path)
    except torch_file.CutOff as why:
        return WeightFault(path.name, safetensors_header.CUT_OFF, str(why)), {}
    except torch_file.Unusable as why:
        return WeightFault(path.name, NO_STATE_DICT, str(why)), {}
    except OSError as error:
        return WeightFault(path.name, UNREADABLE, f"{UNREADABLE} ({error.strerror})"), {}
    return (None, {}) if tensors is None else (_lacking(path, wanted, tensors), tensors)


def _lacking(path: Path, wanted: set[str], tensors: dict[str, Tensor]) -> WeightFault | None:
    lacking = wanted - tensors.keys()
    if not lacking:
        return None
    text = f"{len(lacking)} tensors of the index are not in it, {min(lacking)} among them"
    return WeightFault(path.name, INDEX_MISMATCH, text)


def _by_its_ends(path: Path) -> WeightFault | None:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(200)
            file.seek(max(0, size - 65_557))
            tail = file.read()
    except FileNotFoundError:
        return _absent(path)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return WeightFault(path.name, UNREADABLE, f"{UNREADABLE} ({getattr(error, 'strerror', error)})")
    if not head:
        return WeightFault(path.name, safetensors_header.EMPTY, "0 bytes")
    if head.startswith(LFS_MARK):
        return WeightFault(path.name, safetensors_header.POINTER, f"{size} bytes of git-lfs pointer text")
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        return WeightFault(path.name, NOT_A_PICKLE, f"it begins with {head[:16]!r}")
    if head.startswith(b"PK\x03\x04") and b"PK\x05\x06" not in tail:
        return WeightFault(path.name, safetensors_header.CUT_OFF, f"{size:,} bytes without the end of the archive")
    return None


def torch_file_fault(path: Path) -> str | None:
    """What is wrong with a file that torch wrote, as far as its first and last bytes tell."""
    fault = _by_its_ends(path)
    return fault.text if fault else None


def _absent(path: Path) -> WeightFault:
    """Missing, or still under the name of an unfinished download."""
    unfinished = next((p.name for p in path.parent.glob(f"{path.name}*") if p.name != path.name), None)
    if unfinished:
        return WeightFault(path.name, INCOMPLETE, f"only {unfinished} is there")
    text = "a link whose target is gone" if path.is_symlink() else "not there"
    return WeightFault(path.name, MISSING, text)
