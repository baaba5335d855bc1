"""A model folder as transformers will read it: configuration, weights, tokenizer files; what is missing or damaged."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from doctor.recipe import expected_tensors, model_values, safetensors_header, weight_files
from doctor.recipe.safetensors_header import LFS_MARK, Tensor
from doctor.recipe.weight_files import MISSING, UNREADABLE, WeightFault

SAFE_INDEX = "model.safetensors.index.json"
SAFE_SINGLE = "model.safetensors"
BIN_INDEX = "pytorch_model.bin.index.json"
BIN_SINGLE = "pytorch_model.bin"
MOST_ADDED = 300  # added tokens kept as facts
LARGEST_JSON = 64 << 20  # bytes of an index or configuration

class Weights(msgspec.Struct, frozen=True):
    """`format`: safetensors, bin, gguf, consolidated or none. `files`: names, `bytes`: their sizes together.

    `parameters`: elements of all tensors where headers tell; `rows`: of the input embedding.
    """

    format: str
    files: list[str]
    bytes: int
    faults: list[WeightFault]
    index: str | None = None
    parameters: int | None = None
    rows: int | None = None
    dtypes: list[str] = []
    shapes: dict[str, int] = {}  # sizes that the configuration names too, see `_sizes`
    parts: list[str] = []  # of a layer: self_attn, mlp, input_layernorm …
    missing: list[str] = []  # tensors that the configuration calls for, in words, see expected_tensors
    differing: list[str] = []  # tensors of another shape than the configuration calls for, in words
    modules: list[str] = []  # last names of the modules that hold a matrix: q_proj, down_proj, lm_head …
    outline: dict[str, dict[str, Any]] = {}  # see `outline`
    unmarked: list[str] = []  # safetensors files whose metadata do not name the format pt


class Folder(msgspec.Struct, frozen=True):
    """What a folder holds. `config` is None where config.json is absent, `config_error` says why it cannot be read."""

    names: list[str]
    config: dict[str, Any] | None
    config_error: str | None
    weights: Weights
    tokenizer: dict[str, Any]
    leftovers: list[str]  # of interrupted downloads
    generation: str | None  # what is wrong with generation_config.json
    generation_refused: str | None  # what transformers refuses of it in every release
    adapter: bool  # it holds adapter_config.json
    adapter_base: str | None  # the model that the adapter was trained on, as adapter_config.json names it

    @property
    def complete(self) -> bool:
        usable = self.config is not None and self.weights.format in ("safetensors", "bin") and not self.weights.faults
        return usable and not self.tokenizer["missing"] and not self.tokenizer["pointers"]


def inspect(folder: Path) -> Folder:
    """Look at every file that loading will need. Raises OSError when the folder itself cannot be listed."""
    names = sorted(item.name for item in folder.iterdir())
    config, why = _json(folder / "config.json")
    return Folder(
        names=names[:500],
        config=config,
        config_error=why,
        weights=_weights(folder, names, config),
        generation=_generation(folder, model_values.generation_faults),
        generation_refused=_generation(folder, model_values.generation_refused),
        tokenizer=_tokenizer(folder, names),
        leftovers=[n for n in names if n.endswith((".incomplete", ".aria2", ".part", ".downloading", ".tmp"))][:20],
        adapter="adapter_config.json" in names,
        adapter_base=_text((_json(folder / "adapter_config.json")[0] or {}).get("base_model_name_or_path")),
    )


def _generation(folder: Path, faults: Callable[[Any], Iterator[str]]) -> str | None:
    """transformers goes on without a generation_config.json that is not JSON."""
    try:
        held = json.loads((folder / "generation_config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return "; ".join(faults(held)) or None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _json(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """A JSON object and None, or None and why not: `missing`, `git-lfs pointer`, or what is wrong with it."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            return None, f"larger than {LARGEST_JSON >> 20} MiB"
        raw = path.read_bytes()
    except FileNotFoundError:
        return None, MISSING
    except OSError as error:
        return None, f"{UNREADABLE} ({error.strerror})"
    if raw.startswith(LFS_MARK):
        return None, safetensors_header.POINTER
    try:
        value = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return None, f"not JSON ({error})" if raw.strip() else "empty"
    return (value, None) if isinstance(value, dict) else (None, "not a JSON object")


