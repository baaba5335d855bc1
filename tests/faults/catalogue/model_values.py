"""Faults of the model folder beyond damaged files: values of its configurations, tensors that are other ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.faults.catalogue.adapters import adapter
from tests.faults.catalogue.data import POINTER
from tests.faults.catalogue.model import WHOLE, config, of_json
from tests.faults.catalogue.tensors import read_tensors, write_tensors
from tests.faults.fault import Fault, Inject, together
from tests.faults.workspace import Workspace

RANDOM = r"not initialized from the model checkpoint|newly initialized"
HAND = {"healable": False}


def tensors(change: Callable[[dict[str, Any], dict[str, bytes]], object]) -> Inject:
    """Change entries and bytes of the weights; a whole copy lies beside."""

    def inject(place: Workspace) -> None:
        place.keep_a_copy()
        header, body = read_tensors(place.model / "model.safetensors")
        change(header, body)
        write_tensors(place.model / "model.safetensors", header, body)

    return inject


def without(name: str) -> Inject:
    return tensors(lambda header, body: (header.pop(name), body.pop(name)))


def renamed(change: Callable[[str], str]) -> Inject:
    def each(header: dict[str, Any], body: dict[str, bytes]) -> None:
        for part in (header, body):
            for name in list(part):
                part[change(name)] = part.pop(name)  # type: ignore[attr-defined]

    return tensors(each)


def transposed(header: dict[str, Any], body: dict[str, bytes]) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    header[name] = {**header[name], "shape": header[name]["shape"][::-1]}


def written(name: str, text: str) -> Inject:
    """A file of the model with this text; a whole copy lies beside."""

    def inject(place: Workspace) -> None:
        place.keep_a_copy()
        (place.model / name).write_text(text)

    return inject


def changed_adapter(**values: Any) -> Inject:
    """An adapter whose configuration differs; a value None takes the key out."""

    def change(place: Workspace) -> None:
        place.edit_json(place.root / "saves/adapter/adapter_config.json", **values)

    return together(adapter(), change)


def adapter_bytes(name: str, text: str) -> Inject:
    def inject(place: Workspace) -> None:
        adapter(weights=False)(place)
        (place.root / "saves/adapter" / name).write_text(text)

    return inject


def page_for_weights(place: Workspace) -> None:
    place.keep_a_copy()
    (place.model / "model.safetensors").unlink()
    (place.model / "pytorch_model.bin").write_text("<html><title>Login</title></html>")


def space_behind(place: Workspace) -> None:
    place.set_recipe(model_name_or_path=f"{place.model} ")


def value(id: str, what: str, base: str = "sky-t1 full", **changed: Any) -> Fault:
    """A value of config.json that no model is made from."""
    return Fault(id, "model-config-invalid-json", what, config(**changed), base, arguments=WHOLE)


VALUES = [
    value("activation-unknown", "hidden_act: siluu", hidden_act="siluu"),
    value("activation-in-capitals", "hidden_act: SiLU", hidden_act="SiLU"),
    value("layers-quoted", 'num_hidden_layers: "2"', num_hidden_layers="2"),
    value("width-quoted", 'hidden_size: "64"', "current full", hidden_size="64"),
    value("epsilon-quoted", 'rms_norm_eps: "1e-6"', rms_norm_eps="1e-6"),
    value("theta-quoted", 'rope_theta: "10000"', "current full", rope_theta="10000"),
    value("rope-type-unknown", "rope_scaling of type yarnn", rope_scaling={"type": "yarnn", "factor": 2.0}),
    value("rope-type-unknown-current", "rope_scaling of type yarnn", "current full",
          rope_scaling={"type": "yarnn", "factor": 2.0}),
    value("rope-without-factor", "rope_scaling yarn without factor", rope_scaling={"rope_type": "yarn"}),
    value("rope-as-text", "rope_scaling: yarn", "current lora", rope_scaling="yarn"),
    value("dtype-is-a-number", "torch_dtype: 16", torch_dtype=16),
    value("dtype-auto", "torch_dtype: auto", torch_dtype="auto"),
    value("padding-beyond-vocabulary", "pad_token_id: 9999", "current full", pad_token_id=9999),
    value("dropout-of-attention", "attention_dropout: 1.5", attention_dropout=1.5),
    value("layer-types-too-few", "layer_types for one layer of two", "current full", layer_types=["full_attention"]),
    Fault("groups-zero", "model-config-weights-mismatch", "num_key_value_heads: 0", config(num_key_value_heads=0),
          arguments=WHOLE),
    Fault("vocabulary-not-named", "model-config-weights-mismatch", "no vocab_size", config(vocab_size=None),
          arguments=WHOLE),
    Fault("attention-of-config", "attn-flash-missing", "config.json asks for flash_attention_2",
          config(_attn_implementation="flash_attention_2"), arguments=WHOLE, **HAND),
    Fault("own-code-not-copied", "model-incomplete-download", "auto_map names a file that is not there",
          config(auto_map={"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.X"}), arguments=WHOLE,
          **HAND),
    Fault("quantiser-unknown", "quant-unsupported-combo", "quant_method: gptqq",
          config(quantization_config={"quant_method": "gptqq"}), "sky-t1 lora", **HAND),
    Fault("quantised-by-bitsandbytes", "quant-backend-missing", "a checkpoint of bitsandbytes",
          config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), "sky-t1 lora", **HAND),
    Fault("generation-is-a-list", "model-config-invalid-json", "generation_config.json: []",
          written("generation_config.json", "[]"), arguments=WHOLE),
    Fault("generation-end-as-text", "model-config-invalid-json", 'eos_token_id: "2"',
          written("generation_config.json", json.dumps({"eos_token_id": "2"})), "current full", arguments=WHOLE),
]  # fmt: skip
TENSORS = [
    Fault("tensor-missing", "model-config-weights-mismatch", "one matrix is not in the weights",
          without("model.layers.1.mlp.up_proj.weight"), arguments=WHOLE, shows=RANDOM),
    Fault("head-missing", "model-config-weights-mismatch", "lm_head is not in the weights", without("lm_head.weight"),
          "sky-t1 lora", arguments=WHOLE, shows=RANDOM),
    Fault("embedding-missing", "model-config-weights-mismatch", "the embedding is not in the weights",
          without("model.embed_tokens.weight"), "current full", arguments=WHOLE, shows=RANDOM),
    Fault("tensors-of-a-wrapper", "model-config-weights-mismatch", "every name begins with module.",
          renamed(lambda name: f"module.{name}"), arguments=WHOLE, shows=RANDOM),
    Fault("tensors-of-an-adapter", "model-config-weights-mismatch", "q_proj.base_layer, saved without merging",
          renamed(lambda name: name.replace("q_proj.", "q_proj.base_layer.")), arguments=WHOLE, shows=RANDOM),
    Fault("matrix-transposed", "model-config-weights-mismatch", "a matrix is transposed", tensors(transposed),
          arguments=WHOLE),
    Fault("family-mistaken", "model-config-weights-mismatch", "model_type: llama for the weights of a qwen2",
          config(model_type="llama"), arguments=WHOLE, shows="were not used when initializing"),
    Fault("weights-bin-is-a-page", "model-corrupt-safetensors", "a web page saved as pytorch_model.bin", page_for_weights,
          arguments=WHOLE),
    Fault("path-with-a-space-behind", "model-path-not-found", "a space behind the path", space_behind,
          arguments=("--model", "{model}")),
]  # fmt: skip
TOKENIZER = [
    Fault("tokens-map-broken", "tok-load-failed", "special_tokens_map.json is cut", written("special_tokens_map.json", "{"),
          arguments=WHOLE),
    Fault("added-tokens-broken", "tok-load-failed", "added_tokens.json is cut", written("added_tokens.json", "{"),
          "current full", arguments=WHOLE),
    Fault("longest-in-words", "tok-load-failed", "model_max_length: long",
          of_json("tokenizer_config.json", model_max_length="long"), arguments=WHOLE),
    Fault("added-id-in-words", "tok-load-failed", "added_tokens_decoder with a word for an id",
          of_json("tokenizer_config.json", added_tokens_decoder={"a": {"content": "x"}}), "current full", arguments=WHOLE),
    Fault("tokenizer-of-another-version", "tok-load-failed", 'tokenizer.json says version "2.0"',
          of_json("tokenizer.json", version="2.0"), arguments=WHOLE),
    Fault("pre-tokenizer-unknown", "tok-load-failed", "a pre_tokenizer that nobody has",
          of_json("tokenizer.json", pre_tokenizer={"type": "Bytes"}), arguments=WHOLE),
]  # fmt: skip
ADAPTERS = [
    Fault("adapter-type-unknown", "peft-adapter-mismatch", "peft_type: LORAX", changed_adapter(peft_type="LORAX"),
          "sky-t1 lora", **HAND),
    Fault("adapter-type-absent", "peft-adapter-mismatch", "no peft_type", changed_adapter(peft_type=None), "sky-t1 lora",
          **HAND),
    Fault("adapter-newer", "peft-config-newer", "fields of a newer peft",
          changed_adapter(corda_config={}, lora_bias=False, qalora_group_size=16), "sky-t1 lora", **HAND),
    Fault("adapter-of-another-family", "peft-adapter-mismatch", "target_modules: W_pack",
          changed_adapter(target_modules=["W_pack"]), "sky-t1 lora", **HAND),
    Fault("adapter-rank-quoted", "peft-adapter-mismatch", 'r: "2"', changed_adapter(r="2"), "sky-t1 lora", **HAND),
    Fault("adapter-is-a-page", "model-corrupt-safetensors", "a web page saved as adapter_model.bin",
          adapter_bytes("adapter_model.bin", "<html>"), "sky-t1 lora", **HAND),
    Fault("adapter-pointer", "model-lfs-pointer", "the adapter is a git-lfs pointer",
          adapter_bytes("adapter_model.safetensors", POINTER), "current lora", **HAND),
]  # fmt: skip
FAULTS = [*VALUES, *TENSORS, *TOKENIZER, *ADAPTERS]
