"""What the installed LLaMA-Factory's data loader knows, read from its source: keys, columns, tags, formats, file types.

`data/parser.py` holds the attributes of an entry, `data/converter.py` (0.9.2 and later) or `data/aligner.py` (before)
the formats, `extras/constants.py` the file types.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import msgspec

from doctor import syntax


class DatasetRules(msgspec.Struct, frozen=True):
    """How one release reads an entry of dataset_info.json.

    `defaults`: attribute -> default of an entry's attributes, columns and tags. `keys`: what an entry may hold.
    `formats`: values of `formatting`. `strict_format`: an unknown format is refused (older releases read it as
    sharegpt). `unknown_role_fails`: a role outside the tags ends the run with a KeyError (later releases drop the
    record). `file_types`: extension -> loader.
    """

    defaults: dict[str, Any]
    columns: tuple[str, ...]
    tags: tuple[str, ...]
    keys: tuple[str, ...]
    formats: tuple[str, ...]
    strict_format: bool
    unknown_role_fails: bool
    file_types: dict[str, str]
    media_folder: str = "media_dir"  # the recipe key that names the folder of images
    tags_only_of_sharegpt: bool = False  # entries of another form, also an unknown one, keep the default tags
    tools_described: bool = False  # the templates' tools are written out from their parameters, as early releases do
    calls_after_thought: bool = False  # a function turn may hold a thought before its call, or tags around it


# 0.9.1's, for a target in which no LLaMA-Factory is found: every later release knows these too.
FALLBACK = DatasetRules(
    defaults={
        "formatting": "alpaca", "ranking": False, "subset": None, "split": "train", "folder": None, "num_samples": None,
        "system": None, "tools": None, "images": None, "videos": None, "chosen": None, "rejected": None,
        "kto_tag": None, "prompt": "instruction", "query": "input", "response": "output", "history": None,
        "messages": "conversations", "role_tag": "from", "content_tag": "value", "user_tag": "human",
        "assistant_tag": "gpt", "observation_tag": "observation", "function_tag": "function_call",
        "system_tag": "system",
    },
    columns=("system", "tools", "images", "videos", "chosen", "rejected", "kto_tag", "prompt", "query", "response",
             "history", "messages"),
    tags=("role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag"),
    keys=("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "formatting", "ranking", "subset",
          "split", "folder", "num_samples", "columns", "tags"),
    formats=("alpaca", "sharegpt"),
    strict_format=False,
    unknown_role_fails=True,
    file_types={"arrow": "arrow", "csv": "csv", "json": "json", "jsonl": "json", "parquet": "parquet", "txt": "text"},
)  # fmt: skip

_SOURCES = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


def read(package: Path) -> DatasetRules:
    """The rules of the LLaMA-Factory at `package`. Raises OSError, SyntaxError when its source cannot be read."""
    parser = _tree(package / "data" / "parser.py")
    defaults = _attribute_defaults(parser)
    if not defaults:
        return FALLBACK
    columns = _listed(parser, "column_name")
    tags = _listed(parser, "tag_name")
    spoken = {n.value for n in ast.walk(parser) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    own = [name for name in defaults if name not in (*columns, *tags, "load_from", "dataset_name")]
    formats, strict = _formats(package, parser)
    return DatasetRules(
        defaults=defaults,
        columns=tuple(columns),
        tags=tuple(tags),
        keys=tuple(dict.fromkeys([s for s in _SOURCES if s in spoken] + own + ["columns", "tags"])),
        formats=formats,
        strict_format=strict,
        unknown_role_fails=not _stops_at_unknown_role(package),
        file_types=_file_types(package) or FALLBACK.file_types,
        tags_only_of_sharegpt=_names(package / "data" / "parser.py", 'formatting == "sharegpt" and "tags" in'),
        tools_described=_one_tool_format(package),
        calls_after_thought=_names(package / "data" / "formatter.py", "tool_call_words"),
        media_folder="media_dir" if _names(package / "hparams" / "data_args.py", "media_dir") else "image_dir",
    )


def _tree(path: Path) -> ast.Module:
    return syntax.tree(path.read_text(encoding="utf-8"), filename=str(path))


def _names(path: Path, word: str) -> bool:
    return path.is_file() and word in path.read_text(encoding="utf-8")


def _one_tool_format(package: Path) -> bool:
    """Whether nearly all templates use one form for tools: later releases have a dozen, most of which dump the JSON."""
    path = package / "data" / "tool_utils.py"
    if not path.is_file():
        return False
    return len(re.findall(r'^    "[\w.-]+": \w+\(\),?$', path.read_text(encoding="utf-8"), re.MULTILINE)) <= 3


def _attribute_defaults(parser: ast.Module) -> dict[str, Any]:
    attributes = next((n for n in parser.body if isinstance(n, ast.ClassDef) and n.name == "DatasetAttr"), None)
    found = {}
    for node in attributes.body if attributes else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node.value.value if isinstance(node.value, ast.Constant) else None
    return found


def _listed(parser: ast.Module, variable: str) -> list[str]:
    """Strings of the lists that are assigned, added or passed to `extend` of a variable called `<variable>s`."""
    found: list[str] = []
    for node in ast.walk(parser):
        if isinstance(node, ast.Assign):
            targets, value = [ast.unparse(t) for t in node.targets], node.value
        elif isinstance(node, ast.AugAssign):
            targets, value = [ast.unparse(node.target)], node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "extend":
            targets, value = [ast.unparse(node.func.value)], node.args[0]
        else:
            continue
        if f"{variable}s" in targets and isinstance(value, (ast.List, ast.Tuple)):
            found += [e.value for e in value.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)]
    return found


def _converter(package: Path) -> Path:
    newer = package / "data" / "converter.py"
    return newer if newer.is_file() else package / "data" / "aligner.py"


def _formats(package: Path, parser: ast.Module) -> tuple[tuple[str, ...], bool]:
    """Formats, and whether others are refused: by the registry of converters, else by the annotation of `formatting`."""
    for node in _tree(_converter(package)).body:
        named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DATASET_CONVERTERS"
        if named and isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            return tuple(str(k.value) for k in node.value.keys if isinstance(k, ast.Constant)), True
    for annotated in ast.walk(parser):
        if isinstance(annotated, ast.AnnAssign) and ast.unparse(annotated.target) == "formatting":
            said = [n.value for n in ast.walk(annotated.annotation) if isinstance(n, ast.Constant)]
            return tuple(str(s) for s in said) or FALLBACK.formats, False
    return FALLBACK.formats, False


def _stops_at_unknown_role(package: Path) -> bool:
    """Whether the sharegpt converter leaves its loop at a role that does not fit, before it looks the role up."""
    for node in _tree(_converter(package)).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and "sharegpt" in node.name.lower():
            return any(isinstance(inner, ast.Break) for inner in ast.walk(node))
    return False


def _file_types(package: Path) -> dict[str, str]:
    """Read as text: the module holds thousands of model names, which would be parsed for nothing."""
    source = (package / "extras" / "constants.py").read_text(encoding="utf-8")
    found = re.search(r"^FILEEXT2TYPE\s*=\s*(\{.*?\})", source, re.M | re.S)
    return dict(syntax.literal(found[1])) if found else {}
