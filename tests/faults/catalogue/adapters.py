"""Faults of LoRA adapters."""

from __future__ import annotations

import json

from tests.faults.catalogue.recipe import values
from tests.faults.catalogue.tensors import write_tensors
from tests.faults.fault import Fault, Inject, together
from tests.faults.workspace import Workspace


def adapter(rank: int = 2, kept: int = 2, *, width: int = 64, weights: bool = True, base: str = "") -> Inject:
    """An adapter of `rank` by its configuration, of `kept` by its weights, for a model of `width`."""

    def inject(place: Workspace) -> None:
        folder = place.root / "saves/adapter"
        folder.mkdir(parents=True)
        written = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 4, "lora_dropout": 0.0}
        written |= {"target_modules": ["q_proj"], "base_model_name_or_path": base or str(place.model), "bias": "none"}
        (folder / "adapter_config.json").write_text(json.dumps(written))
        if weights:
            header, tensors = {}, {}
            for layer in range(2):
                for part, shape in (("A", [kept, width]), ("B", [width, kept])):
                    name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{part}.weight"
                    header[name] = {"dtype": "F32", "shape": shape}
                    tensors[name] = bytes(4 * shape[0] * shape[1])
            write_tensors(folder / "adapter_model.safetensors", header, tensors)
        place.set_recipe(adapter_name_or_path="saves/adapter")

    return inject


def with_config(**changed: object) -> Inject:
    """An adapter of which adapter_config.json says something else."""

    def inject(place: Workspace) -> None:
        adapter()(place)
        place.edit_json(place.root / "saves/adapter/adapter_config.json", **changed)

    return inject


def odd(id: str, what: str, base: str, **changed: object) -> Fault:
    return Fault(id, "peft-adapter-mismatch", what, with_config(**changed), base, healable=False)


def adapter_cut(place: Workspace) -> None:
    adapter()(place)
    path = place.root / "saves/adapter/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:900])


def adapter_as_model(place: Workspace) -> None:
    adapter()(place)
    place.set_recipe(model_name_or_path="saves/adapter", adapter_name_or_path=None)


def empty_adapter(place: Workspace) -> None:
    """Saved from partitioned parameters: the names are there, the tensors hold nothing."""
    adapter(kept=0)(place)


FAULTS = [
    Fault(
        "adapter-absent",
        "peft-adapter-path-wrong",
        "adapter_name_or_path: a folder that is not there",
        values(adapter_name_or_path="saves/adapter"),
        "sky-t1 lora",
        healable=False,
    ),
    Fault(
        "adapter-is-a-model",
        "peft-adapter-path-wrong",
        "adapter_name_or_path: the folder of a model",
        lambda place: place.set_recipe(adapter_name_or_path=str(place.model)),
        "current lora",
    ),
    Fault(
        "adapter-rank",
        "peft-adapter-mismatch",
        "r in adapter_config.json is not that of the weights",
        adapter(8, 2),
        "sky-t1 lora",
    ),
    Fault(
        "adapter-of-wider-model",
        "peft-adapter-mismatch",
        "an adapter of a model of another width",
        adapter(width=128, base="Qwen/Qwen2.5-7B"),
        "sky-t1 lora",
        healable=False,
    ),
    Fault(
        "adapter-without-weights",
        "peft-adapter-path-wrong",
        "an adapter without weights",
        adapter(weights=False),
        "current lora",
        healable=False,
    ),
    Fault(
        "adapter-truncated",
        "model-corrupt-safetensors",
        "the end of the adapter is missing",
        adapter_cut,
        "current lora",
        healable=False,
    ),
    Fault(
        "adapter-empty",
        "ckpt-zero3-empty-adapter",
        "empty tensors, saved under ZeRO-3",
        empty_adapter,
        "sky-t1 lora",
        healable=False,
    ),
    odd("adapter-of-ia3", "peft_type IA3 over the weights of LoRA", "sky-t1 lora", peft_type="IA3", lora_alpha=None, r=None),
    odd("adapter-of-prompts", "peft_type PROMPT_TUNING over the weights of LoRA", "current lora", peft_type="PROMPT_TUNING"),
    odd("adapter-targets-empty", "target_modules: []", "sky-t1 lora", target_modules=[]),
    odd("adapter-targets-number", "target_modules: 5", "current lora", target_modules=5),
    odd("adapter-layers-quoted", 'layers_to_transform: "0"', "sky-t1 lora", layers_to_transform="0"),
    odd("adapter-ranks-list", "rank_pattern: []", "sky-t1 lora", rank_pattern=[]),
    odd("adapter-scales-quoted", 'alpha_pattern: {q_proj: "8"}', "current lora", alpha_pattern={"q_proj": "8"}),
    Fault("adapter-behind-a-comma", "cfg-bad-value-type", 'adapter_name_or_path: "saves/adapter,"',
          together(adapter(), values(adapter_name_or_path="saves/adapter,")), "current lora"),
]  # fmt: skip
