"""What the model's configuration asks of the installed transformers, of LLaMA-Factory and of the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from packaging.version import InvalidVersion, Version

from doctor.facts import Facts, Unknown
from doctor.findings import Evidence, Finding, found, in_recipe
from doctor.probes import Judgement
from doctor.recipe import (
    config_class,
    expected_tensors,
    model_content_judged,
    module_shapes,
    source_cache,
    source_tree,
    tokenizer_class,
    tokenizer_files,
    transformers_models,
)
from doctor.target import Target

ID = "architecture"
AFTER: tuple[str, ...] = ("recipe", "llamafactory", "packages", "model", "arguments")
SOURCE = f"probe:{ID}"
MOST = 12  # words of one kind that are kept
_FACTS = tuple(f"architecture.{name}" for name in ("type_known", "tokenizer_known", "config_misfits", "tensor_misfits",
                                                   "asks_architectures", "tokenizer_taken"))  # fmt: skip

_finding = partial(found, ID)

# LLaMA-Factory release -> newest transformers that its version check accepts (extras/misc.py of each release).
NEWEST_TRANSFORMERS = {"0.9.1": "4.46.1", "0.9.2": "4.49.0", "0.9.3": "4.52.4", "0.9.4": "4.57.1", "0.9.5": "5.6.0"}


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """Model types and tokenizer classes of the installed transformers, cut down to what this model asks for."""
    root = source_tree.package_root("transformers", target.site)
    if root is None:
        lacking = Unknown("transformers is not installed in the target")
        return dict.fromkeys(_FACTS, lacking)
    try:
        files = transformers_models.sources(root)
        known = source_cache.cached(
            "transformers_models", files, lambda: transformers_models.read(root), transformers_models.Known
        )
    except OSError as error:
        lacking = Unknown(f"the source of transformers cannot be read ({error.strerror})")
        return dict.fromkeys(_FACTS, lacking)
    kind = (facts.get("model.config") or {}).get("model_type")
    wanted = (facts.get("model.tokenizer") or {}).get("class")
    plain = str(wanted).removesuffix("Fast")
    package = facts.get("llamafactory.root")
    folder = _folder(facts) if facts.get("model.local") is not None else None
    described = Path(folder) / "tokenizer.json" if folder else None
    there = described if described is not None and described.is_file() else None
    return {
        "architecture.tokenizer_taken": msgspec.to_builtins(tokenizer_class.of(wanted, root, there)),
        "architecture.asks_architectures": bool(package)
        and model_content_judged.asks_architectures(Path(str(package))),
        "architecture.type_known": kind in known.model_types
        if kind
        else Unknown("the configuration names no model_type"),
        "architecture.tokenizer_known": wanted is None
        or {str(wanted), plain, f"{plain}Fast"} & set(known.tokenizers) != set(),
        **_by_source(facts, root),
    }


def _by_source(facts: Facts, transformers: Path) -> dict[str, Any]:
    """What the configuration class refuses, and tensors that the model class does not make, each in words."""
    config = facts.get("model.config") or {}
    kind = config.get("model_type")
    if not isinstance(kind, str) or config.get("auto_map"):
        return {"architecture.config_misfits": [], "architecture.tensor_misfits": []}
    known = config_class.read(transformers, kind)
    told = {
        "architecture.config_misfits": list(config_class.misfits(known, config))[:MOST],
        "architecture.tensor_misfits": [],
    }
    outline, folder = facts["model.weights"].get("outline"), config_class.folder_of(transformers, kind)
    roots = config.get("architectures")
    if not outline or folder is None or not known.defaults or not isinstance(roots, list) or not roots:
        return told
    if config.get("quantization_config") or kind in expected_tensors.FAMILIES:
        return told
    settings = {**known.defaults, **config}
    settings |= {name: settings[own] for name, own in known.renamed.items() if own in settings}
    try:
        source = (folder / f"modeling_{folder.name}.py").read_text(encoding="utf-8")
        renaming = transformers / "conversion_mapping.py"
        renamed = renaming.is_file() and f'"{kind}"' in renaming.read_text(encoding="utf-8")
        found = module_shapes.made(source, settings, str(roots[0]))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return told
    return told | {"architecture.tensor_misfits": list(module_shapes.misfits(found, outline, renamed))[:MOST]}


def _folder(facts: Facts) -> str | None:
    return facts["model.path"] if facts["model.local"] else facts.get("model.cached_path")


def model_type_known(facts: Facts) -> Iterator[Finding]:
    config = facts["model.config"]
    if facts["model.name"] is None or facts["architecture.type_known"]:
        return
    kind = str(config["model_type"])
    installed = facts["packages.versions"].get("transformers", "?")
    where = f"{_folder(facts) or facts['model.name']}/config.json"
    auto_map = config.get("auto_map")
    details: dict[str, Any] = {"model_type": kind, "has_auto_map": bool(auto_map)}
    if isinstance(auto_map, Mapping) and "AutoConfig" in auto_map:
        return  # its own code brings the type: trusts_own_code judges it
    written_by = str(config.get("transformers_version", ""))
    first = transformers_models.FIRST_RELEASE.get(kind)
    if first and _newer(first, installed):
        what = f"model_type {kind} came with transformers {first}; {installed} is installed"
        details |= _upgrade(facts, first)
        yield _finding("pkg-transformers-too-old-for-model", what, where, **details)
    elif not first and _newer(written_by, installed):
        what = f"model_type {kind} is unknown to transformers {installed}; the model was written by {written_by}"
        details |= _upgrade(facts, written_by)
        yield _finding("pkg-transformers-too-old-for-model", what, where, None, 0.8, **details)
    else:
        what = f"model_type {kind} is unknown to transformers {installed}, and the model brings no code of its own"
        yield _finding("model-arch-unsupported", what, where, **details)


def _upgrade(facts: Facts, first: str) -> dict[str, Any]:
    """The transformers to install where the installed LLaMA-Factory accepts it, else the LLaMA-Factory that does."""
    own = str(facts.get("llamafactory.version", "")).split(".dev")[0]
    newest = NEWEST_TRANSFORMERS.get(own)
    if newest and not _newer(first, newest):
        return {"transformers_for_model": f"transformers>={first},<={newest}"}
    fitting = next((release for release, limit in NEWEST_TRANSFORMERS.items() if not _newer(first, limit)), None)
    return {"llamafactory_requirement": f"llamafactory=={fitting}"} if fitting else {}


def _newer(one: str, other: str) -> bool:
    try:
        return Version(one) > Version(other)
    except InvalidVersion:
        return False


def trusts_own_code(facts: Facts) -> Iterator[Finding]:
    """Up to 0.9.1 LLaMA-Factory trusts a model's code always; later releases ask for the key `trust_remote_code`."""
    folder = _folder(facts)
    known = "trust_remote_code" in facts["arguments.fields"]
    if folder is None or not known or facts["recipe.values"].get("trust_remote_code") is True:
        return
    config, tokenizer = facts["model.config"], facts["model.tokenizer"]
    own_model = bool(config.get("auto_map")) and not facts["architecture.type_known"]
    own_tokenizer = tokenizer["auto_map"] and not facts["architecture.tokenizer_known"]
    if own_model or own_tokenizer:
        file = "config.json" if own_model else "tokenizer_config.json"
        what = f"{file} names code of the model's own (auto_map), and the recipe does not set trust_remote_code"
        details: dict[str, Any] = {"recipe_key_known": known, "model_path": folder}
        yield _finding("model-needs-trust-remote-code", what, f"{folder}/{file}", **details)


