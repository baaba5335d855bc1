"""Writes a random 2-layer Qwen2 with its own byte-level tokenizer: `python toy_model.py DIR`.

Runs in the target's interpreter, because it needs tokenizers, numpy and safetensors; it imports neither torch nor
transformers, so that it works while they are still broken. The model has about 130,000 parameters and learns.
"""

import json
import pathlib
import sys

HIDDEN, MIDDLE, LAYERS, HEADS, KV_HEADS, VOCABULARY = 64, 128, 2, 4, 2, 512
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SAMPLE = [
    "Return your final response within the answer tags.",
    "What is seven plus five? Add them.",
    "一加一等于二，再检查一遍。",
]


def write_tokenizer(folder: pathlib.Path) -> None:
    """tokenizer.json, trained on a few sentences: any text can be encoded, byte by byte where it must."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SAMPLE * 20, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": SPECIAL[1:],
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))


def write_weights(folder: pathlib.Path) -> None:
    """model.safetensors, float32, normal with 0.02 as Qwen2 initialises; the seed is fixed."""
    import numpy
    from safetensors.numpy import save_file

    random = numpy.random.default_rng(0)

    def normal(*shape: int) -> "numpy.ndarray":
        return (random.standard_normal(shape) * 0.02).astype("float32")

    key_value = HIDDEN // HEADS * KV_HEADS
    tensors = {"model.embed_tokens.weight": normal(VOCABULARY, HIDDEN), "lm_head.weight": normal(VOCABULARY, HIDDEN)}
    tensors["model.norm.weight"] = numpy.ones(HIDDEN, "float32")
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for name, width in (("q", HIDDEN), ("k", key_value), ("v", key_value)):
            tensors[f"{at}self_attn.{name}_proj.weight"] = normal(width, HIDDEN)
            tensors[f"{at}self_attn.{name}_proj.bias"] = numpy.zeros(width, "float32")
        tensors[f"{at}self_attn.o_proj.weight"] = normal(HIDDEN, HIDDEN)
        tensors[f"{at}mlp.gate_proj.weight"] = normal(MIDDLE, HIDDEN)
        tensors[f"{at}mlp.up_proj.weight"] = normal(MIDDLE, HIDDEN)
        tensors[f"{at}mlp.down_proj.weight"] = normal(HIDDEN, MIDDLE)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{name}.weight"] = numpy.ones(HIDDEN, "float32")
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})


def write_config(folder: pathlib.Path) -> None:
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": HIDDEN,
        "intermediate_size": MIDDLE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
        "use_cache": True,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write_config(target)
    write_tokenizer(target)
    write_weights(target)
