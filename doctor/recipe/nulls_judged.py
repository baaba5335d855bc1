"""Judgements of keys that are given and left empty: None takes the place of the default, and nothing can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe, key_of_recipe
from doctor.recipe.model_values import at_least

_finding = partial(found, "arguments")
Values = Mapping[str, Any]


def _method(wanted: str) -> Callable[[Values], bool]:
    return lambda values: values.get("finetuning_type", "lora") == wanted


def _always(_: Values) -> bool:
    return True


# Key -> when it is read, and what to write where the default is meant. Tried with 0.9.1 and 0.9.5.
_READ: dict[str, tuple[Callable[[Values], bool], str]] = {
    "flash_attn": (_always, "auto"),
    "stage": (_always, "sft"),
    "log_level": (_always, "passive"),
    "lora_target": (_method("lora"), "all"),
    "oft_target": (_method("oft"), "all"),
    "freeze_trainable_modules": (_method("freeze"), "all"),
}


# The same from transformers 5 on; before, None had a meaning of its own.
_READ_SINCE_5: dict[str, tuple[Callable[[Values], bool], str]] = {"report_to": (_always, "none")}


def keys_filled(facts: Facts) -> Iterator[Finding]:
    values, said = facts["recipe.values"], {misfit["key"] for misfit in facts["arguments.misfits"]}
    newer = at_least(str((facts.get("packages.versions") or {}).get("transformers")), "5.0.0.dev0")
    for key, (read, default) in (_READ | (_READ_SINCE_5 if newer else {})).items():
        if key not in values or values[key] is not None or key not in facts["arguments.fields"] or key in said:
            continue
        if read(values):
            details = {**key_of_recipe(facts, key), "value_as_type": default}
            what = f"{key}: nothing is given; leave the key out, or write {default}"
            yield _finding("cfg-bad-value-type", what, in_recipe(facts, key), **details)


ALL = (keys_filled,)