def tokenizer_class_fits(facts: Facts) -> Iterator[Finding]:
    folder, taken = _folder(facts), facts.get("architecture.tokenizer_taken") or {}
    if folder is None or not taken.get("refused") or facts["model.tokenizer"]["auto_map"]:
        return
    where = f"{folder}/tokenizer_config.json"
    details: dict[str, Any] = {
        "tokenizer_config": where,
        "model_path": folder,
        "class_name": facts["model.tokenizer"]["class"],
    }
    if "tokenizer.json" in facts["model.tokenizer"]["files"]:
        details["fitting_class"] = "PreTrainedTokenizerFast"
    yield _finding("tok-wrong-class", f"tokenizer_class {taken['refused']}", where, **details)


def tokenizer_class_known(facts: Facts) -> Iterator[Finding]:
    folder = _folder(facts)
    if folder is None or facts["architecture.tokenizer_known"] or facts["model.tokenizer"]["auto_map"]:
        return
    name = facts["model.tokenizer"]["class"]
    where = f"{folder}/tokenizer_config.json"
    details: dict[str, Any] = {"class_name": name, "tokenizer_config": where, "model_path": folder}
    installed = facts["packages.versions"].get("transformers", "?")
    taken = facts.get("architecture.tokenizer_taken") or {}
    if taken.get("falls_back") or taken.get("refused"):
        return  # what is wrong with it, if anything, is said by itself
    what = f"tokenizer_class {name} is unknown to transformers {installed}"
    if name in ("TokenizersBackend", "SentencePieceBackend", "PythonBackend"):
        if name == "TokenizersBackend" and "tokenizer.json" in facts["model.tokenizer"]["files"]:
            details["fitting_class"] = "PreTrainedTokenizerFast"
        yield _finding("tok-saved-by-newer-transformers", what, where, **details)
    else:
        if "tokenizer.json" in facts["model.tokenizer"]["files"]:
            details["fitting_class"] = "PreTrainedTokenizerFast"
        yield _finding("tok-wrong-class", what, where, None, 0.8, **details)


