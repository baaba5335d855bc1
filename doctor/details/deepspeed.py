"""Details of the DeepSpeed JSON and of the others that lie beside it."""

from __future__ import annotations

from typing import Any

from packaging.version import Version

from doctor.details.ranges import version
from doctor.estimate import from_facts
from doctor.estimate.verdict import FITS
from doctor.facts import Facts
from doctor.findings import Finding

# A key of the JSON -> the first of the releases 0.15.4, 0.16.2, 0.16.9 and 0.18.4 whose source knows it (runtime/config.py,
# runtime/zero/config.py, runtime/zero/offload_config.py of each).
_KEY_SINCE = {
    "zeropp_loco_param": "0.16.2",
    "module_granularity_threshold": "0.16.2",
    "log_trace_cache_warnings": "0.16.9",
    "tensor_parallel": "0.16.9",
    "super_offload": "0.18.4",
    "cpuadam_cores_perc": "0.18.4",
    "enable_sanity_checks": "0.18.4",
    "torch_autocast": "0.18.4",
    "bf16_optimizer_states": "0.18.4",
}


def _config(facts: Facts) -> dict[str, Any]:
    return facts["deepspeed.config"] or {}


def _zero(facts: Facts) -> dict[str, Any]:
    zero = _config(facts).get("zero_optimization")
    return zero if isinstance(zero, dict) else {}


def _device(facts: Facts, what: str) -> str:
    part = _zero(facts).get(what)
    return str(part.get("device", "none")).lower() if isinstance(part, dict) else "none"


def ds_config(facts: Facts, finding: Finding) -> str | None:
    """The file that can be edited; a JSON that stands in the recipe itself is none."""
    path = facts["deepspeed.config_path"]
    return path if path and not path.startswith("(") else None


def deepspeed_config(facts: Facts, finding: Finding) -> str | None:
    return ds_config(facts, finding)


def zero3(facts: Facts, finding: Finding) -> bool:
    return _zero(facts).get("stage") == 3


def optimizer_offloaded(facts: Facts, finding: Finding) -> bool:
    return _device(facts, "offload_optimizer") == "cpu"


def nvme_offload(facts: Facts, finding: Finding) -> bool:
    return "nvme" in (_device(facts, "offload_optimizer"), _device(facts, "offload_param"))


def overlap_comm(facts: Facts, finding: Finding) -> bool:
    """On where the JSON says so, and by DeepSpeed's default under ZeRO-3."""
    return _zero(facts).get("overlap_comm", zero3(facts, finding)) is True


def gathers_on_save(facts: Facts, finding: Finding) -> bool:
    return _zero(facts).get("stage3_gather_16bit_weights_on_model_save") is True


def optimizer_in_ds_config(facts: Facts, finding: Finding) -> bool:
    return "optimizer" in _config(facts)


def untested_optimizer(facts: Facts, finding: Finding) -> bool:
    return not _config(facts).get("zero_allow_untested_optimizer")


def scheduler_total_mismatch(facts: Facts, finding: Finding) -> bool:
    scheduler = _config(facts).get("scheduler")
    parameters = scheduler.get("params") if isinstance(scheduler, dict) else None
    return isinstance(parameters, dict) and isinstance(parameters.get("total_num_steps"), int)


def op_not_needed(facts: Facts, finding: Finding) -> bool:
    """No op is compiled for an optimizer that torch has: nothing is offloaded and the JSON names none."""
    return (
        not optimizer_offloaded(facts, finding)
        and not nvme_offload(facts, finding)
        and "optimizer" not in _config(facts)
    )


def unknown_key(facts: Facts, finding: Finding) -> str | None:
    """The key of the JSON that the installed release is too old to know."""
    installed = version(facts, "deepspeed")
    places = (_config(facts), _zero(facts), *(part for part in _zero(facts).values() if isinstance(part, dict)))
    keys = [key for place in places for key in place if key in _KEY_SINCE]
    return next((key for key in keys if installed and installed < Version(_KEY_SINCE[key])), None)


def key_since(facts: Facts, finding: Finding) -> str | None:
    return _KEY_SINCE.get(unknown_key(facts, finding) or "")


def _hidden_size(facts: Facts) -> int | None:
    config = facts["model.config"] or {}
    parts = (config, *(config.get(name) for name in ("text_config", "llm_config", "language_config", "decoder")))
    found = [p.get(k) for p in parts if isinstance(p, dict) for k in ("hidden_size", "d_model", "n_embd")]
    return next((size for size in found if isinstance(size, int)), None)


def hidden_size(facts: Facts, finding: Finding) -> int | None:
    return _hidden_size(facts)


def reduce_bucket(facts: Facts, finding: Finding) -> int | None:
    """hidden_size squared, as transformers fills "auto" (integrations/deepspeed.py)."""
    size = _hidden_size(facts)
    return size * size if size else None


def prefetch_bucket(facts: Facts, finding: Finding) -> int | None:
    """0.9 times hidden_size squared, as transformers fills "auto"; else the whole part of the number that a log shows."""
    size = _hidden_size(facts)
    if size:
        return size * size * 9 // 10
    try:
        return int(float(finding.details["value"]))
    except (KeyError, ValueError, TypeError):
        return None


def persistence_threshold(facts: Facts, finding: Finding) -> int | None:
    size = _hidden_size(facts)
    return 10 * size if size else None


def _other(facts: Facts, stage: int, offload: bool) -> str | None:
    """A JSON of that stage beside the recipe's; plain names (ds_z3_config.json) before variants."""
    now = facts["recipe.values"].get("deepspeed")
    fitting = [c for c in facts["surroundings.deepspeed_configs"] if c["stage"] == stage and c["path"] != now]
    found: list[str] = [c["path"] for c in fitting if (c["optimizer"] != "none") == offload]
    return min(found, key=len, default=None)


def zero2_config(facts: Facts, finding: Finding) -> str | None:
    return _other(facts, 2, False)


def zero3_config(facts: Facts, finding: Finding) -> str | None:
    return None if facts.known("deepspeed.config") and zero3(facts, finding) else _other(facts, 3, False)


def zero3_offload_config(facts: Facts, finding: Finding) -> str | None:
    return None if optimizer_offloaded(facts, finding) else _other(facts, 3, True)


def _fits(facts: Facts, config: dict[str, Any]) -> bool | None:
    """Whether the run would fit with another DeepSpeed JSON; None where that cannot be told."""
    if not facts["gpu.devices"]:
        return None
    verdict = from_facts.of(facts.merged({"deepspeed.config": config}), with_changes=False).verdict
    return bool(verdict == FITS)


def zero2_fits(facts: Facts, finding: Finding) -> bool | None:
    """On the CPU memory is the machine's, whatever the stage."""
    if facts["gpu.count"] == 0:
        return True
    return _fits(facts, {**_config(facts), "zero_optimization": {"stage": 2}})


def host_memory_suffices(facts: Facts, finding: Finding) -> bool | None:
    offload = {"device": "cpu", "pin_memory": True}
    zero = {"stage": 3, "offload_optimizer": offload, "offload_param": offload}
    return _fits(facts, {**_config(facts), "zero_optimization": zero})


def fits_without_param_offload(facts: Facts, finding: Finding) -> bool | None:
    if _device(facts, "offload_param") == "none":
        return False
    return _fits(facts, {**_config(facts), "zero_optimization": {**_zero(facts), "offload_param": {"device": "none"}}})
