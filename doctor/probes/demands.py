"""What the source of the installed LLaMA-Factory asks for after its argument checks: the trl of PPO, the transformers of
shifted attention, shards of a stream, experts that it marks for ZeRO-3. Read as text and syntax trees, never imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from doctor import syntax
from doctor.facts import Facts, Unknown
from doctor.findings import Finding, Severity, found, in_recipe
from doctor.probes import Judgement
from doctor.probes.deepspeed import stage
from doctor.probes.packages import version_of
from doctor.recipe import source_tree
from doctor.target import Target

ID = "demands"
AFTER: tuple[str, ...] = ("recipe", "llamafactory")

_finding = partial(found, ID)

_ASKED = re.compile(r"(?:require|check)_version\(\s*\"([^\"]+)\"")
# Recipe key, the value that leads to a file, the file, and the package that it asks for.
_LATER = (("stage", "ppo", "train/ppo/trainer.py", "trl"),
          ("shift_attn", True, "model/model_utils/longlora.py", "transformers"))  # fmt: skip
# Model types that shift_attn changes (SUPPORTED_CLASS_FOR_S2ATTN of extras/constants.py).
_SHIFTED = ("llama",)
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_BY_WORKERS = "num_shards=training_args.dataloader_num_workers"


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`demands.versions`: {requirement, key, file} for the values of this recipe; `demands.shards_by_workers`: a streamed
    file is cut into as many shards as there are workers; `demands.leaf_types`: model types whose experts are marked;
    `demands.adds_image`: a batch without an image gets one."""
    root = facts.get("llamafactory.root")
    if root is None:
        lacking = Unknown("LLaMA-Factory is not installed in the target")
        return {f"demands.{name}": lacking for name in ("versions", "shards_by_workers", "leaf_types", "adds_image")}
    package, values = Path(str(root)), facts["recipe.values"]
    asked = [
        {"requirement": requirement, "key": key, "file": f"{package.name}/{file}"}
        for key, value, file, name in _LATER
        if values.get(key) == value
        for requirement in _ASKED.findall(source_tree.text(package / file))
        if requirement.startswith(name)
    ]
    return {
        "demands.versions": asked,
        "demands.shards_by_workers": _BY_WORKERS in source_tree.text(package / "data" / "loader.py"),
        "demands.adds_image": "fake_input_ids" in source_tree.text(package / "data" / "collator.py"),
        "demands.leaf_types": _leaf_types(source_tree.text(package / "model" / "model_utils" / "moe.py")),
    }


def _leaf_types(source: str) -> list[str]:
    """The texts in add_z3_leaf_module, the model types that it compares with among them; empty where there is none."""
    try:
        tree = syntax.tree(source)
    except (SyntaxError, ValueError):
        return []
    marks = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "add_z3_leaf_module"), None)
    texts = (n.value for n in ast.walk(marks or ast.Module([], [])) if isinstance(n, ast.Constant))
    return sorted({text for text in texts if isinstance(text, str)})


def versions_of_use(facts: Facts) -> Iterator[Finding]:
    """A version that one stage or key asks for, which DISABLE_VERSION_CHECK does not silence."""
    for need in facts["demands.versions"]:
        try:
            wanted = Requirement(need["requirement"])
        except InvalidRequirement:
            continue
        have, key = version_of(facts, canonicalize_name(wanted.name)), need["key"]
        if key == "shift_attn" and (facts.get("model.config") or {}).get("model_type") not in _SHIFTED:
            continue
        if not have or wanted.specifier.contains(have, prereleases=True):
            continue
        given = facts["recipe.values"][key]
        release = facts.get("llamafactory.version", "")
        what = f"{key}: {str(given).lower()} of LLaMA-Factory {release} takes {wanted} only, {have} is installed"
        details: dict[str, Any] = {"package": wanted.name, "found": str(have), "key": key, "for_ppo": given == "ppo"}
        cause = "pkg-trl-mismatch" if wanted.name == "trl" else "pkg-version-out-of-range"
        yield _finding(cause, what, in_recipe(facts, key), **details)


