"""What `llamafactory-cli export` refuses after its arguments were accepted (train/tuner.py, export_model): the same lines in
LLaMA-Factory 0.9.1 to 0.9.5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe
from doctor.recipe import recipe_kind

_finding = partial(found, "arguments")


def _exports_adapter(facts: Facts) -> bool:
    values = facts["recipe.values"]
    return recipe_kind.subcommand(values) == recipe_kind.EXPORT and bool(values.get("adapter_name_or_path"))


def merges_before_quantising(facts: Facts) -> Iterator[Finding]:
    values, key = facts["recipe.values"], "export_quantization_bit"
    if _exports_adapter(facts) and values.get(key) is not None:
        what = f"{key}: {values[key]} with adapter_name_or_path: adapters are merged first, in an export of their own"
        yield _finding("quant-export-order", what, in_recipe(facts, key), key=key)


def merges_into_whole_weights(facts: Facts) -> Iterator[Finding]:
    """Neither into a quantised checkpoint nor into a model that is quantised while it is loaded."""
    values, key = facts["recipe.values"], "quantization_bit"
    if not _exports_adapter(facts):
        return
    held = (facts.get("model.config") or {}).get("quantization_config")
    details: dict[str, Any] = {"ptq_quantised": isinstance(held, Mapping), "quantization_bit": key in values}
    if isinstance(held, Mapping):
        what = (
            f"the model is quantised ({held.get('quant_method', 'quantization_config')}): no adapter is merged into it"
        )
        yield _finding("quant-merge-into-quantized", what, in_recipe(facts, "model_name_or_path"), **details)
    elif values.get(key) is not None:
        what = f"{key}: {values[key]} would quantise the model while it is loaded: no adapter is merged into it"
        yield _finding("quant-merge-into-quantized", what, in_recipe(facts, key), **details)


ALL = (merges_before_quantising, merges_into_whole_weights)