def reader_of_tokenizer(facts: Facts) -> Iterator[Finding]:
    """Only a SentencePiece model and no tokenizer.json: the package sentencepiece has to read it."""
    folder = _folder(facts)
    if folder is None:
        return
    files = set(facts["model.tokenizer"]["files"])
    if (
        "tokenizer.model" in files
        and "tokenizer.json" not in files
        and "sentencepiece" not in facts["packages.versions"]
    ):
        what = "the tokenizer is a SentencePiece model and the package sentencepiece is not installed"
        yield _finding("tok-sentencepiece-missing", what, f"{folder}/tokenizer.model", model_path=folder)


def rope_scaling_known(facts: Facts) -> Iterator[Finding]:
    scaling = facts["model.config"].get("rope_scaling")
    installed = facts["packages.versions"].get("transformers", "0")
    if isinstance(scaling, Mapping) and scaling.get("rope_type") == "llama3" and _newer("4.43.0", installed):
        what = f"rope_scaling of type llama3 came with transformers 4.43.0; {installed} is installed"
        where = f"{_folder(facts) or facts['model.name']}/config.json"
        yield _finding("pkg-rope-scaling-too-old", what, where, requirement="transformers>=4.43.1")


def quantised_model_fits(facts: Facts) -> Iterator[Finding]:
    """A model that is quantised already, and stays so, trains with LoRA only, and not under ZeRO-3."""
    config = facts["model.config"].get("quantization_config")
    values = facts["recipe.values"]
    if not isinstance(config, Mapping) or not values.get("do_train"):
        return
    method = str(config.get("quant_method", "quantised"))
    if method in (facts.get("arguments.dequantised") or ()):
        return
    where = f"{_folder(facts) or facts['model.name']}/config.json"
    how = values.get("finetuning_type", "lora")
    if how not in ("lora", "oft"):
        what = f"the model is quantised ({method}) and finetuning_type is {how}"
        details = {"quant_method": method, "ptq_quantised": True, "quantization_bit": "quantization_bit" in values}
        yield Finding(
            "quant-no-adapter",
            (Evidence(what, where), Evidence(f"finetuning_type: {how}", in_recipe(facts, "finetuning_type"))),
            source=SOURCE,
            details=details,
        )
    zero = (facts.get("deepspeed.config") or {}).get("zero_optimization")
    if isinstance(zero, Mapping) and zero.get("stage") == 3:
        what = f"the model is quantised ({method}), which LLaMA-Factory refuses under ZeRO-3"
        yield _finding("ds-zero3-quantized", what, where, quant_method=method, ptq_quantised=True)


