"""Details that are a comparison of versions: whether a release is in the way, or another one would be accepted."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from packaging.version import Version

from doctor.details.ranges import accepted, version
from doctor.facts import Facts
from doctor.findings import Finding

_CERTIFICATES_AGE = 2 * 365  # days; certificate authorities are replaced within a few years
# The first of LLaMA-Factory 0.9.1 to 0.9.5 that marks the experts of a model type as leaf modules (model_utils/moe.py).
_LEAF_SINCE = {
    "deepseek_v2": "0.9.3", "deepseek_v3": "0.9.3", "kimi_vl": "0.9.3", "granitemoe": "0.9.3", "llama4": "0.9.3",
    "olmoe": "0.9.3", "phimoe": "0.9.3", "qwen3_moe": "0.9.3", "ernie4_5_moe": "0.9.4", "glm4_moe": "0.9.4",
    "glm4v_moe": "0.9.4", "gpt_oss": "0.9.4", "qwen3_vl_moe": "0.9.4", "qwen3_omni_moe": "0.9.4", "qwen3_next": "0.9.5",
    "glm4_moe_lite": "0.9.5", "qwen3_5_moe": "0.9.5", "qwen2_moe": "0.9.2",
}  # fmt: skip


def _below(facts: Facts, name: str, limit: str) -> bool | None:
    have = version(facts, name)
    return have < Version(limit) if have else None


def transformers_old(facts: Facts, finding: Finding) -> bool | None:
    return _below(facts, "transformers", "4.46")


def transformers_below_4_49(facts: Facts, finding: Finding) -> bool | None:
    return _below(facts, "transformers", "4.49")


def transformers_target(facts: Facts, finding: Finding) -> str | None:
    """The newest transformers that LLaMA-Factory accepts, where a newer one than the installed is allowed."""
    limit = facts["llamafactory.required"].get("transformers", "").split("<=")[-1].split(",")[0]
    have = version(facts, "transformers")
    return f"transformers=={limit}" if limit and have and have < Version(limit) else None


def transformers_pinned_newer(facts: Facts, finding: Finding) -> bool:
    return not accepted(facts, "transformers", "4.51.3")


def pydantic_newer_required(facts: Facts, finding: Finding) -> bool:
    return not accepted(facts, "pydantic", "2.10.6")


def protobuf_newer_required(facts: Facts, finding: Finding) -> bool:
    return not accepted(facts, "protobuf", "3.20.3")


def llamafactory_needs_4(facts: Facts, finding: Finding) -> bool:
    return not accepted(facts, "datasets", "3.6.0")


def torch_2_5_fits(facts: Facts, finding: Finding) -> bool:
    return accepted(facts, "torch", "2.5.1")


def numpy_global(facts: Facts, finding: Finding) -> bool:
    return "numpy" in str(finding.details.get("global") or "")


def pyarrow_too_new(facts: Facts, finding: Finding) -> bool | None:
    older = _below(facts, "pyarrow", "21")
    return None if older is None else not older


def torch_wants_triton_3_1(facts: Facts, finding: Finding) -> bool:
    return accepted(facts, "triton", "3.1.0")


def deepspeed_0_14_3(facts: Facts, finding: Finding) -> bool:
    return version(facts, "deepspeed") == Version("0.14.3")


def deepspeed_too_old(facts: Facts, finding: Finding) -> bool:
    """A DeepSpeed before 0.15 with a torch of 2.4 or 2.5."""
    torch = version(facts, "torch")
    return bool(_below(facts, "deepspeed", "0.15") and torch and Version("2.4") <= torch < Version("2.6"))


def deepspeed_without_leaf(facts: Facts, finding: Finding) -> bool | None:
    return _below(facts, "deepspeed", "0.13")


def needs_newer_deepspeed(facts: Facts, finding: Finding) -> bool:
    """The Trainer of transformers 5 wants a newer DeepSpeed than the one that older stacks need."""
    have = version(facts, "transformers")
    return bool(have and have.major >= 5)


def no_sync_is_safe(facts: Facts, finding: Finding) -> bool:
    """Whether the Trainer leaves no_sync alone under DeepSpeed, as every DeepSpeed from 0.16 on needs it."""
    return not facts["deepspeed.trainer_enters_no_sync"]


def stack_mismatch(facts: Facts, finding: Finding) -> bool:
    agreed = {"transformers": "4.46.1", "deepspeed": "0.15.4", "accelerate": "1.0.1"}
    return any(version(facts, name) != Version(wanted) for name, wanted in agreed.items())


def llamafactory_without_fake_image(facts: Facts, finding: Finding) -> bool | None:
    return _below(facts, "llamafactory", "0.9.2")


def llamafactory_with_leaf(facts: Facts, finding: Finding) -> str | None:
    since = _LEAF_SINCE.get(str((facts["model.config"] or {}).get("model_type")))
    return since if since and _below(facts, "llamafactory", since) else None


def signals_configurable(facts: Facts, finding: Finding) -> bool | None:
    """TORCHELASTIC_SIGNALS_TO_HANDLE is read by torch 2.11 and not by 2.6 (elastic/multiprocessing/api.py)."""
    older = _below(facts, "torch", "2.11")
    return None if older is None else not older


def fitting_transformers(facts: Facts, finding: Finding) -> str | None:
    """The transformers that the model's own code was saved with, where LLaMA-Factory accepts it."""
    saved = (facts["model.config"] or {}).get("transformers_version")
    have = version(facts, "transformers")
    fits = isinstance(saved, str) and have and Version(saved) != have and accepted(facts, "transformers", saved)
    return saved if fits else None


