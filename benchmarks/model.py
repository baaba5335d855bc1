"""Time of looking at a large model folder: configuration, index, headers of all shards. Weights are never read.

    python benchmarks/model.py [--shards 17] [--folder DIR] [--hash-gigabytes 1] [--json FILE]

The shards are sparse files: their sizes are real, their contents are holes. Tensors are those of a 32B Qwen2.5 (64 layers
of 12). Goal: 65 GB in 17 shards in under 0.3 s.

The deep hash of `check --deep` is measured on files of random bytes, on every core, beside `openssl speed sha256`; both in
seconds of processor time, so that neighbours on the machine count for neither. Goal: 90 % of what it promises.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from doctor.deep import hashing
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
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        at = 0
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


def _worked() -> float:
    """Seconds of processor time of this process and of those that it has ended."""
    return sum(os.times()[:4])


def hashed(folder: Path, gigabytes: float) -> dict[str, float]:
    """MB in a second of processor time: ours on all cores, openssl's on one. `gigabytes`: for each core."""
    cores = len(os.sched_getaffinity(0))
    gigabytes *= cores
    files = [folder / f"part-{number}" for number in range(cores * 2)]
    piece = os.urandom(32 << 20)
    for path in files:
        with path.open("wb") as file:
            while file.tell() < gigabytes * 1e9 / len(files):
                file.write(piece)
    size = sum(path.stat().st_size for path in files)
    begun, worked = time.perf_counter(), _worked()
    found = hashing.every(files, float("inf"), cores)
    seconds, worked = time.perf_counter() - begun, _worked() - worked
    assert all(found.values())
    command = ["openssl", "speed", "-seconds", "3", "-bytes", "16384", "sha256"]
    told = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout  # it counts processor time by itself
    promised = float(told.split()[-1].rstrip("k")) * 1e3
    ours = size / worked
    print(f"hash: {ours / 1e6:.0f} MB in a second of a core, openssl {promised / 1e6:.0f}: {ours / promised:.0%}")
    print(f"      {size / 1e9:.1f} GB on {cores} cores in {seconds:.1f} s")
    return {
        "mb_per_core_second": round(ours / 1e6), "openssl_mb_per_core_second": round(promised / 1e6),
        "share": round(ours / promised, 3), "wall_seconds": round(seconds, 2), "gigabytes": round(size / 1e9, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=17)
    parser.add_argument("--folder", help="where the files are written (default: a temporary folder)")
    parser.add_argument("--hash-gigabytes", type=float, default=1.0, help="random bytes to hash per core; 0: none")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    given = parser.parse_args()
    figures: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "cores": len(os.sched_getaffinity(0))}
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
        headers = {"gigabytes": round(total / 1e9, 1), "shards": given.shards}
        figures["headers"] = {**headers, "seconds": round(min(seconds), 3), "first": round(seconds[0], 3)}
    if given.hash_gigabytes:
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            figures["hash"] = hashed(Path(name), given.hash_gigabytes)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
