"""A LoRA adapter folder: adapter_config.json and the shapes of its weights."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from doctor.recipe import model_folder, safetensors_header, source_tree, weight_files

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


class Adapter(msgspec.Struct, frozen=True):
    """`rank` by the configuration, `weights_rank` by the shape of lora_A, `base`: the model it was trained on.

    `full_model`: the folder is a model instead. `found_at`: a folder below that does hold an adapter.
    """

    name: str
    path: str | None
    has_config: bool = False
    has_weights: bool = False
    config_error: str | None = None
    weights_error: str | None = None
    rank: int | None = None
    weights_rank: int | None = None
    base: str | None = None
    full_model: bool = False
    found_at: str | None = None
    pointer: bool = False  # its weights are git-lfs pointer text
    faults: list[str] = []  # values that no peft makes a configuration of
    odd_task: str | None = None  # a task_type that there is none of, which older releases never look at
    fields: list[str] = []  # all fields of the configuration
    peft_type: str | None = None
    targets: list[str] = []
    outline: dict[str, dict[str, Any]] = {}  # of its tensors, see model_folder.outline
    dora: bool = False
    some_layers: bool = False  # layers_to_transform chooses among them
    layers: list[int] = []  # those that it chooses
    pattern: str | None = None  # target_modules that is one pattern and no list
    saved: list[str] = []  # modules_to_save
    ranks: dict[str, int] = {}  # rank_pattern
    inputs: dict[str, int] = {}  # module -> columns of its lora_A, which is the width of what goes into it


def inspect(name: str, folder: Path) -> Adapter:
    """Facts of one adapter; `folder` need not exist."""
    if not os.path.isdir(folder):
        return Adapter(name, None)
    config, error = _config(folder / CONFIG)
    weights = next((folder / w for w in WEIGHTS if os.path.exists(folder / w)), None)
    rank_seen, weights_error = None, None
    outline: dict[str, dict[str, Any]] = {}
    inputs: dict[str, int] = {}
    if weights:
        rank_seen, weights_error, inputs, outline = _rank(weights)
    modules = config.get("target_modules")
    rank = config.get("r", _RANK if config.get("peft_type") == "LORA" else None)
    base = config.get("base_model_name_or_path")
    below = sorted(folder.glob(f"*/{CONFIG}"), key=lambda p: p.stat().st_mtime)
    return Adapter(
        name=name,
        path=str(folder),
        has_config=os.path.isfile(folder / CONFIG),
        has_weights=weights is not None,
        config_error=error,
        weights_error=weights_error,
        rank=rank if isinstance(rank, int) else None,
        weights_rank=rank_seen if not config.get("rank_pattern") else None,
        base=base if isinstance(base, str) else None,
        full_model=os.path.isfile(folder / "config.json"),
        found_at=str(below[-1].parent) if below else None,
        pointer=weights is not None and _head(weights).startswith(b"version https:"),
        faults=_faults(config) if config or (error is None and os.path.isfile(folder / CONFIG)) else [],
        odd_task=str(task)[:40] if (task := config.get("task_type")) is not None and task not in _TASKS else None,
        fields=sorted(map(str, config)),
        peft_type=str(config["peft_type"]) if config.get("peft_type") else None,
        targets=[str(module) for module in modules] if isinstance(modules, list) else [],
        inputs=inputs,
        outline=outline,
        dora=config.get("use_dora") is True,
        some_layers=config.get("layers_to_transform") is not None,
        layers=[n for n in _listed(config.get("layers_to_transform")) if type(n) is int],
        pattern=modules if isinstance(modules, str) else None,
        saved=[str(name) for name in config["modules_to_save"]]
        if isinstance(config.get("modules_to_save"), list)
        else [],
        ranks=_ranks(config.get("rank_pattern")),
    )


# PeftType of peft/utils/peft_types.py, all releases together
_TYPES = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "LORA", "ADALORA", "BOFT", "IA3",
          "ADAPTION_PROMPT", "LOHA", "LOKR", "OFT", "POLY", "LN_TUNING", "VERA", "FOURIERFT", "XLORA", "HRA", "VBLORA",
          "CPT", "BONE", "RANDLORA", "TRAINABLE_TOKENS", "SHIRA", "C3A", "MISS", "ROAD", "WAVEFT", "OSF", "DELORA",
          "GRALORA", "CARTRIDGE", "PSOFT", "LILY", "PVERA", "PEANUT")  # fmt: skip


_RANK = 8  # of a LoraConfig that names none
_NUMBERS: dict[str, Any] = {"r": int, "lora_alpha": (int, float)}


def _faults(config: dict[str, Any]) -> list[str]:
    kind = config.get("peft_type")
    if kind not in _TYPES:
        return [f"peft_type is {kind}, which no peft has" if kind else "it names no peft_type"]
    whole: dict[str, Any] = {name: config[name] for name in ("r", "lora_alpha") if name in config and kind == "LORA"}
    wrong = [n for n, v in whole.items() if isinstance(v, bool) or not isinstance(v, _NUMBERS[n]) or v <= 0]
    found = [
        f"{name} is {whole[name]!r}; a {'whole ' if name == 'r' else ''}number above 0 is needed" for name in wrong
    ]
    base = config.get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        found.append(f"base_model_name_or_path is {str(base)[:40]!r}; text is needed")
    if kind != "LORA":
        return found
    if isinstance(config.get("modules_to_save"), str):
        found.append(f"modules_to_save is {config['modules_to_save'][:40]!r}; a list is needed")
    for name, words in _CHOICES.items():
        if name in config and config[name] not in words:
            found.append(f"{name} is {str(config[name])[:40]!r}; it may be {', '.join(filter(None, words))}")
    dropout, made = config.get("lora_dropout", 0.0), config.get("init_lora_weights", True)
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
        found.append(f"lora_dropout is {str(dropout)[:40]!r}; a number from 0 to 1 is needed")
    if (
        not isinstance(made, (bool, type(None)))
        and not str(made).lower().startswith("pissa_niter_")
        and made not in _STARTS
    ):
        found.append(f"init_lora_weights is {str(made)[:40]!r}; it may be true, false, {', '.join(_STARTS)}")
    if config.get("megatron_config") is not None:
        found.append("megatron_config is given, for which the package megatron is needed")
    return found + [
        f"{name} is {str(config[name])[:40]!r}; {needed} is needed"
        for name, (needed, fits) in _FORMS.items()
        if name in config and not fits(config[name])
    ]


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _patterns(given: Any) -> bool:
    return isinstance(given, dict) and all(
        isinstance(n, (int, float)) and not isinstance(n, bool) for n in given.values()
    )


def _modules(given: Any) -> bool:
    return given is None or isinstance(given, str) or (isinstance(given, list) and bool(given) and _all(given, str))


def _layers(given: Any) -> bool:
    return given is None or isinstance(given, int) or (isinstance(given, list) and _all(given, int))


def _all(given: list[Any], kind: type) -> bool:
    return all(isinstance(item, kind) for item in given)


# Fields of a LoraConfig that peft takes apart -> what they must be, in words and as a test.
_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "rank_pattern": ("a mapping of modules to numbers", _patterns),
    "alpha_pattern": ("a mapping of modules to numbers", _patterns),
    "target_modules": ("a list of names that is not empty, or one pattern,", _modules),
    "loftq_config": ("a mapping", lambda given: isinstance(given, dict)),
    "layers_to_transform": ("a list of whole numbers", _layers),
}


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "bias": ("none", "all", "lora_only"),
}
_TASKS = ("SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
_STARTS = ("gaussian", "pissa", "olora", "loftq", "eva", "corda", "orthogonal", "lora_ga", "mclora")


def _ranks(given: Any) -> dict[str, int]:
    """Module, or pattern -> rank."""
    return {str(n): r for n, r in given.items() if isinstance(r, int)} if isinstance(given, dict) else {}


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        return b"\x80"  # what cannot be read is not judged by its first bytes


def _config(path: Path) -> tuple[dict[str, Any], str | None]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError, RecursionError) as error:
        return {}, str(error)
    return (value, None) if isinstance(value, dict) else ({}, "not a JSON object")


def _rank(path: Path) -> tuple[int | None, str | None, dict[str, int], dict[str, dict[str, Any]]]:
    """Rank by the first lora_A, 0 when one is empty; why the file cannot be read; columns of lora_A by module; outline."""
    look = weight_files.safetensors if path.suffix == ".safetensors" else weight_files.torch_written
    fault, tensors = look(path, set())
    if fault:
        return None, fault.text, {}, {}
    if path.suffix == ".safetensors" and not tensors:
        return None, "it holds no tensors", {}, {}
    if odd := _no_numbers(path, tensors):
        return None, odd, {}, {}
    shapes = {name: t.shape for name, t in tensors.items() if "lora_A" in name and len(t.shape) == 2}
    if not shapes:
        return None, None, {}, model_folder.outline(tensors)
    if any(0 in shape for shape in shapes.values()):
        return 0, None, {}, {}
    inputs = {name.partition(".lora_A")[0].rpartition(".")[2]: shape[1] for name, shape in shapes.items()}
    return next(iter(shapes.values()))[0], None, inputs, model_folder.outline(tensors)


_SAMPLED, _VALUES = 400, 16  # tensors that are looked into, and how many values of each
_WIDTH = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_LARGEST_EXPONENT = {"F64": 0x7FF << 52, "F32": 0xFF << 23, "F16": 0x1F << 10, "BF16": 0xFF << 7}


def _no_numbers(path: Path, tensors: dict[str, safetensors_header.Tensor]) -> str | None:
    """A tensor of LoRA that is of whole numbers, or begins with nothing but NaN: the loss is none from the first step on."""
    lora = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    for name, tensor in lora.items():
        if tensor.dtype in ("I64", "I32", "I16", "I8", "U8", "BOOL"):
            return f"{name} is of {tensor.dtype}; LoRA has floating-point numbers"
    if path.suffix != ".safetensors":
        return None
    try:
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            for name, tensor in list(lora.items())[:_SAMPLED]:
                width = _WIDTH.get(tensor.dtype)
                if width is None or not tensor.elements:
                    continue
                file.seek(start + tensor.data_offsets[0])
                held = file.read(width * min(_VALUES, tensor.elements))
                values = [int.from_bytes(held[at : at + width], "little") for at in range(0, len(held), width)]
                top = _LARGEST_EXPONENT[tensor.dtype]
                if values and all(value & top == top and value & ((top & -top) - 1) for value in values):
                    return f"{name} holds no numbers (NaN)"
    except OSError:
        return None
    return None


def checks_task(site: Iterable[Path]) -> bool:
    """Whether the installed peft compares task_type with those that it knows."""
    root = source_tree.package_root("peft", list(site))
    try:
        return root is not None and "Invalid task type" in (root / "config.py").read_text(encoding="utf-8")
    except OSError:
        return False


def known_fields(site: Iterable[Path]) -> list[str]:
    """Fields of the installed LoraConfig; none where it is not to be read, or passes over what it does not know."""
    root = source_tree.package_root("peft", list(site))
    if root is None:
        return []
    try:
        texts = [(root / name).read_text(encoding="utf-8") for name in ("config.py", "tuners/lora/config.py")]
    except OSError:
        return []
    if "Unexpected keyword arguments" in texts[0]:
        return []
    return sorted({name for text in texts for name in re.findall(r"^    (\w+): ", text, re.MULTILINE)})
