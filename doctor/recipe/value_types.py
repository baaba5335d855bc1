"""Whether a YAML value has the type that an argument needs: nothing on the way to the dataclasses converts it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

import msgspec

from doctor.recipe.argument_source import Field

_EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
_NUMBER = re.compile(r"[-+]?(\d[\d,_]*(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*[%％]")
_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmM])")
_TOKENS = ("cutoff_len", "max_new_tokens", "max_length", "block_size")  # counted in powers of two, so that 16k is 16384
# Whole numbers by their annotation, whose users take any: peft divides lora_alpha by the rank, ddp_timeout is a timedelta.
_USED_AS_NUMBERS = ("lora_alpha", "ddp_timeout")
# Text that is taken as a name or a path: a number in their place is not converted; those of _LISTS may be lists.
_LISTS = ("dataset", "eval_dataset")
_NAMES = (
    *_LISTS,
    "adapter_name_or_path",
    "model_name_or_path",
    "output_dir",
    "dataset_dir",
    "template",
    "tokenized_path",
    "cache_dir",
)
# Text that the Trainer takes apart, or opens; resume_from_checkpoint may be true.
_TAKEN_APART = ("resume_from_checkpoint", "metric_for_best_model", "optim_args")
# Names between commas, of which an empty one is looked for as well.
_WITHOUT_BLANKS = ("adapter_name_or_path",)
# Mappings whose text is judged where the file is that it may name.
_READ_ELSEWHERE = ("fsdp_config", "accelerator_config", "deepspeed")
# Text that is filled in as it is.
_TEXT = ("default_system", "run_name")
_NUMBER_WORDS = {
    word: number
    for number, words in enumerate(
        (
            "one 一",
            "two 两 二",
            "three 三",
            "four 四",
            "five 五",
            "six 六",
            "seven 七",
            "eight 八",
            "nine 九",
            "ten 十",
        ),
        start=1,
    )
    for word in words.split()
}
_BOOL = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

# What transformers calls its trackers (integrations/integration_utils.py, INTEGRATION_TO_CALLBACK), with all and none.
TRACKERS = ("all", "none", "azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "flyte", "mlflow",
            "neptune", "swanlab", "tensorboard", "trackio", "wandb", "kubeflow")  # fmt: skip


class Misfit(msgspec.Struct, frozen=True):
    """A value that does not fit: `kind` type, choice, or exponent; `meant`: the value that was probably meant, `sure`
    when it is the same value in the right type and no guess."""

    kind: str
    text: str
    meant: Any = None
    sure: bool = True


def number(value: Any, exponents_are_numbers: bool) -> float | None:
    """The number that the arguments hold; None of what is none there."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and exponents_are_numbers and _EXPONENT.fullmatch(value.strip()):
        return float(value)
    return value if isinstance(value, (int, float)) else None


def check(field: Field, value: Any, exponents_are_numbers: bool) -> Misfit | None:
    """None when the value fits, or when the field's type is not understood."""
    if field.name == "report_to":
        return _trackers(value)
    types = field.types
    if not types:
        return None
    if value is None:
        return _none(field)
    if field.choices and "bool" not in types:
        return _choice(field, value)
    if isinstance(value, bool) and field.name in (*_NAMES, "lora_target") and "bool" not in types and "str" in types:
        return Misfit("type", f"YAML reads it as {_yaml(value)}; text is needed, in quotes")
    if isinstance(value, bool) and field.split and field.name != "fsdp":  # which may be true or false
        return _misfit(value, ["str"])
    if isinstance(value, bool):
        fits = bool({"bool", "int", "float"} & set(types)) or types == ["str"]
        return None if fits or "str" in types else Misfit("type", f"{_yaml(value)} where {_named(types)} is needed")
    if isinstance(value, str):
        return _text(field, value, exponents_are_numbers)
    if field.split and isinstance(value, list):
        plain = all(isinstance(part, (str, int, float)) for part in value) and value
        return _misfit(value, ["str"], ",".join(map(str, value)) if plain else None)
    if (field.name in _TEXT or field.split) and "str" in types:
        return _misfit(value, ["str"])
    if (
        field.name in (*_NAMES, *_TAKEN_APART)
        and not isinstance(value, str)
        and "str" in types
        and not (isinstance(value, list) and field.name in _LISTS)
    ):
        quoted = str(value) if isinstance(value, (int, float)) and field.name in ("output_dir", "dataset_dir") else None
        return _misfit(value, ["str"], quoted)
    if isinstance(value, int):
        return None if {"int", "float", "bool", "str"} & set(types) else _misfit(value, types)
    if isinstance(value, float):
        if "float" in types or "str" in types or field.name in _USED_AS_NUMBERS:
            return None
        if "bool" in types and value in (0.0, 1.0):
            return None  # it is only asked whether
        whole = int(value) if value.is_integer() else None
        return _misfit(value, types, whole)
    if isinstance(value, list):
        return None if {"list", "str"} & set(types) else _misfit(value, types)
    return None if {"dict", "str"} & set(types) or "list" in types else _misfit(value, types)