# -- weights ------------------------------------------------------------------------------------------------------------
def _weights(folder: Path, names: list[str], config: dict[str, Any] | None) -> Weights:
    """The weights that `from_pretrained` chooses: safetensors before bin, one file before an index."""
    for single, index, kind in ((SAFE_SINGLE, SAFE_INDEX, "safetensors"), (BIN_SINGLE, BIN_INDEX, "bin")):
        if single in names:
            return _checked(folder, [single], kind, None, {}, config)
        if index in names:
            return _indexed(folder, index, kind, config)
    shards = [n for n in names if re.fullmatch(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)", n)]
    if shards:
        kind = "safetensors" if shards[0].endswith("safetensors") else "bin"
        index = SAFE_INDEX if kind == "safetensors" else BIN_INDEX
        lacking = [WeightFault(index, MISSING, f"{len(shards)} shards are there, their index is not")]
        return Weights(kind, shards, _bytes(folder, shards), lacking, index)
    for kind, pattern in (("consolidated", r"consolidated.*\.(pth|safetensors)"), ("gguf", r".*\.gguf")):
        found = [n for n in names if re.fullmatch(pattern, n)]
        if found:
            return Weights(kind, found, _bytes(folder, found), [])
    return Weights("none", [], 0, [])


def _indexed(folder: Path, index: str, kind: str, model: dict[str, Any] | None) -> Weights:
    content, why = _json(folder / index)
    weight_map = content.get("weight_map") if content else None
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        return Weights(
            kind, [], 0, [WeightFault(index, why or UNREADABLE, f"the index {why or 'has no weight_map'}")], index
        )
    wanted: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        wanted.setdefault(Path(file).name, set()).add(tensor)
    return _checked(folder, sorted(wanted), kind, index, wanted, model)


def _checked(
    folder: Path,
    files: list[str],
    kind: str,
    index: str | None,
    wanted: dict[str, set[str]],
    model: dict[str, Any] | None,
) -> Weights:
    look = weight_files.safetensors if kind == "safetensors" else weight_files.torch_written
    with ThreadPoolExecutor(max_workers=8) as pool:  # network file systems answer each open after milliseconds
        looked = list(pool.map(lambda name: look(folder / name, wanted.get(name, set())), files))
    faults = [fault for fault, _ in looked if fault is not None]
    tensors = {name: tensor for _, found in looked for name, tensor in found.items()}
    counted = bool(tensors) and not faults and all(found for _, found in looked)
    missing, differing = expected_tensors.misfits(model, tensors) if counted else ([], [])
    return Weights(
        format=kind,
        files=files,
        bytes=_bytes(folder, files),
        faults=faults,
        index=index,
        parameters=sum(t.elements for t in tensors.values()) if counted else None,
        rows=_embedding_rows(tensors),
        dtypes=sorted({t.dtype for t in tensors.values()}),
        shapes=_sizes(tensors) if counted else {},
        missing=missing,
        differing=differing,
        outline=outline(tensors) if counted else {},
        unmarked=_unmarked(folder, files) if counted and kind == "safetensors" else [],
        parts=sorted({found[1] for name in tensors if (found := _PART_OF_LAYER.search(name))}),
        modules=sorted(
            {
                n.split(".")[-2]
                for n, t in tensors.items()
                if n.endswith(".weight") and len(t.shape) == 2 and "." in n[:-7]
            }
        ),
    )


def _unmarked(folder: Path, files: list[str]) -> list[str]:
    return [name for name in files if not safetensors_header.made_by_torch(folder / name)][:8]


def _bytes(folder: Path, files: list[str]) -> int:
    return sum((folder / name).stat().st_size for name in files if os.path.exists(folder / name))


_EMBEDDINGS = ("model.embed_tokens.weight", "transformer.wte.weight", "model.language_model.embed_tokens.weight",
               "language_model.model.embed_tokens.weight", "gpt_neox.embed_in.weight", "model.model.embed_tokens.weight",
               "transformer.word_embeddings.weight", "transformer.embedding.word_embeddings.weight")  # fmt: skip


def _embedding_rows(tensors: dict[str, Tensor]) -> int | None:
    found = next((tensors[name] for name in _EMBEDDINGS if name in tensors), None)
    return found.shape[0] if found and found.shape else None


MOST_NAMES = 400  # of an outline; above it the weights are of no ordinary model


def outline(tensors: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Name with a star for each number -> its different `shapes`, and `counts`: the highest of each number, and one."""
    found: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        numbers = [int(part) for part in parts if part.isdecimal() and len(part) < 6]
        starred = ".".join("*" if part.isdecimal() and len(part) < 6 else part for part in parts)
        held = found.setdefault(starred, {"shapes": [], "counts": [0] * len(numbers)})
        held["counts"] = [max(before, number + 1) for before, number in zip(held["counts"], numbers, strict=True)]
        if tensor.shape not in held["shapes"] and len(held["shapes"]) < 8:
            held["shapes"].append(list(tensor.shape))
        if len(found) > MOST_NAMES:
            return {}
    return found


_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")
_PART_OF_LAYER = re.compile(r"\.\d+\.([A-Za-z_]\w*)\.")
_PARTS = {"self_attn.q_proj": "queries", "self_attn.k_proj": "keys", "mlp.up_proj": "middle"}


def _sizes(tensors: dict[str, Tensor]) -> dict[str, int]:
    """Of weights named as Llama names them: layers, hidden (columns of q_proj), rows of q_proj, k_proj and up_proj."""
    found: dict[str, int] = {}
    for name, tensor in tensors.items():
        place = _LAYER.fullmatch(name)
        if place is None:
            continue
        found["layers"] = max(found.get("layers", 0), int(place[1]) + 1)
        part = _PARTS.get(place[2])
        if part and len(tensor.shape) == 2:
            found[part] = tensor.shape[0]
            if part == "queries":
                found["hidden"] = tensor.shape[1]
    return found


# -- tokenizer ----------------------------------------------------------------------------------------------------------
class _Added(msgspec.Struct):
    id: int
    content: str = ""


class _TokenizerFile(msgspec.Struct):
    version: str = "1.0"
    added_tokens: list[_Added] = []
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    post_processor: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None
    model: msgspec.Raw = msgspec.Raw(b"{}")


_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "tokenizer_config.json",
                    "special_tokens_map.json", "spiece.model", "vocab.txt")  # fmt: skip


def _tokenizer(folder: Path, names: list[str]) -> dict[str, Any]:
    """Facts of the tokenizer: files `missing`, git-lfs `pointers`, `class`, `special` tokens, `highest_id`, `error`s."""
    config, why = _json(folder / "tokenizer_config.json")
    present = [n for n in _TOKENIZER_FILES if n in names] + [n for n in names if n.endswith(".tiktoken")]
    loadable = {"tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt"} & set(present)
    loadable |= {n for n in present if n.endswith(".tiktoken")}
    missing: list[str] = []
    if not loadable:
        pair = ("vocab.json", "merges.txt")  # byte-level BPE without tokenizer.json needs both
        missing = [n for n in pair if n not in present] if set(pair) & set(present) else ["tokenizer.json"]
    pointers = [n for n in present if _starts_with_pointer(folder / n)]
    special = {k: _content(v) for k, v in (config or {}).items() if k.endswith("_token")}
    why = why or _config_fault(config or {})
    highest, added, error = _ids(folder / "tokenizer.json") if "tokenizer.json" in names else (None, [], None)
    return {
        "files": present,
        "missing": missing,
        "pointers": pointers,
        "config_error": None if why == MISSING else why,
        "broken": {n: fault for n in ("special_tokens_map.json", "added_tokens.json") if (fault := _fault(folder / n))},
        "class": (config or {}).get("tokenizer_class"),
        "auto_map": bool((config or {}).get("auto_map")),
        "chat_template": bool((config or {}).get("chat_template")) or "chat_template.jinja" in names,
        "special": {k: v for k, v in special.items() if isinstance(v, str)},
        "highest_id": highest,
        "added": added[:MOST_ADDED],
        "error": error,
    }


def _fault(path: Path) -> str | None:
    """Of special_tokens_map.json and added_tokens.json: not JSON, or a token that is no text, an id that is no number."""
    held, why = _json(path)
    if held is None:
        return None if why in (MISSING, safetensors_header.POINTER) else why
    if path.name == "added_tokens.json":
        odd = next((name for name, number in held.items() if not isinstance(number, int)), None)
        return f"the id of {odd!r} is no whole number" if odd is not None else None
    odd = next(
        (n for n, token in held.items() if n in _SPECIAL and not isinstance(_content(token), (str, type(None)))), None
    )
    return f"{odd} is {_content(held[odd])!r}; text is needed" if odd else None


def _config_fault(config: dict[str, Any]) -> str | None:
    """Values of tokenizer_config.json that no tokenizer is made from."""
    longest = config.get("model_max_length")
    if longest is not None and (not isinstance(longest, (int, float)) or isinstance(longest, bool)):
        return f"model_max_length is {longest!r}; a number is needed"
    added = config.get("added_tokens_decoder")
    if isinstance(added, dict) and (odd := next((key for key in added if not key.isdecimal()), None)) is not None:
        return f"added_tokens_decoder has {odd!r} where a token id is needed"
    more = config.get("additional_special_tokens")
    if more is not None and (not isinstance(more, list) or not all(isinstance(_content(one), str) for one in more)):
        return f"additional_special_tokens is {str(more)[:60]!r}; a list of text is needed"
    if config.get("truncation_side", "right") not in ("right", "left"):
        return f"truncation_side is {str(config['truncation_side'])[:40]!r}; right or left is needed"
    chat = config.get("chat_template")
    if isinstance(chat, list) and not all(isinstance(one, dict) and {"name", "template"} <= one.keys() for one in chat):
        return "chat_template is a list whose entries lack name and template"
    for name, token in config.items():
        content = _content(token)
        if name in _SPECIAL and content is not None and not isinstance(content, str):
            return f"{name} is {content!r}; text is needed"
    return None


_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MODELS = ("BPE", "WordPiece", "WordLevel", "Unigram")


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _starts_with_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_MARK)) == LFS_MARK
    except OSError:
        return False


def _ids(path: Path) -> tuple[int | None, list[str], str | None]:
    """The highest token id and the added tokens of a tokenizer.json, or None, [] and why it cannot be read."""
    try:
        raw = path.read_bytes()
        if raw.startswith(LFS_MARK):
            return None, [], None
        content = msgspec.json.decode(raw, type=_TokenizerFile)
        ids = [token.id for token in content.added_tokens]
        model = msgspec.json.decode(content.model, type=dict[str, msgspec.Raw])
        _known_parts(content, model)
        if "vocab" in model:
            vocab = msgspec.json.decode(model["vocab"])
            ids.append(max(vocab.values(), default=-1) if isinstance(vocab, dict) else len(vocab) - 1)
            if not isinstance(ids[-1], int):
                raise TypeError("an id of its vocabulary is no integer")
        return max(ids, default=None), [token.content for token in content.added_tokens], None
    except OSError as error:
        return None, [], f"{UNREADABLE} ({error.strerror})"
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, TypeError, RecursionError) as error:
        return None, [], f"not a tokenizer file ({error})"


_PRE_TOKENIZERS = ("BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Metaspace", "Whitespace", "WhitespaceSplit",
                   "Sequence", "Split", "Punctuation", "Digits", "UnicodeScripts", "FixedLength")  # fmt: skip


_PARTS_OF_TOKENIZER = {
    "pre_tokenizer": _PRE_TOKENIZERS,
    "normalizer": ("BertNormalizer", "Strip", "StripAccents", "NFC", "NFD", "NFKC", "NFKD", "Sequence", "Lowercase", "Nmt",
                   "Precompiled", "Replace", "Prepend", "ByteLevel"),
    "post_processor": ("RobertaProcessing", "BertProcessing", "ByteLevel", "TemplateProcessing", "Sequence"),
    "decoder": ("BPEDecoder", "ByteLevel", "WordPiece", "Metaspace", "CTC", "Sequence", "Replace", "Fuse", "Strip",
                "ByteFallback"),
}  # fmt: skip


def _known_parts(content: _TokenizerFile, model: dict[str, msgspec.Raw]) -> None:
    """What the library tokenizers does not know, or cannot do without, ends its loading. Raises TypeError."""
    if content.version != "1.0":
        raise TypeError(f"version {content.version}; tokenizers reads 1.0")
    kind = msgspec.json.decode(model["type"]) if "type" in model else None
    if "type" in model and kind not in _MODELS:
        raise TypeError(f"its model is of type {kind}; known are {', '.join(_MODELS)}")
    if model and "vocab" not in model:
        raise TypeError("its model has no vocab")
    if kind == "BPE" and "merges" not in model:
        raise TypeError("its model is BPE and has no merges")
    if kind == "Unigram" and model.get("vocab", msgspec.Raw(b"["))[:1] == b"{":  # type: ignore[index]
        raise TypeError("its model is Unigram, and the vocabulary is not that of one")
    for name, known in _PARTS_OF_TOKENIZER.items():
        parts = [getattr(content, name) or {}]
        parts += [
            p for inner in ("pretokenizers", "normalizers", "decoders", "processors") for p in parts[0].get(inner, [])
        ]
        for part in parts:
            if isinstance(part, dict) and "type" in part and part["type"] not in known:
                raise TypeError(f"its {name} {part['type']} is unknown")
