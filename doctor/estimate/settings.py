"""What of a recipe decides its memory, read as LLaMA-Factory 0.9 reads it (its defaults included). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from doctor.estimate.states import Offload, offload


class World(msgspec.Struct, frozen=True):
    """The ranks, and what each card and node has: bytes, None where not known."""

    nproc: int = 1
    nnodes: int = 1
    gpu_bytes: int | None = None
    host_bytes: int | None = None

    @property
    def size(self) -> int:
        return max(1, self.nproc) * max(1, self.nnodes)


class Settings(msgspec.Struct, frozen=True):
    """`precision`: amp (32-bit weights under autocast), half (16-bit weights), full (all 32 bits)."""

    length: int = 2048  # tokens of one sample on one rank
    batch: int = 1
    parallel: int = 1  # ranks that share one sample
    accumulation: int = 1
    checkpointing: bool = True
    eager: bool = False
    liger: bool = False
    mask_bytes: int = 0  # of an attention mask of length × length for each sample: none, bool, 16-bit
    finetuning: str = "full"
    rank: int = 8
    bits: int = 16  # of frozen base weights: 16, 8 or 4
    train_layers: int = 2  # of freeze tuning; negative: the first ones
    precision: str = "amp"
    optimizer: str = "adamw_torch_fused"
    zero: Offload = Offload()
    deepspeed: bool = False
    bucket: float = 5e8
    sub_group: float = 1e9
    live: float = 1e9
    gather_on_save: bool = False
    fsdp: str = ""  # what FSDP shards: all, or gradients (and optimizer states)
    inputs_on_host: bool = False  # checkpointing keeps the layers' inputs in host memory
    unmeasured: str = ""  # what of it no run was measured with: its verdict needs a wide margin

    @property
    def tokens(self) -> int:
        return self.length * self.batch


# Recipe keys whose memory is not modelled; "fits" or "does not fit" would be a guess.
_NOT_MODELLED = (
    "use_galore", "use_apollo", "use_badam", "use_kt", "use_mca", "mixture_of_depths", "use_llama_pro", "shift_attn",
    "fp8",
)  # fmt: skip


_LARGEST = 1e15  # of any number that is read; false for nan, too


def not_modelled(values: Mapping[str, Any], model: Any) -> str | None:
    """What of a recipe the planner does not know, by its key; None when it knows everything that matters."""
    for key in _NOT_MODELLED:
        value = values.get(key)
        if value is True or (value and value != 1):
            return key
    if values.get("stage", "sft") not in ("sft", "pt"):
        return f"stage: {values['stage']}"
    if values.get("quantization_bit") and values.get("quantization_method", "bnb") not in ("bnb", "bitsandbytes"):
        return "quantization_method"
    if isinstance(model, Mapping) and model.get("quantization_config"):
        return "quantization_config"
    return None


def _number(config: Mapping[str, Any], key: str, default: float) -> float:
    """A number of the recipe or the JSON; the default for what is none, and for one that no run could have."""
    value = config.get(key, default)
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST
    return float(value) if usable else default


def _whole(values: Mapping[str, Any], key: str, default: int) -> int:
    return max(1, int(_number(values, key, default)))


def read(values: Mapping[str, Any], deepspeed: Mapping[str, Any] | None) -> Settings:
    """Settings of a recipe and its DeepSpeed JSON (None: it names none, or it cannot be read)."""
    zero_config = (deepspeed or {}).get("zero_optimization")
    zero_config = zero_config if isinstance(zero_config, Mapping) else {}
    engine = deepspeed is not None
    finetuning = str(values.get("finetuning_type", "lora"))
    unsloth, parallel = values.get("use_unsloth") is True, _whole(values, "sequence_parallel_size", 1)
    fsdp = _fsdp(values, engine)
    half = values.get("bf16") is True or values.get("fp16") is True
    pure = values.get("pure_bf16") is True
    bits = values.get("quantization_bit")
    frozen_base = finetuning in ("lora", "oft")
    precision = "full"
    if half or pure:
        precision = "half" if pure or engine or frozen_base or fsdp else "amp"
    eager = values.get("flash_attn") in ("disabled", "off")
    batch = _whole(values, "per_device_train_batch_size", 8)
    packed = values.get("packing") is True or values.get("neat_packing") is True
    return Settings(
        length=max(1, _whole(values, "cutoff_len", 2048) // parallel),
        batch=batch,
        parallel=parallel,
        accumulation=_whole(values, "gradient_accumulation_steps", 1),
        checkpointing=values.get("disable_gradient_checkpointing") is not True,
        eager=eager,
        liger=values.get("enable_liger_kernel") is True or unsloth,
        mask_bytes=2 if eager or values.get("neat_packing") is True else 1 if batch > 1 and not packed else 0,
        finetuning=finetuning,
        rank=_whole(values, "lora_rank", 8),
        bits=bits if bits in (4, 8) else 16,
        train_layers=int(_number(values, "freeze_trainable_layers", 2)),
        precision=precision,
        optimizer=_optimizer(values),
        zero=Offload(0, "cpu", "cpu") if fsdp and "offload" in fsdp else offload(deepspeed),
        deepspeed=engine,
        bucket=_number(zero_config, "reduce_bucket_size", 5e8),
        sub_group=_number(zero_config, "sub_group_size", 1e9),
        live=_number(zero_config, "stage3_max_live_parameters", 1e9),
        gather_on_save=zero_config.get("stage3_gather_16bit_weights_on_model_save") is True,
        fsdp="" if not fsdp else "gradients" if "shard_grad_op" in fsdp else "all",
        inputs_on_host=unsloth or values.get("use_unsloth_gc") is True,
        unmeasured=_unmeasured(values, fsdp, offload(deepspeed)),
    )


def _fsdp(values: Mapping[str, Any], engine: bool) -> list[str]:
    """The words of the recipe's `fsdp`, text or a list; none under DeepSpeed or where it shards nothing."""
    given = values.get("fsdp")
    words = (
        given.split() if isinstance(given, str) else [str(word) for word in given] if isinstance(given, list) else []
    )
    if given is True:
        words = ["full_shard"]
    return [] if engine or "no_shard" in words else words


def _optimizer(values: Mapping[str, Any]) -> str:
    for key, name in (("use_adam_mini", "adam_mini"), ("use_muon", "muon")):
        if values.get(key) is True:
            return name
    return str(values.get("optim", "adamw_torch_fused"))


def _unmeasured(values: Mapping[str, Any], fsdp: list[str], zero: Offload) -> str:
    """The first thing whose memory is worked out and was compared with no run (benchmarks/memory)."""
    if fsdp:
        return "fsdp"
    if "nvme" in (zero.optimizer, zero.parameters):
        return "nvme"
    for key in ("use_unsloth", "use_unsloth_gc", "use_adam_mini", "use_muon"):
        if values.get(key) is True:
            return key
    return "sequence_parallel_size" if _whole(values, "sequence_parallel_size", 1) > 1 else ""
