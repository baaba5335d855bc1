"""Judgements of a model folder whose parts are whole, and of which transformers makes something else than is meant."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found
from doctor.recipe.expected_tensors import FAMILIES

_finding = partial(found, "architecture")

_LLAVA = 'getattr(config, "architectures", [])'
_WHOLE_NUMBERS = ("I8", "U8")


def asks_architectures(package: Path) -> bool:
    """Whether this LLaMA-Factory looks for llava among `architectures` without asking whether there are any."""
    try:
        return _LLAVA in (package / "model" / "patcher.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _local(facts: Facts) -> str | None:
    return str(facts["model.path"]) if facts["model.name"] is not None and facts["model.local"] else None


def adapter_beside_weights(facts: Facts) -> Iterator[Finding]:
    """transformers loads the model that adapter_config.json names, and the adapter, in the place of these weights."""
    folder = _local(facts)
    if (
        folder is None
        or not facts["model.is_adapter"]
        or facts["model.config_error"]
        or facts["model.weights"]["faults"]
    ):
        return
    if facts["model.weights"]["format"] in ("safetensors", "bin"):
        base = facts["model.adapter_base"]
        what = "adapter_config.json lies beside whole weights: transformers loads "
        what += f"{base or 'the model that it names'} and the adapter instead of them"
        details: dict[str, Any] = {"model_path": folder, "adapter_config": f"{folder}/adapter_config.json"}
        yield _finding("peft-adapter-in-model-folder", what, f"{folder}/adapter_config.json", **details)


def whole_numbers_scaled(facts: Facts) -> Iterator[Finding]:
    """Quantised weights without quantization_config are taken for what they say, and their scales are passed over."""
    folder, config = _local(facts), facts["model.config"]
    dtypes = [dtype for dtype in facts["model.weights"]["dtypes"] if dtype in _WHOLE_NUMBERS]
    if folder is None or not dtypes or config.get("model_type") not in FAMILIES or config.get("quantization_config"):
        return
    what = f"the weights hold whole numbers ({', '.join(dtypes)}), and config.json has no quantization_config to scale them"
    details: dict[str, Any] = {"model_path": folder, "file": f"{folder}/config.json"}
    yield _finding("model-config-weights-mismatch", what, f"{folder}/config.json", **details)


def architectures_named(facts: Facts) -> Iterator[Finding]:
    folder, config = _local(facts), facts["model.config"]
    if folder is None or not facts["architecture.asks_architectures"] or facts["model.config_error"]:
        return
    if config.get("model_type") and config.get("architectures") is None:
        release = facts.get("llamafactory.version", "")
        what = f"config.json names no architectures, among which LLaMA-Factory {release} looks for those of llava"
        where = f"{folder}/config.json"
        details: dict[str, Any] = {"path": folder, "model_path": folder, "file": where, "value_wrong": True}
        yield _finding("model-config-invalid-json", what, where, **details)


ALL = (adapter_beside_weights, whole_numbers_scaled, architectures_named)
