"""What flash_attn: fa2 asks for: the package, a release of it that transformers takes, and a model in half precision."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from packaging.version import Version

from doctor.facts import Facts
from doctor.findings import Finding, found, in_recipe
from knowledge_base.schema import Severity

_finding = partial(found, "arguments")

_KEY = "flash_attn"
_FIRST = Version("2.1.0")  # transformers/utils/import_utils.py, is_flash_attn_2_available
_HALF = ("bfloat16", "float16")


def _version(facts: Facts) -> Version | None:
    from doctor.probes.packages import version_of

    return version_of(facts, "flash-attn")


def flash_attention_there(facts: Facts) -> Iterator[Finding]:
    """LLaMA-Factory says so in one line, goes on with another attention and trains (seen on an H100, and in
    model/model_utils/attention.py of 0.9.1 and 0.9.5)."""
    if facts["recipe.values"].get(_KEY) != "fa2":
        return
    have = _version(facts)
    if "flash-attn" not in facts["packages.versions"]:
        what = f"{_KEY}: fa2, and flash-attn is not installed"
        yield _finding("attn-flash-missing", what, in_recipe(facts, _KEY), Severity.WARNING)
    elif have and have < _FIRST:
        what = f"{_KEY}: fa2, and flash-attn {have} is installed; transformers takes {_FIRST} and newer"
        yield _finding("attn-flash-too-old", what, in_recipe(facts, _KEY), Severity.WARNING)


def half_precision(facts: Facts) -> Iterator[Finding]:
    """Without bf16, fp16 or pure_bf16 the model is loaded in the type of its config.json, float32 where it names none
    (model/patcher.py, extras/misc.py infer_optim_dtype); FlashAttention's kernels have no float32."""
    values, have = facts["recipe.values"], _version(facts)
    if values.get(_KEY) != "fa2" or not have or have < _FIRST or not values.get("do_train"):
        return
    if any(values.get(key) for key in ("bf16", "fp16", "pure_bf16", "fp8")):
        return
    config: dict[str, Any] = facts["model.config"]
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "float32").removeprefix("torch.")
    if dtype not in _HALF:
        what = (
            f"{_KEY}: fa2 in a run without bf16 or fp16, and config.json says {dtype}; its kernels take half precision"
        )
        yield _finding("attn-fa2-dtype", what, in_recipe(facts, _KEY))


ALL = (flash_attention_there, half_precision)