# quant_method of a checkpoint -> packages of which one must be there to read it, and the detail that chooses the fix.
_READERS = {"gptq": (("auto-gptq", "gptqmodel"), "gptq_model"), "awq": (("autoawq", "gptqmodel"), "awq_model"),
            "bitsandbytes": (("bitsandbytes",), "quantization_bit"), "hqq": (("hqq",), "hqq_model"),
            "eetq": (("eetq",), "eetq_model"), "aqlm": (("aqlm",), "aqlm_model"), "vptq": (("vptq",), "vptq_model"),
            "compressed-tensors": (("compressed-tensors",), "compressed_model"),
            "torchao": (("torchao",), "torchao_model"), "quanto": (("optimum-quanto", "quanto"), "quanto_model"),
            "quark": (("amd-quark",), "quark_model"), "auto-round": (("auto-round",), "auto_round_model"),
            "spqr": (("spqr-quant",), "spqr_model")}  # fmt: skip
# Methods that transformers reads itself, or with packages of their makers (quantizers/auto.py).
_OTHER_METHODS = ("fbgemm_fp8", "bitnet", "higgs", "fp8", "finegrained_fp8", "mxfp4", "fp_quant", "sinq", "metal")


def quantised_model_readable(facts: Facts) -> Iterator[Finding]:
    config = facts["model.config"].get("quantization_config")
    method = str(config.get("quant_method")) if isinstance(config, Mapping) else ""
    packages, detail = _READERS.get(method, ((), ""))
    if isinstance(config, Mapping) and method not in _READERS and method not in _OTHER_METHODS:
        named = method if config.get("quant_method") else "no method (quant_method)"
        what = f"quantization_config names {named}; transformers knows {', '.join([*_READERS, *_OTHER_METHODS])}"
        where = f"{_folder(facts) or facts['model.name']}/config.json"
        yield _finding("quant-unsupported-combo", what, where, quant_method=method)
    if packages and not set(packages) & set(facts["packages.versions"]):
        what = f"the model is quantised with {method}, and {' or '.join(packages)} is not installed"
        where = f"{_folder(facts) or facts['model.name']}/config.json"
        details: dict[str, Any] = {detail: True, "package": packages[0]}
        yield _finding("quant-backend-missing", what, where, **details)


def own_code_there(facts: Facts) -> Iterator[Finding]:
    """A file that auto_map names, where the model's code will be run: always up to 0.9.1, later when it is trusted."""
    folder = _folder(facts)
    asks = "trust_remote_code" in facts["arguments.fields"]
    if folder is None or (asks and not facts["recipe.values"].get("trust_remote_code")):
        return
    named = {"config.json": _own_code(facts["model.config"].get("auto_map"))}
    named["tokenizer_config.json"] = facts["model.tokenizer"].get("own_code") or []
    for file, code in named.items():
        absent = sorted(set(code) - set(facts["model.files"]))
        if absent and len(facts["model.files"]) < 200:
            what = f"auto_map of {file} names {', '.join(absent)}, which is not in the folder"
            details: dict[str, Any] = {"path": folder, "model_path": folder, "files": absent, "missing": absent}
            yield _finding("model-incomplete-download", what, f"{folder}/{file}", **details)


def _own_code(auto_map: Any) -> list[str]:
    return tokenizer_files.own_code(auto_map) if isinstance(auto_map, Mapping) else []


_ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")