def _none(field: Field) -> Misfit | None:
    """An empty value is None: harmless where None is allowed or where it only counts as false."""
    if "None" in field.types or field.required or not {"int", "float"} >= set(field.types) or not field.types:
        return None
    return Misfit("type", f"an empty value where {_named(field.types)} is needed")


def _text(field: Field, value: str, exponents_are_numbers: bool) -> Misfit | None:
    types = set(field.types)
    parts = [part.strip() for part in value.split(",")]
    if field.name in _WITHOUT_BLANKS and not all(parts):
        return Misfit("type", f'"{value}" has a name that is empty', ",".join(filter(None, parts)) or None)
    if "dict" in types and value.startswith("{") and field.name not in _READ_ELSEWHERE:
        return _json(value)
    if types & {"str", "list", "dict"}:
        return None
    if value.strip().lower() in _BOOL and "bool" in types:
        return Misfit("type", f'the text "{value}" where true or false is needed', _BOOL[value.strip().lower()])
    if types & {"int", "float"}:
        if _EXPONENT.fullmatch(value.strip()):
            if exponents_are_numbers and "float" in types:
                return None
            number = float(value)
            whole = number.is_integer() and "float" not in types
            return Misfit("exponent", f"{value} is text in YAML 1.1, not a number", int(number) if whole else number)
        if _NUMBER.fullmatch(value.strip()):
            number = float(value.replace(",", "").replace("_", ""))
            fits = "float" in types or number.is_integer()
            meant = (int(number) if "int" in types and number.is_integer() else number) if fits else None
            return Misfit("type", f'the text "{value}" where {_named(field.types)} is needed', meant)
    spoken, sure = _spoken(field, value.strip()) if types & {"int", "float"} else (None, True)
    return Misfit("type", f'the text "{value}" where {_named(field.types)} is needed', spoken, sure)


def _json(value: str) -> Misfit | None:
    """Text that begins with a brace is read as JSON wherever a mapping may stand."""
    try:
        json.loads(value)
    except (ValueError, RecursionError) as error:
        return Misfit("type", f"{value[:60]} begins with a brace and is not JSON ({error})")
    return None


def _spoken(field: Field, value: str) -> tuple[Any, bool]:
    """The number of 10%, three or 16k where the argument takes it, and whether it can mean nothing else."""
    if percent := _PERCENT.fullmatch(value):
        share = float(percent[1]) / 100
        return (share if "float" in field.types and share <= 1 else None), True
    if value.lower() in _NUMBER_WORDS:
        number = _NUMBER_WORDS[value.lower()]
        return (number if "int" in field.types else float(number)), True
    if unit := _WITH_UNIT.fullmatch(value):
        thousand = 1024 if field.name in _TOKENS else 1000
        meant = float(unit[1]) * (thousand if unit[2] in "kK" else thousand**2)
        return (int(meant) if "int" in field.types and meant.is_integer() else None), False
    return None, True


def _choice(field: Field, value: Any) -> Misfit | None:
    if value in field.choices or (
        isinstance(value, bool) and value in (c for c in field.choices if isinstance(c, bool))
    ):
        return None
    if isinstance(value, bool):  # YAML reads no, off, yes, on as booleans
        meant = next(
            (c for c in field.choices if str(c).lower() in (("no", "off") if not value else ("yes", "on"))), None
        )
        return Misfit("type", f"YAML reads {'no' if not value else 'yes'} as {_yaml(value)}; write it in quotes", meant)
    known = ", ".join(str(c) for c in field.choices[:30])
    near = nearest_choice(str(value), [str(c) for c in field.choices])
    return Misfit("choice", f'"{value}" is none of {known}', near)


def _trackers(value: Any) -> Misfit | None:
    names = value if isinstance(value, list) else [value]
    for name in names:
        if name is not None and str(name) not in TRACKERS:
            near = nearest_choice(str(name), TRACKERS)
            return Misfit("choice", f'"{name}" is none of {", ".join(TRACKERS)}', near)
    return None


def nearest_choice(value: str, choices: Collection[str]) -> str | None:
    import difflib

    lowered = {choice.lower(): choice for choice in choices}
    if value.lower() in lowered:
        return lowered[value.lower()]
    found = difflib.get_close_matches(value.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def _misfit(value: Any, types: list[str], meant: Any = None) -> Misfit:
    return Misfit("type", f"{str(value)[:60]} where {_named(types)} is needed", meant)


def _named(types: list[str]) -> str:
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "list": "a list",
             "dict": "a mapping"}  # fmt: skip
    return " or ".join(words[t] for t in types if t in words)


def _yaml(value: bool) -> str:
    return "true" if value else "false"
