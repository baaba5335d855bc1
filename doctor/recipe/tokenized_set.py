"""A folder of tokenised data (tokenized_path), as `datasets.load_from_disk` and the stage of the run will take it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doctor.recipe import source_tree

_CHILD = Path(__file__).with_name("token_child.py")
# Stage -> columns that its collator asks every record for (data/collator.py, train/*/trainer.py).
_PAIRS = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
_NEEDED = {"pt": ("input_ids",), "ppo": ("input_ids",), "sft": ("input_ids", "labels"), "rm": _PAIRS, "dpo": _PAIRS,
           "kto": ("input_ids", "labels", "kl_input_ids", "kto_tags")}  # fmt: skip


def there(folder: Path) -> bool:
    """Whether it will be loaded, so that dataset_info.json is never read."""
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def splits(folder: Path) -> list[str]:
    """Names of the splits; one without a name where the folder is a set by itself. Raises OSError, ValueError, KeyError,
    TypeError where nobody could read them."""
    try:
        return [str(name) for name in json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]]
    except FileNotFoundError:
        return [""]


def fault(folder: Path, stage: str, loader: Path | None) -> str | None:
    """What the folder lacks. `loader`: data/loader.py of the release, which takes a set without splits or does not."""
    try:
        names = splits(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"dataset_dict.json cannot be read ({error})"
    for split in names:
        for name in ("dataset_info.json", "state.json"):
            if not (folder / split / name).is_file():
                return f"{Path(split) / name} is not there"
        try:
            lost = [str(Path(split) / file.name) for file in _files(folder / split) if not _has_bytes(file)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{Path(split) / 'state.json'} cannot be read ({error})"
        if lost:
            return f"{lost[0]} is empty or not there"
        if lacking := _misfit(folder / split / "dataset_info.json", stage):
            return f"{Path(split) / 'dataset_info.json'} {lacking}"
    if "train" in names or (names == [""] and not _wants_splits(loader)):
        return None
    return (
        f"it has no split train, only {', '.join(names)}" if names != [""] else "it has no split train, nor any other"
    )


def _files(folder: Path) -> list[Path]:
    told = json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]
    return [folder / file["filename"] for file in told]


def _misfit(path: Path, stage: str) -> str | None:
    """Columns that the stage does without: of data that were saved before they were tokenised, or for another stage."""
    try:
        features = json.loads(path.read_text(encoding="utf-8")).get("features")
    except (OSError, ValueError, AttributeError):
        return None
    if not isinstance(features, Mapping):
        return None
    lacking = [name for name in _NEEDED.get(stage, ()) if name not in features]
    if lacking:
        return f"names no column {lacking[0]}, which stage {stage} needs: {', '.join(map(str, list(features)[:6]))}"
    for name in _NEEDED.get(stage, ()):
        kind = _type_of(features[name])
        if kind.startswith(("float", "double", "string", "large_string")):
            return f"names {kind} as the type of {name}; whole numbers are needed"
    return None


def _type_of(feature: Any) -> str:
    while isinstance(feature, Mapping) and "feature" in feature:
        feature = feature["feature"]
    return str(feature.get("dtype")) if isinstance(feature, Mapping) else ""


def _wants_splits(loader: Path | None) -> bool:
    """Releases before 0.9.2 look for a train in whatever was loaded, and a set by itself has none."""
    return loader is not None and '"train" in dataset_dict' in source_tree.text(loader)


def _has_bytes(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def widest(folder: Path, python: Path | None, seconds: float) -> dict[str, list[int]]:
    """Column -> lowest and highest id of what could be read in the time; empty where nobody could look."""
    try:
        files = [str(file) for split in splits(folder) for file in _files(folder / split)]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if python is None or not files:
        return {}
    try:
        child = subprocess.run(
            [str(python), "-I", str(_CHILD), *files], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, timeout=seconds,
        )  # fmt: skip
        told = child.stdout
    except subprocess.TimeoutExpired as late:
        told = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
    except OSError:
        return {}
    lines = [line for line in told.split("\n")[:-1] if line]  # the last one may be cut off
    try:
        return {name: list(ends) for name, ends in json.loads(lines[-1]).items()} if lines else {}
    except ValueError:
        return {}
