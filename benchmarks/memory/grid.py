"""The configurations of the campaign: what each row trains. Order is priority, for machines lent by the minute."""

from __future__ import annotations

from typing import Any

_BF16 = {"bf16": True}


def row(shape: str, length: int, batch: int, engine: str = "none", **more: Any) -> dict[str, Any]:
    """`engine`: none (one process), ddp, z0..z3, with -oo (optimizer offload) or -o (parameters too).

    `accumulation`, `ragged`, `parts`, `save`, `steps` are ours, `recipe` holds keys of LLaMA-Factory's recipe.
    """
    recipe = {**_BF16, "finetuning_type": "full", "flash_attn": "sdpa", **more.pop("recipe", {})}
    return {"shape": shape, "length": length, "batch": batch, "engine": engine, "recipe": recipe, **more}


def _off(**more: Any) -> dict[str, Any]:
    return {"disable_gradient_checkpointing": True, **more}


_LORA = {"finetuning_type": "lora", "lora_rank": 8, "lora_target": "all"}
_LIGER = {"enable_liger_kernel": True}
_4BIT = {**_LORA, "quantization_bit": 4, "quantization_method": "bnb"}

FIRST = [
    row("0.5B", 512, 4),
    row("0.5B", 2048, 4),
    row("0.5B", 2048, 4, "z3"),
    row("0.5B", 2048, 4, "z2"),
    row("0.5B", 4096, 2, accumulation=2),
    row("0.5B", 2048, 4, recipe=_off()),
    row("0.5B", 2048, 4, recipe=_LORA),
    row("0.5B", 2048, 2, "ddp", accumulation=2),
    row("0.5B", 2048, 4, "z3-o"),
    row("1.5B", 2048, 4),
    row("1.5B", 2048, 2, recipe=_4BIT),
    row("moe", 2048, 2),
    row("0.5B", 32768, 1),
]

SECOND = [
    row("0.5B", 8192, 1),
    row("0.5B", 16384, 1),
    row("0.5B", 2048, 8, recipe=_off()),
    row("0.5B", 2048, 2, recipe={"flash_attn": "disabled"}),
    row("0.5B", 2048, 2, recipe=_off(flash_attn="disabled")),
    row("0.5B", 2048, 4, recipe={"pure_bf16": True}),
    row("0.5B", 2048, 2, recipe={"bf16": False, "fp16": True}),
    row("0.5B", 1024, 2, recipe={"bf16": False}),
    row("0.5B", 2048, 4, ragged=True),
    row("0.5B", 4096, 2, ragged=True, recipe=_off()),
    row("0.5B", 4096, 1, parts=4, recipe={"packing": True, "neat_packing": True}),
    row("1.5B", 1024, 1),
    row("1.5B", 4096, 2, accumulation=2),
    row("1.5B", 8192, 1),
    row("1.5B", 2048, 2, recipe=_off()),
    row("1.5B", 16384, 2),
    row("1.5B", 4096, 8, recipe=_off()),
    row("3B", 2048, 1),
    row("3B", 1024, 4),
    row("3B", 4096, 4),
    row("7B", 1024, 1),
    row("7B", 1024, 1, recipe={"pure_bf16": True}),
    row("7B", 2048, 1, recipe=_LORA),
    row("7B", 4096, 4, recipe=_LORA),
    row("7B", 2048, 2, recipe=_off(**_LORA)),
    row("7B", 32768, 1, recipe=_LORA),
    row("7B", 2048, 2, recipe=_4BIT),
    row("7B", 1024, 2, recipe={"finetuning_type": "freeze", "freeze_trainable_layers": 2}),
    row("0.5B", 8192, 1, "z2", accumulation=2),
    row("1.5B", 2048, 2, "z2"),
    row("1.5B", 4096, 2, "z2", accumulation=2),
    row("3B", 2048, 1, "z2"),
    row("3B", 4096, 4, "z2"),
    row("0.5B", 512, 4, "z3"),
    row("1.5B", 2048, 2, "z3", accumulation=2),
    row("1.5B", 8192, 1, "z3"),
    row("3B", 2048, 1, "z3"),
    row("3B", 4096, 4, "z3"),
    row("7B", 2048, 1, "z3", recipe=_LORA),
    row("1.5B", 2048, 2, "z2-oo"),
]

THIRD = [
    row("0.5B", 8192, 1, recipe=_LIGER),
    row("0.5B", 4096, 4, recipe=_off(**_LIGER)),
    row("0.5B", 32768, 2),
    row("0.5B", 2048, 4, recipe={"optim": "adamw_torch"}),
    row("0.5B", 2048, 4, recipe={"optim": "adamw_8bit"}),
    row("0.5B", 8192, 2, recipe={"flash_attn": "disabled"}),
    row("0.5B", 2048, 1, "z1"),
    row("1.5B", 8192, 2, recipe=_LIGER),
    row("1.5B", 2048, 8, recipe=_off(**_LORA)),
    row("1.5B", 4096, 4, ragged=True),
    row("1.5B", 8192, 1, parts=8, recipe={"packing": True, "neat_packing": True}),
    row("1.5B", 2048, 1, "ddp"),
    row("moe", 4096, 1, recipe=_off()),
    row("moe", 2048, 2, "z3"),
    row("moe", 2048, 4, recipe=_LORA),
    row("moe", 16384, 4),
    row("1.5B", 4096, 2, "z3-o"),
    row("0.5B", 2048, 2, "z2-oo", accumulation=2),
    row("7B-8-layers", 2048, 2),
    row("7B-8-layers", 2048, 2, "z3"),
    row("7B-8-layers", 2048, 2, "z2"),
    row("7B-8-layers", 4096, 2, "z3-o"),
    row("7B", 4096, 2, "z2", recipe=_LORA),
    row("7B", 16384, 1, recipe={**_LORA, **_LIGER}),
    row("7B", 4096, 8, recipe=_off(**_LORA)),
    row("7B", 8192, 1, recipe=_4BIT),
    row("7B", 8192, 6, recipe=_LORA),
    row("3B", 8192, 3),
    row("3B", 4096, 2, recipe={**_LORA, "lora_rank": 64}),
    row("1.5B", 8192, 4, "z3"),
    row("1.5B", 1024, 2, "z3", save=True),
    row("3B", 8192, 1, "z3-oo"),
    row("1.5B", 4096, 2, recipe={"finetuning_type": "freeze", "freeze_trainable_layers": 4}),
    row("1.5B", 2048, 1, recipe={"optim": "adafactor"}),
    row("0.5B", 8192, 2, recipe={"use_unsloth_gc": True}),
    row("7B", 4096, 1, recipe={**_LORA, "quantization_bit": 8, "quantization_method": "bnb"}),
    row("3B", 8192, 2, "z3", recipe=_LIGER),
    row("1.5B", 2048, 4, recipe={"pure_bf16": True}),
    row("1.5B", 2048, 2, "z1"),
    row("0.5B", 2048, 2, "z0"),
    row("3B", 2048, 2, "z3", recipe=_off()),
    row("1.5B", 1024, 2, save=True),
    row("7B", 2048, 4, ragged=True, recipe=_LORA),
    row("1.5B", 1024, 2, recipe={"flash_attn": "disabled"}),
    row("moe", 8192, 1, "z2"),
    row("3B", 16384, 2, "z3-o"),
    row("3B", 2048, 1, "z2-oo"),
]

PARTS = {"first": FIRST, "second": SECOND, "third": THIRD}
