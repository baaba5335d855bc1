"""Details of the model's folder: its files, its origin, how it is quantised, the template that fits it."""

from __future__ import annotations

from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding


def _config(facts: Facts) -> dict[str, Any]:
    return facts["model.config"] or {}


def model_path(facts: Facts, finding: Finding) -> str | None:
    path = facts["model.path"]
    return str(path) if path and facts["model.local"] else None


def model_config(facts: Facts, finding: Finding) -> str | None:
    folder = model_path(facts, finding)
    return f"{folder}/config.json" if folder and "config.json" in facts["model.files"] else None


def tokenizer_config(facts: Facts, finding: Finding) -> str | None:
    folder = model_path(facts, finding)
    return f"{folder}/tokenizer_config.json" if folder and "tokenizer_config.json" in facts["model.files"] else None


def eos_token(facts: Facts, finding: Finding) -> str | None:
    found = facts["model.tokenizer"]["special"].get("eos_token")
    return found if isinstance(found, str) else None


def repo(facts: Facts, finding: Finding) -> str | None:
    """The hub's name of the model: what the recipe names, else where the folder says that it came from."""
    need = next((n for n in facts.get("hub.needed", ()) if n["kind"] == "model"), None)
    if need:
        return str(need["name"])
    origin = _config(facts).get("_name_or_path")
    return (
        origin
        if isinstance(origin, str) and origin.count("/") == 1 and not origin.startswith((".", "/", "~"))
        else None
    )


def download_dir(facts: Facts, finding: Finding) -> str | None:
    name = str(finding.details.get("repo") or repo(facts, finding) or "")
    return f"models/{name.rpartition('/')[2]}" if name else None


def adapter_path(facts: Facts, finding: Finding) -> str | None:
    value = facts["recipe.values"].get("adapter_name_or_path")
    return value if isinstance(value, str) else None


def adapter_base_model(facts: Facts, finding: Finding) -> str | None:
    """The base that the first adapter was trained on, where it is another than the recipe's."""
    first: dict[str, Any] = next(iter(facts["adapter.adapters"]), {})
    base = first.get("base")
    return base if isinstance(base, str) and base != facts["recipe.values"].get("model_name_or_path") else None


def fitting_template(facts: Facts, finding: Finding) -> str | None:
    """The template of the model's type, where the recipe names another or none."""
    found = facts["template.expected"] or facts["template.of_type"]
    return found if found and found != facts["recipe.values"].get("template") else None


def _method(facts: Facts) -> str:
    return str((_config(facts).get("quantization_config") or {}).get("quant_method", "")).lower()


def ptq_quantised(facts: Facts, finding: Finding) -> bool:
    return bool(_config(facts).get("quantization_config"))


def quantized(facts: Facts, finding: Finding) -> bool:
    return ptq_quantised(facts, finding) or bool(facts["recipe.values"].get("quantization_bit"))


def gptq_model(facts: Facts, finding: Finding) -> bool:
    return _method(facts) == "gptq"


def awq_model(facts: Facts, finding: Finding) -> bool:
    return _method(facts) == "awq"


def lfs_pointer(facts: Facts, finding: Finding) -> bool:
    return "lfs" in str(facts["model.config_error"] or "").lower()


def lm_head_missing(facts: Facts, finding: Finding) -> bool:
    """The weights hold no lm_head and the config does not say that it is the embedding."""
    modules = facts["model.weights"]["modules"]
    return "lm_head" not in modules and _config(facts).get("tie_word_embeddings") is False


def tokens_exceed_embedding(facts: Facts, finding: Finding) -> bool:
    highest = facts["model.tokenizer"].get("highest_id")
    rows = facts["model.weights"].get("rows")
    return isinstance(highest, int) and isinstance(rows, int) and highest >= rows
