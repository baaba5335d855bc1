"""Chat templates of the installed LLaMA-Factory and which models it gives them to; templates of other releases and forks."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from doctor import syntax
from doctor.recipe import conversion, source_cache


class Template(msgspec.Struct, frozen=True):
    """What a template asks of a tokenizer. `end`: the token that ends an answer where the template replaces it.

    `plugin`: what takes its media; `media`: the token of each kind that it takes, of images, videos and audios.
    """

    end: str | None = None
    multimodal: bool = False
    plugin: str | None = None
    media: dict[str, str] = {}


class Source(msgspec.Struct, frozen=True):
    """`templates` by name; `models`: hub id -> template of its group, chat models only.

    `needs_processor`: a template for images is refused with a model that has no processor. `counts_all`: marks of media
    that a template does not take are counted, too.
    """

    templates: dict[str, Template]
    models: dict[str, str]
    needs_processor: bool
    counts_all: bool = False


class Relative(msgspec.Struct, frozen=True):
    """The template of an installed release that builds the same turns as one which it lacks, and what differs."""

    template: str
    differences: tuple[str, ...] = ()


# Templates of forks, and names that people take from model names. Sources: data/template.py of the SkyThought fork
# (skythought/train/LLaMA-Factory) and of LLaMA-Factory 0.8.3 to 0.9.5.
SAME_TURNS = {
    "qwen25": Relative(
        "qwen",
        (
            "qwen25 ends an answer with <|endoftext|>, qwen with <|im_end|> (the end token of the Instruct models)",
            "qwen25 has the default system prompt of Qwen2.5; it counts only for records without one",
        ),
    ),
    "qwen2": Relative("qwen"),
    "qwen2.5": Relative("qwen"),
    "qwen2_5": Relative("qwen"),
    "qwen-2.5": Relative("qwen"),
    "llama3.1": Relative("llama3"),
    "llama3_1": Relative("llama3"),
    "llama-3": Relative("llama3"),
    "llama3.2": Relative("llama3"),
    "llama3.3": Relative("llama3"),
    "qwen2.5_vl": Relative("qwen2_vl"),
    "qwen2_5_vl": Relative("qwen2_vl"),
    "qwen25_vl": Relative("qwen2_vl"),
    "deepseek_r1": Relative("deepseekr1"),
    "vanilla": Relative("empty"),
}

# Template of the instruction-tuned models of a model_type, where all of them share one.
OF_TYPE = {
    "qwen2": "qwen", "qwen2_moe": "qwen", "qwen2_vl": "qwen2_vl", "qwen2_5_vl": "qwen2_vl", "qwen3": "qwen3",
    "qwen3_moe": "qwen3", "gemma": "gemma", "gemma2": "gemma", "gemma3_text": "gemma", "gemma3": "gemma3",
    "glm4": "glm4", "phi3": "phi", "mllama": "mllama", "llama4": "llama4", "gpt_oss": "gpt_oss",
}  # fmt: skip

# What takes the media of a model_type; types that several templates share (llava) are left out.
PLUGIN_OF_TYPE = {
    "qwen2_vl": "qwen2_vl", "qwen2_5_vl": "qwen2_vl", "qwen3_vl": "qwen3_vl", "qwen3_vl_moe": "qwen3_vl",
    "qwen2_audio": "qwen2_audio", "gemma3": "gemma3", "mllama": "mllama", "llama4": "llama4", "llava_next": "llava_next",
    "paligemma": "paligemma", "glm4v": "glm4v", "internvl": "intern_vl",
}  # fmt: skip

# First release of LLaMA-Factory that has the template (compared from 0.8.3 to 0.9.5).
FIRST_RELEASE = {
    name: release
    for release, names in {
        "0.9.0": "cpm3 llava paligemma qwen2_vl sailor",
        "0.9.1": "exaone index llava_next llava_next_llama3 llava_next_mistral llava_next_qwen llava_next_video "
        "llava_next_yi mllama opencoder phi_small pixtral video_llava",
        "0.9.2": "bailing deepseek3 granite3 marco minicpm_o minicpm_v ministral mistral_small moonlight paligemma_chat "
        "phi4 qwen2_audio skywork_o1 telechat2",
        "0.9.3": "cpm4 deepseekr1 gemma3 glmz1 granite3_vision hunyuan intern_vl kimi_vl llama4 mimo mimo_vl qwen2_omni "
        "qwen3 seed_coder smollm smollm2",
        "0.9.4": "bailing_v2 dots_ocr ernie ernie_nothink ernie_vl falcon_h1 gemma2 gemma3n glm4_5v glm4_moe glm4v "
        "gpt_oss granite4 intern_s1 keye_vl mimo_v2 minimax1 minimax2 ministral3 qwen3_nothink qwen3_omni "
        "qwen3_omni_nothink qwen3_vl qwen3_vl_nothink seed_oss",
        "0.9.5": "aeva gemma4 gemma4n glm4_7 glm_ocr hunyuan_small hy3 lfm2 lfm2_vl minicpm_v_4_6 phi4_mini qwen3_5 "
        "qwen3_5_nothink qwen3_6 youtu youtu_vl",
    }.items()
    for name in names.split()
}


MEDIA = tuple(conversion.MARKS)
_CONSTANTS = Path("extras") / "constants.py"  # the table of models; a fork may have thinned it out


def read(package: Path) -> Source:
    """Raises OSError, SyntaxError when the package's source cannot be read."""
    plugins = package / "data" / "mm_plugin.py"
    written = plugins.read_text(encoding="utf-8") if plugins.is_file() else ""
    refused, counted = "Processor was not found" in written, "def _validate_messages" in written
    return Source(_templates(package), _models(package), refused, counted)