def attention_of_config(facts: Facts) -> Iterator[Finding]:
    """An attention that config.json asks for counts where the recipe leaves the choice open."""
    config, folder = facts["model.config"], _folder(facts)
    asked = config.get("_attn_implementation", config.get("attn_implementation"))
    chosen = facts["recipe.values"].get("flash_attn", "auto")
    if asked == "flash_attention_2" and chosen == "auto" and "flash-attn" not in facts["packages.versions"]:
        what = (
            "config.json asks for flash_attention_2, the recipe chooses no attention, and flash-attn is not installed"
        )
        yield _finding("attn-flash-missing", what, f"{folder or facts['model.name']}/config.json")
    named = isinstance(asked, str) and not set(asked) & {"/", "|"}  # a kernel of the hub, a variant
    if named and asked not in _ATTENTIONS and chosen == "auto" and folder is not None:
        where = f"{folder}/config.json"
        what = f"config.json: it asks for the attention {asked}; known are {', '.join(_ATTENTIONS)}"
        details: dict[str, Any] = {"path": folder, "model_path": folder, "file": where, "value_wrong": True}
        yield _finding("model-config-invalid-json", what, where, **details)


def config_fits_class(facts: Facts) -> Iterator[Finding]:
    """A strict configuration class refuses what has another type, before anything is loaded."""
    folder, misfits = _folder(facts), facts["architecture.config_misfits"]
    if folder is not None and misfits:
        where = f"{folder}/config.json"
        details: dict[str, Any] = {"path": folder, "model_path": folder, "file": where, "value_wrong": True}
        yield _finding("model-config-invalid-json", f"config.json: {'; '.join(misfits[:4])}", where, **details)


def tensors_fit_class(facts: Facts) -> Iterator[Finding]:
    """Of families that `expected_tensors` does not list: by the source of the model class."""
    folder, misfits = _folder(facts), facts["architecture.tensor_misfits"]
    if folder is None or not misfits or not facts["model.local"] or facts["recipe.values"].get("train_from_scratch"):
        return
    what = "; ".join(misfits[:4]) + (f" (and {len(misfits) - 4} more)" if len(misfits) > 4 else "")
    details: dict[str, Any] = {"model_path": folder, "file": f"{folder}/config.json"}
    yield _finding("model-config-weights-mismatch", what, f"{folder}/config.json", **details)


def lora_targets_exist(facts: Facts) -> Iterator[Finding]:
    values = facts["recipe.values"]
    if facts.get("model.path") is None or values.get("finetuning_type", "lora") != "lora":
        return
    given = values.get("lora_target", "all")
    targets = (
        [t.strip() for t in given.split(",")]
        if isinstance(given, str)
        else list(map(str, given))
        if isinstance(given, list)
        else []
    )
    modules = facts["model.weights"]["modules"]
    plain = [t for t in targets if "." not in t]  # a dotted path is left to PEFT; in a list it reads no patterns
    if not modules or not any(plain) or plain != targets or "all" in targets or set(targets) & set(modules):
        return
    what = f"none of lora_target ({', '.join(targets)}) is a module of the model; it has {', '.join(modules[:15])}"
    attention = [m for m in modules if m in _ATTENTION]
    details: dict[str, Any] = {"lora_target": targets, "modules": modules[:50]}
    if attention:
        details["attention_modules"] = ",".join(attention)
    yield _finding("peft-target-modules-missing", what, in_recipe(facts, "lora_target"), **details)


_ATTENTION = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "qkv_proj",
    "W_pack",
    "query_key_value",
    "c_attn",
    "wqkv",
    "dense",
)

JUDGEMENTS: tuple[Judgement, ...] = (
    model_type_known, trusts_own_code, tokenizer_class_known, tokenizer_class_fits, reader_of_tokenizer, rope_scaling_known,
    quantised_model_fits, quantised_model_readable, own_code_there, attention_of_config,
    config_fits_class, tensors_fit_class, lora_targets_exist, *model_content_judged.ALL,
)  # fmt: skip
