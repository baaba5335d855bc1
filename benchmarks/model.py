"""Time of looking at a large model folder: configuration, index, headers of all shards. Weights are never read.

    python benchmarks/model.py [--shards 17] [--folder DIR]

The shards are sparse files: their sizes are real, their contents are holes. Tensors are those of a 32B Qwen2.5 (64 layers
of 12). Goal: 65 GB in 17 shards in under 0.3 s.
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
import time
from pathlib import Path

from doctor.recipe import known_models, model_folder

_SHAPES = """
self_attn.q_proj.weight 5120 5120
self_attn.k_proj.weight 1024 5120
self_attn.v_proj.weight 1024 5120
self_attn.o_proj.weight 5120 5120
self_attn.q_proj.bias 5120
self_attn.k_proj.bias 1024
self_attn.v_proj.bias 1024
mlp.gate_proj.weight 27648 5120
mlp.up_proj.weight 27648 5120
mlp.down_proj.weight 5120 27648
input_layernorm.weight 5120
post_attention_layernorm.weight 5120
"""
LAYER = {line.split()[0]: [int(n) for n in line.split()[1:]] for line in _SHAPES.split("\n") if line}


def write(folder: Path, shards: int) -> int:
    """A model folder of sparse shards; the bytes they claim."""
    tensors = {
        "model.embed_tokens.weight": [152064, 5120],
        "lm_head.weight": [152064, 5120],
        "model.norm.weight": [5120],
    }
    tensors |= {f"model.layers.{i}.{name}": shape for i in range(64) for name, shape in LAYER.items()}
    names = list(tensors)
    weight_map, total = {}, 0
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        header, at = {}, 0
        for name in names[shard::shards]:
            size = 2
            for length in tensors[name]:
                size *= length
            header[name] = {"dtype": "BF16", "shape": tensors[name], "data_offsets": [at, at + size]}
            at += size
            weight_map[name] = file
        raw = json.dumps(header).encode()
        with (folder / file).open("wb") as made:
            made.write(struct.pack("<Q", len(raw)) + raw)
            made.truncate(8 + len(raw) + at)
        total += at
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map})
    )
    (folder / "config.json").write_text(json.dumps(known_models.config("Qwen/Qwen2.5-32B-Instruct")))
    vocabulary = {f"token{i}": i for i in range(151_643)}
    added = [{"id": 151_643 + i, "content": f"<|{i}|>"} for i in range(22)]
    (folder / "tokenizer.json").write_text(
        json.dumps({"added_tokens": added, "model": {"type": "BPE", "vocab": vocabulary}})
    )
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=17)
    parser.add_argument("--folder", help="where the files are written (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        total = write(Path(name), given.shards)
        seconds = []
        for _ in range(5):
            begun = time.perf_counter()
            found = model_folder.inspect(Path(name))
            seconds.append(time.perf_counter() - begun)
        assert found.complete, found.weights.faults
        print(f"{total / 1e9:.1f} GB in {given.shards} shards, {found.weights.parameters:,} parameters")
        print(f"first {seconds[0]:.3f} s, best {min(seconds):.3f} s")


if __name__ == "__main__":
    main()
