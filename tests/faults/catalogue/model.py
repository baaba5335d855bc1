"""Faults of the model folder: where it is, its configuration, its tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

from tests.faults.catalogue.adapters import adapter_as_model
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
FAULTS = [*PATHS, *CONFIG, *MORE, *TOKENIZER]