def stream_has_shards(facts: Facts) -> Iterator[Finding]:
    """From 0.9.2 on: a local file is cut into dataloader_num_workers shards, which are none by default."""
    values, key = facts["recipe.values"], "dataloader_num_workers"
    workers = values.get(key, 0)
    if not facts["demands.shards_by_workers"] or values.get("streaming") is not True or type(workers) is not int:
        return
    entries: dict[str, Any] = facts.get("dataset.entries") or {}
    local = [name for name, entry in entries.items() if entry.get("files")]
    if not local:
        return
    if workers == 0:
        what = f"streaming: a local file ({', '.join(local)}) is cut into {key} shards, and {key} is 0: nothing is read"
        yield _finding("data-streaming-workers", what, in_recipe(facts, key if key in values else "streaming"))
        return
    for name in local:
        scan = (facts.get("records.scans") or {}).get(name)
        if scan and scan["complete"] and scan["read"] < workers:
            what = f'streaming: "{name}" has {scan["read"]} records, which cannot be cut into {workers} shards ({key})'
            yield _finding("data-streaming-workers", what, in_recipe(facts, key), fewer_rows_than_workers=True)


def _ranks_share_weights(facts: Facts) -> bool:
    """ZeRO-3 with more than one rank: what one gathers all must gather."""
    several = (facts.get("launch.world_size") or 1) > 1
    return several and facts["deepspeed.config_path"] is not None and stage(facts) == 3


def experts_are_leaves(facts: Facts) -> Iterator[Finding]:
    """Under ZeRO-3 ranks that use different experts wait for each other's weights, unless the block is gathered whole.

    transformers 5 keeps all experts of a block in one parameter, which every rank uses."""
    if not _ranks_share_weights(facts):
        return
    config, transformers = facts["model.config"] or {}, version_of(facts, "transformers")
    inner = config.get("text_config")
    nested: dict[str, Any] = inner if isinstance(inner, dict) else {}
    experts = next((n for c in (config, nested) for k in _EXPERTS if type(n := c.get(k)) is int and n > 1), 0)
    types = {str(c.get("model_type")) for c in (config, nested) if c.get("model_type")}
    if not experts or not transformers or transformers >= Version("5"):
        return
    if not types & set(facts["demands.leaf_types"]):
        release = facts["llamafactory.version"]
        what = f"{config.get('model_type')} has {experts} experts, and LLaMA-Factory {release} does not mark its blocks"
        what += " for ZeRO-3: ranks that use different experts wait for each other"
        yield _finding("ds-zero3-moe-hang", what, facts["deepspeed.config_path"], Severity.WARNING)


def every_batch_has_an_image(facts: Facts) -> Iterator[Finding]:
    """Under ZeRO-3 a rank whose batch has no image never asks for the vision tower that the others gather. 0.9.2 and newer
    add a small image to such a batch."""
    entries: dict[str, Any] = facts.get("dataset.entries") or {}
    if not _ranks_share_weights(facts) or facts["demands.adds_image"]:
        return
    without = [name for name, entry in entries.items() if not _media(entry)]
    for name, entry in entries.items():
        scan = (facts.get("records.scans") or {}).get(name) or {}
        rows = scan.get("read", 0)
        some = max((scan.get("columns", {}).get(column, 0) for column in _media(entry)), default=0)
        if not _media(entry) or not (without or some < rows):
            continue
        mixed = f'"{without[0]}" has none' if without else f"{rows - some} of its {rows} records have none"
        what = (
            f'"{name}" has images or videos and {mixed}: under ZeRO-3 ranks with and without them wait for each other'
        )
        yield _finding("train-hang-mixed-modality", what, facts["deepspeed.config_path"], Severity.WARNING)
        return


def _media(entry: dict[str, Any]) -> list[str]:
    columns = entry.get("columns") or {}
    return [columns[kind] for kind in ("images", "videos", "audios") if columns.get(kind)]


JUDGEMENTS: tuple[Judgement, ...] = (versions_of_use, stream_has_shards, experts_are_leaves, every_batch_has_an_image)
