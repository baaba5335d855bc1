"""DeepSpeed's own configuration classes, read from the target's source, and what they refuse of a JSON.

The classes are pydantic models that forbid unknown keys; a value "auto" is dropped before they see it
(deepspeed/runtime/config_utils.py). Only the parts of the JSON that such a class reads are judged.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from doctor import syntax

# Where the classes stand, by release; a file that a release lacks is left out.
FILES = ("runtime/zero/config.py", "runtime/zero/offload_config.py", "runtime/precision_config.py", "monitor/config.py",
         "compile/config.py", "runtime/zenflow/zenflow_config.py", "comm/config.py",
         "runtime/config.py", "runtime/tensor_parallel/config.py", "inference/config.py", "utils/config.py")  # fmt: skip
# Part of the JSON -> the class that reads it.
PARTS = {"zero_optimization": "DeepSpeedZeroConfig", "fp16": "DeepSpeedFP16Config", "bf16": "DeepSpeedBF16Config",
         "tensorboard": "TensorBoardConfig", "wandb": "WandbConfig", "csv_monitor": "CSVConfig", "comet": "CometConfig",
         "compile": "CompileConfig", "comms_logger": "CommsLoggerConfig", "hybrid_engine": "HybridEngineConfig",
         "tensor_parallel": "TPTrainingConfig", "weight_quantization": "WeightQuantConfig",
         "timers.throughput": "DeepSpeedThroughputTimerConfig"}  # fmt: skip

UNKNOWN, WRONG_TYPE, FRACTION, CHOICE, RANGE = "unknown key", "wrong type", "fraction", "choice", "range"
_TRUE_OR_FALSE = ("true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0")  # pydantic's, lower case


class ClassField(msgspec.Struct, frozen=True):
    """`type`: the annotation without Optional; `at_least`, `at_most`: bounds of Field; `alias`: the name in the JSON."""

    type: str
    optional: bool = False
    alias: str | None = None
    at_least: float | None = None
    at_most: float | None = None


class Classes(msgspec.Struct, frozen=True):
    """`fields`: class -> its fields; `choices`: enumeration -> its values."""

    fields: dict[str, dict[str, ClassField]]
    choices: dict[str, list[Any]]


class Refused(msgspec.Struct, frozen=True):
    """`path`: dotted, as in the JSON; `meant`: the value or, of an unknown key, the key that was probably meant."""

    path: str
    kind: str
    text: str
    meant: Any = None


def files(package: Path) -> tuple[Path, ...]:
    """The source files that there are. Empty for a release that has no such classes."""
    return tuple(path for name in FILES if (path := package / name).is_file())


def read(package: Path) -> Classes:
    """Raises OSError, SyntaxError when a source cannot be read."""
    found = Classes({}, {})
    for path in files(package):
        for node in syntax.tree(path.read_text(encoding="utf-8"), filename=str(path)).body:
            if not isinstance(node, ast.ClassDef):
                continue
            bases = [ast.unparse(base) for base in node.bases]
            if "Enum" in bases:
                found.choices[node.name] = [n.value.value for n in node.body if isinstance(n, ast.Assign)
                                            and isinstance(n.value, ast.Constant)]  # fmt: skip
            elif inherited := [base for base in bases if base == "DeepSpeedConfigModel" or base in found.fields]:
                own = {name: field for name, field in map(_field, node.body) if field}
                found.fields[node.name] = {**found.fields.get(inherited[0], {}), **own}
    return found


def _field(node: ast.stmt) -> tuple[str, ClassField | None]:
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
        return "", None
    written = ast.unparse(node.annotation)
    optional = written.startswith("Optional[")
    call = node.value if isinstance(node.value, ast.Call) else None
    said: dict[str | None, Any] = {
        k.arg: k.value.value for k in (call.keywords if call else ()) if isinstance(k.value, ast.Constant)
    }
    bounds = {name: float(said[key]) for name, key in (("at_least", "ge"), ("at_most", "le")) if key in said}
    kind = written.removeprefix("Optional[").removesuffix("]") if optional else written
    return node.target.id, ClassField(kind, optional, said.get("alias"), **bounds)


def refused(config: Mapping[str, Any], classes: Classes) -> list[Refused]:
    """What the classes refuse, in the order of the JSON."""
    found: list[Refused] = []
    for part, name in PARTS.items():
        above, _, key = part.rpartition(".")
        holder = config.get(above) if above else config
        written = holder.get(key) if isinstance(holder, Mapping) else None
        if name not in classes.fields or isinstance(written, bool) or written is None:
            continue  # true and false are an older way to write it
        if isinstance(written, Mapping):
            found += _of_class(part, written, classes.fields[name], classes)
        elif part not in ("bf16", "fp16"):  # transformers asks these for keys before their classes are made
            meant = {"stage": written} if part == "zero_optimization" and isinstance(written, int) else None
            found.append(Refused(part, WRONG_TYPE, f"{part} is {written!r}; an object is needed", meant))
    return found


def _of_class(
    path: str, written: Mapping[str, Any], fields: Mapping[str, ClassField], classes: Classes
) -> list[Refused]:
    named = {**fields, **{field.alias: field for field in fields.values() if field.alias}}
    found: list[Refused] = []
    for key, value in written.items():
        at = f"{path}.{key}"
        if value == "auto":
            continue
        if key not in named:
            near = next(iter(difflib.get_close_matches(key, named, n=1, cutoff=0.6)), None)
            hint = f"; the nearest is {near}" if near else ""
            found.append(Refused(at, UNKNOWN, f"{at} is no key of this DeepSpeed{hint}", near))
            continue
        field = named[key]
        if field.type in classes.fields and isinstance(value, Mapping):
            found += _of_class(at, value, classes.fields[field.type], classes)
        elif problem := _misfit(at, value, field, classes):
            found.append(problem)
    return found


def _misfit(at: str, value: Any, field: ClassField, classes: Classes) -> Refused | None:
    """As pydantic judges without strictness: "5" and 5.0 are whole numbers, "on" is true, null only where it is allowed."""
    if value is None:
        return None if field.optional else Refused(at, WRONG_TYPE, f"{at} is null")
    if field.type in classes.choices:
        return _choice(at, value, classes.choices[field.type])
    if field.type in classes.fields:
        return Refused(at, WRONG_TYPE, f"{at} is {value!r}; an object is needed")
    if field.type == "bool":
        good = isinstance(value, bool) or value in (0, 1) or str(value).lower() in _TRUE_OR_FALSE
        return None if good else Refused(at, WRONG_TYPE, f"{at} is {value!r}; true or false is needed")
    if field.type in ("int", "float"):
        return _number(at, value, field)
    if field.type == "list" and not isinstance(value, list):
        return Refused(at, WRONG_TYPE, f"{at} is {value!r}; a list is needed")
    if field.type == "Dict" and not isinstance(value, Mapping):
        return Refused(at, WRONG_TYPE, f"{at} is {value!r}; an object is needed")
    if field.type == "str" and not isinstance(value, str):
        return Refused(at, WRONG_TYPE, f"{at} is {value!r}; text is needed", str(value))
    return None


def _number(at: str, value: Any, field: ClassField) -> Refused | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return Refused(at, WRONG_TYPE, f"{at} is {value!r}; a number is needed")
    if field.type == "int" and not math.isfinite(number):
        return Refused(at, WRONG_TYPE, f"{at} is {value!r}; a whole number is needed")
    if field.type == "int" and isinstance(value, str) and not value.strip().lstrip("+-").replace(".0", "").isdecimal():
        meant = int(number) if number == int(number) else None
        return Refused(at, WRONG_TYPE, f"{at} is the text {value!r}; a whole number is needed", meant)
    if field.type == "int" and number != int(number):
        return Refused(at, FRACTION, f"{at} is {value!r}; a whole number is needed", int(number))
    if field.at_least is not None and number < field.at_least:
        return Refused(at, RANGE, f"{at} is {value!r}; at least {field.at_least:g} is needed")
    if field.at_most is not None and number > field.at_most:
        return Refused(at, RANGE, f"{at} is {value!r}; at most {field.at_most:g} is allowed")
    return None


def _choice(at: str, value: Any, choices: list[Any]) -> Refused | None:
    if value in choices or (all(isinstance(c, int) for c in choices) and str(value) in map(str, choices)):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, str, float)):
        return Refused(at, CHOICE, f"{at} is {value!r}; {', '.join(map(str, dict.fromkeys(choices)))} is known")
    if isinstance(value, int) and all(isinstance(c, int) for c in choices):
        meant = min(choices, key=lambda choice: abs(choice - value))
    else:
        near = next(iter(difflib.get_close_matches(str(value), map(str, choices), n=1)), None)
        meant = next((choice for choice in choices if str(choice) == near), None)
    return Refused(at, CHOICE, f"{at} is {value!r}; known: {', '.join(map(str, dict.fromkeys(choices)))}", meant)