def fitting_tokenizers(facts: Facts, finding: Finding) -> str | None:
    """0.20 reads what 0.20 and newer wrote (merges as pairs); None where that is installed already."""
    return "0.20" if _below(facts, "tokenizers", "0.20") else None


def peft_target(facts: Facts, finding: Finding) -> str | None:
    """The newest peft that LLaMA-Factory accepts, where it is newer than the installed one."""
    limit = facts["llamafactory.required"].get("peft", "").split("<=")[-1].split(",")[0]
    return f"peft=={limit}" if limit and _below(facts, "peft", limit) else None


def needs_cached_download(facts: Facts, finding: Finding) -> bool:
    return finding.details.get("name") == "cached_download"


def numpy_target(facts: Facts, finding: Finding) -> str | None:
    """numpy._core exists from NumPy 2 on: a checkpoint that asks for it was written with that."""
    text = " ".join(evidence.what for evidence in finding.evidence)
    have = version(facts, "numpy")
    if have is None or "numpy" not in text:
        return None
    if "numpy._core" in text and have.major < 2:
        return "numpy>=2,<3" if accepted(facts, "numpy", "2.0.2") else None
    return None


def certifi_old(facts: Facts, finding: Finding) -> bool | None:
    """certifi's versions are dates."""
    have = version(facts, "certifi")
    if have is None or len(have.release) < 3:
        return None
    released = datetime(have.release[0], have.release[1], 1, tzinfo=timezone.utc)
    clock: dict[str, Any] = facts["hub.clock"]
    return (datetime.fromtimestamp(clock["now"], timezone.utc) - released).days > _CERTIFICATES_AGE


def xet_used(facts: Facts, finding: Finding) -> bool:
    return "hf-xet" in facts["packages.versions"] and not facts["surroundings.environ"].get("HF_HUB_DISABLE_XET")


def readers_missing(facts: Facts, finding: Finding) -> bool:
    return any(name not in facts["packages.versions"] for name in ("sentencepiece", "protobuf", "tiktoken"))


def build_tools_missing(facts: Facts, finding: Finding) -> bool:
    return any(name not in facts["packages.versions"] for name in ("setuptools", "ninja"))


def liger_installed(facts: Facts, finding: Finding) -> bool:
    return "liger-kernel" in facts["packages.versions"]


def flash_attn_installed(facts: Facts, finding: Finding) -> bool:
    return "flash-attn" in facts["packages.versions"]


def npu_with_old_deepspeed(facts: Facts, finding: Finding) -> bool:
    return bool("torch-npu" in facts["packages.versions"] and _below(facts, "deepspeed", "0.14.3"))
