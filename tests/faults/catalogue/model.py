"""Faults of the model folder: configuration, weights, tokenizer, adapters."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.catalogue.data import POINTER
from tests.faults.catalogue.recipe import values
from tests.faults.fault import Fault, Inject, together
from tests.faults.workspace import Workspace

WHOLE = ("--model", "{root}/models/whole")


def file(name: str, change: Callable[[bytes], bytes | None]) -> Inject:
    """Change the bytes of a file of the model, None takes it away; a whole copy lies beside, as after a download."""

    def inject(place: Workspace) -> None:
        place.keep_a_copy()
        path = place.model / name
        changed = change(path.read_bytes())
        path.unlink()
        if changed is not None:
            path.write_bytes(changed)

    return inject


def config(**changed: Any) -> Inject:
    return of_json("config.json", **changed)


def of_json(name: str, **changed: Any) -> Inject:
    def inject(place: Workspace) -> None:
        place.keep_a_copy()
        place.edit_json(place.model / name, **changed)

    return inject


def text(name: str, change: Callable[[str], str]) -> Inject:
    return file(name, lambda before: change(before.decode()).encode())


def pointer(name: str) -> Inject:
    return file(name, lambda before: POINTER.encode())


def sharded(place: Workspace) -> None:
    """The weights as two shards with an index; every tensor of layer 1 is in the second."""
    header, body = read_tensors(place.model / "model.safetensors")
    parts: dict[str, dict[str, bytes]] = {
        "model-00001-of-00002.safetensors": {},
        "model-00002-of-00002.safetensors": {},
    }
    where = {}
    for name in header:
        shard = list(parts)[".layers.1." in name]
        parts[shard][name] = body[name]
        where[name] = shard
    for shard, tensors in parts.items():
        write_tensors(place.model / shard, {name: header[name] for name in tensors}, tensors)
    size = sum(len(data) for data in body.values())
    (place.model / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": where})
    )
    (place.model / "model.safetensors").unlink()


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Header entries and bytes of every tensor of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    start = 8 + length
    return header, {n: data[start + e["data_offsets"][0] : start + e["data_offsets"][1]] for n, e in header.items()}


def write_tensors(path: Path, header: dict[str, Any], tensors: dict[str, bytes]) -> None:
    at, entries = 0, {"__metadata__": {"format": "pt"}}
    for name, data in tensors.items():
        entries[name] = {**header[name], "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(tensors.values()))


def of_shards(change: Callable[[Path], None]) -> Inject:
    def inject(place: Workspace) -> None:
        sharded(place)
        place.keep_a_copy()
        change(place.model)

    return inject


def index_of_missing_tensor(model: Path) -> None:
    path = model / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.layers.2.mlp.up_proj.weight"] = "model-00003-of-00003.safetensors"
    path.write_text(json.dumps(index))


def more_tokens(place: Workspace) -> None:
    """Tokens added to the tokenizer, and not to the embedding."""
    place.keep_a_copy()
    path = place.model / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    known = len(tokenizer["model"]["vocab"])
    names = [f"<|extra_{number}|>" for number in range(known, 512)] + ["<think>", "</think>"]
    for number, name in enumerate(names, start=known):  # tokenizers gives an added token the next free id
        entry = {"id": number, "content": name, "single_word": False, "lstrip": False, "rstrip": False}
        tokenizer["added_tokens"].append({**entry, "normalized": False, "special": False})
    path.write_text(json.dumps(tokenizer, ensure_ascii=False))


def format_only(name: str) -> Inject:
    """The weights in a format that transformers does not load."""

    def inject(place: Workspace) -> None:
        place.keep_a_copy()
        (place.model / "model.safetensors").rename(place.model / name)

    return inject


def moved(place: Workspace) -> None:
    place.model.rename(place.model.parent / "moved")


def in_home(place: Workspace) -> None:
    """A path with ~, which nothing expands."""
    shutil.copytree(place.model, place.home / "toy")
    place.set_recipe(model_name_or_path="~/toy")


def in_cache_folder(place: Workspace) -> None:
    """The cache folder of the hub instead of the snapshot in it."""
    cache = place.root.parent / "hub/models--Qwen--toy"
    shutil.copytree(place.model, cache / "snapshots" / ("5e" * 20))
    (cache / "refs").mkdir()
    place.set_recipe(model_name_or_path=str(cache))


def download_broken_off(place: Workspace) -> None:
    place.keep_a_copy()
    weights = place.model / "model.safetensors"
    weights.rename(place.model / "model.safetensors.incomplete")
    (place.model / "model.safetensors.aria2").write_bytes(b"\0")


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


def own_code(place: Workspace) -> None:
    """A Qwen2 under another name, with the code that says so beside it."""
    place.keep_a_copy()
    auto = {"AutoConfig": "configuration_mine.Mine", "AutoModelForCausalLM": "modeling_mine.MineForCausalLM"}
    place.edit_json(place.model / "config.json", model_type="mine", auto_map=auto)
    (place.model / "configuration_mine.py").write_text(
        'from transformers import Qwen2Config\n\n\nclass Mine(Qwen2Config):\n    model_type = "mine"\n'
    )
    (place.model / "modeling_mine.py").write_text(
        "from transformers import Qwen2ForCausalLM\n\nfrom .configuration_mine import Mine\n\n\n"
        "class MineForCausalLM(Qwen2ForCausalLM):\n    config_class = Mine\n"
    )


PATHS = [
    Fault(
        "model-moved",
        "model-path-not-found",
        "the folder is not there",
        moved,
        arguments=("--model", "{root}/models/moved"),
    ),
    Fault(
        "model-relative",
        "model-path-not-found",
        "models/toy: taken for a hub id",
        together(
            values(model_name_or_path="models/toi"),
            lambda place: shutil.copytree(place.model, place.root / "models/toy"),
        ),
        "current full",
        arguments=("--model", "{root}/models/toy"),
    ),
    Fault("model-in-home", "model-path-not-found", "~/toy is not expanded", in_home, "sky-t1 lora"),
    Fault(
        "model-is-the-cache", "model-incomplete-download", "the cache folder instead of the snapshot", in_cache_folder
    ),
    Fault(
        "model-is-a-file",
        "model-config-invalid-json",
        "the path of model.safetensors",
        lambda place: place.set_recipe(model_name_or_path=str(place.model / "model.safetensors")),
        "current lora",
    ),
    Fault("model-is-an-adapter", "model-incomplete-download", "the folder of an adapter", adapter_as_model),
]
CONFIG = [
    Fault(
        "config-missing",
        "model-incomplete-download",
        "no config.json",
        file("config.json", lambda b: None),
        arguments=WHOLE,
    ),
    Fault(
        "config-comma",
        "model-config-invalid-json",
        "a comma behind the last key of config.json",
        text("config.json", lambda t: t[: t.rindex("\n}")] + ",\n}\n"),
        "current full",
    ),
    Fault(
        "config-truncated",
        "model-config-invalid-json",
        "half of config.json",
        file("config.json", lambda b: b[: len(b) // 2]),
        arguments=WHOLE,
    ),
    Fault(
        "config-pointer",
        "model-lfs-pointer",
        "config.json is a git-lfs pointer",
        pointer("config.json"),
        arguments=WHOLE,
    ),
    Fault(
        "model-type-newer",
        "pkg-transformers-too-old-for-model",
        "model_type qwen3 with transformers 4.46",
        config(model_type="qwen3", architectures=["Qwen3ForCausalLM"]),
        healable=False,
    ),
    Fault(
        "model-type-unknown",
        "model-arch-unsupported",
        "a model_type that no release has",
        config(model_type="qwenx", architectures=["QwenXForCausalLM"]),
        "current full",
        healable=False,
    ),
    Fault(
        "model-type-absent",
        "model-incomplete-download",
        "config.json without model_type",
        config(model_type=None),
        healable=False,
    ),
    Fault(
        "remote-code",
        "model-needs-trust-remote-code",
        "a model with code of its own",
        own_code,
        "current lora",
    ),
    Fault(
        "config-too-wide",
        "model-config-weights-mismatch",
        "hidden_size is not that of the weights",
        config(hidden_size=128),
        arguments=WHOLE,
    ),
    Fault(
        "config-vocabulary",
        "model-config-weights-mismatch",
        "vocab_size is not that of the weights",
        config(vocab_size=600),
        "current lora",
        arguments=WHOLE,
    ),
    Fault(
        "config-more-layers",
        "model-config-weights-mismatch",
        "a layer more than the weights have",
        config(num_hidden_layers=3),
        arguments=WHOLE,
        shows=r"newly initialized",
    ),
    Fault(
        "config-quantised",
        "quant-backend-missing",
        "a GPTQ checkpoint with full tuning",
        config(quantization_config={"quant_method": "gptq", "bits": 4}),
        arguments=WHOLE,
    ),
    Fault(
        "config-heads",
        "model-config-weights-mismatch",
        "num_key_value_heads is not that of the weights",
        config(num_key_value_heads=4),
        "sky-t1 lora",
        arguments=WHOLE,
    ),
]
MORE = [
    Fault(
        "config-dtype-unknown",
        "model-config-invalid-json",
        "torch_dtype: bfloat32 in config.json",
        config(torch_dtype="bfloat32"),
        arguments=WHOLE,
    ),
]
WEIGHTS = [
    Fault(
        "weights-pointer",
        "model-lfs-pointer",
        "the weights are a git-lfs pointer",
        pointer("model.safetensors"),
        arguments=WHOLE,
    ),
    Fault(
        "weights-truncated",
        "model-corrupt-safetensors",
        "the end of the weights is missing",
        file("model.safetensors", lambda b: b[:200_000]),
        "current full",
        arguments=WHOLE,
    ),
    Fault(
        "weights-header-broken",
        "model-corrupt-safetensors",
        "the header of the weights is damaged",
        file("model.safetensors", lambda b: b[:8] + b"\0" * 40 + b[48:]),
        arguments=WHOLE,
    ),
    Fault(
        "weights-html",
        "model-corrupt-safetensors",
        "a web page saved as weights",
        file("model.safetensors", lambda b: b"<!DOCTYPE html><html><title>Login</title></html>"),
        "current lora",
        arguments=WHOLE,
    ),
    Fault(
        "weights-zeros",
        "model-corrupt-safetensors",
        "a file of zeros, as a full disk leaves it",
        file("model.safetensors", lambda b: bytes(len(b))),
        "sky-t1 lora",
        arguments=WHOLE,
    ),
    Fault(
        "weights-missing",
        "model-shards-missing",
        "no weights",
        file("model.safetensors", lambda b: None),
        arguments=WHOLE,
    ),
    Fault(
        "weights-gguf",
        "model-not-hf-format",
        "only a .gguf",
        format_only("toy-q4_k_m.gguf"),
        "current full",
        arguments=WHOLE,
    ),
    Fault(
        "weights-consolidated",
        "model-not-hf-format",
        "only a consolidated.00.pth",
        format_only("consolidated.00.pth"),
        arguments=WHOLE,
    ),
    Fault(
        "download-broken-off", "model-shards-missing", "an unfinished download", download_broken_off, arguments=WHOLE
    ),
    Fault(
        "shard-missing",
        "model-shards-missing",
        "the second shard is not there",
        of_shards(lambda model: (model / "model-00002-of-00002.safetensors").unlink()),
        arguments=WHOLE,
    ),
    Fault(
        "shard-truncated",
        "model-corrupt-safetensors",
        "the second shard is cut",
        of_shards(
            lambda model: (model / "model-00002-of-00002.safetensors").write_bytes(
                (model / "model-00002-of-00002.safetensors").read_bytes()[:90_000]
            )
        ),
        "current full",
        arguments=WHOLE,
    ),
    Fault(
        "shard-pointer",
        "model-lfs-pointer",
        "the second shard is a git-lfs pointer",
        of_shards(lambda model: (model / "model-00002-of-00002.safetensors").write_text(POINTER) and None),
        "sky-t1 lora",
        arguments=WHOLE,
    ),
    Fault(
        "index-missing",
        "model-shards-missing",
        "two shards and no index",
        of_shards(lambda model: (model / "model.safetensors.index.json").unlink()),
        arguments=WHOLE,
    ),
    Fault(
        "index-names-more",
        "model-shards-missing",
        "the index names a shard of another download",
        of_shards(index_of_missing_tensor),
        "current lora",
        arguments=WHOLE,
    ),
    Fault(
        "index-broken",
        "model-corrupt-safetensors",
        "the index is cut",
        of_shards(lambda model: (model / "model.safetensors.index.json").write_text('{"metadata": {') and None),
        arguments=WHOLE,
    ),
]
TOKENIZER = [
    Fault(
        "tokenizer-missing",
        "tok-file-missing",
        "no tokenizer.json",
        file("tokenizer.json", lambda b: None),
        arguments=WHOLE,
    ),
    Fault(
        "tokenizer-truncated",
        "tok-load-failed",
        "tokenizer.json is cut",
        file("tokenizer.json", lambda b: b[:3000]),
        "current full",
        arguments=WHOLE,
    ),
    Fault(
        "tokenizer-pointer",
        "model-lfs-pointer",
        "tokenizer.json is a git-lfs pointer",
        pointer("tokenizer.json"),
        "sky-t1 lora",
        arguments=WHOLE,
    ),
    Fault(
        "tokenizer-config-broken",
        "tok-load-failed",
        "tokenizer_config.json is not JSON",
        text("tokenizer_config.json", lambda t: t.replace('",', '"', 1)),
        arguments=WHOLE,
    ),
    Fault(
        "tokenizer-class-unknown",
        "tok-wrong-class",
        "a tokenizer_class that no release has",
        of_json("tokenizer_config.json", tokenizer_class="QwenXTokenizer"),
        arguments=WHOLE,
    ),
    Fault(
        "tokens-beyond-embedding",
        "tok-ids-out-of-range",
        "added tokens without rows in the embedding",
        together(
            more_tokens, lambda place: place.write_rows([{**row, "system": "<think> first"} for row in place.rows()])
        ),
    ),
    Fault(
        "tokens-beyond-embedding-lora",
        "tok-ids-out-of-range",
        "added tokens without rows in the embedding",
        together(
            more_tokens, lambda place: place.write_rows([{**row, "system": "<think> first"} for row in place.rows()])
        ),
        "current lora",
    ),
]
ADAPTER = [
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
]
FAULTS = [*PATHS, *CONFIG, *MORE, *WEIGHTS, *TOKENIZER, *ADAPTER]