def cached(package: Path) -> Source:
    """`read`, kept between runs. Raises OSError, SyntaxError when data/template.py is missing or a source is broken."""
    files = [package / "data" / "template.py", *filter(Path.is_file, [package / _CONSTANTS])]
    return source_cache.cached("templates", files, lambda: read(package), Source)


def _templates(package: Path) -> dict[str, Template]:
    found = {}
    for given in _calls(package / "data" / "template.py", ("register_template", "_register_template")):
        name = given.get("name")
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            words = _literal(given.get("stop_words")) or []
            replaces = bool(_literal(given.get("replace_eos")))
            end = words[0] if replaces and words and isinstance(words[0], str) else None
            found[name.value] = Template(end, "mm_plugin" in given, *_plugin(given.get("mm_plugin")))
    return found


def _plugin(node: ast.expr | None) -> tuple[str | None, dict[str, str]]:
    """The name that `get_mm_plugin` is called with, and the tokens that it is given."""
    if not isinstance(node, ast.Call):
        return None, {}
    given = {k.arg: _literal(k.value) for k in node.keywords if k.arg}
    name = given.get("name") or (_literal(node.args[0]) if node.args else None)
    media = {kind: str(token) for kind in MEDIA if (token := given.get(f"{kind[:-1]}_token"))}
    return (name if isinstance(name, str) else None), media


def _models(package: Path) -> dict[str, str]:
    """Hub ids of chat models -> the template that the release's own model table gives them."""
    found: dict[str, str] = {}
    table = package / _CONSTANTS
    for given in _calls(table, ("register_model_group",)) if table.is_file() else ():
        template = _literal(given.get("template"))
        models = given.get("models")
        if not isinstance(template, str) or not isinstance(models, ast.Dict):
            continue
        multimodal = bool(_literal(given.get("multimodal")) or _literal(given.get("vision")))
        for key, value in zip(models.keys, models.values, strict=True):
            label = _literal(key)
            chat = multimodal or re.search(r"-(Chat|Distill|Instruct|Thinking)\b", str(label))
            if chat and isinstance(value, ast.Dict):
                found |= {repo: template for v in value.values if isinstance(repo := _literal(v), str)}
    return found


def _calls(path: Path, names: Sequence[str]) -> list[dict[str, ast.expr]]:
    tree = syntax.tree(path.read_text(encoding="utf-8"), filename=str(path))
    statements = [n.value for n in tree.body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)]
    return [
        {k.arg: k.value for k in call.keywords if k.arg}
        for call in statements
        if isinstance(call.func, ast.Name) and call.func.id in names
    ]


def _literal(node: ast.expr | None) -> Any:
    """The value of a literal expression, None for anything else."""
    try:
        return ast.literal_eval(node) if node is not None else None
    except (ValueError, TypeError, SyntaxError):
        return None


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The installed template whose name is most like the given one."""
    plain = {re.sub(r"[^a-z0-9]", "", k.lower()): k for k in reversed(known)}
    wanted = re.sub(r"[^a-z0-9]", "", name.lower())
    if wanted in plain:
        return plain[wanted]
    found = difflib.get_close_matches(wanted, list(plain), n=1, cutoff=0.7)
    return plain[found[0]] if found else None
