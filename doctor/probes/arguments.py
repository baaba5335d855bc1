"""The recipe's keys and values against the argument dataclasses and checks of the installed release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from packaging.version import InvalidVersion, Version

from doctor.facts import Facts, Unknown
from doctor.probes import Judgement
from doctor.recipe import (
    argument_source,
    attention_judged,
    combinations_judged,
    companion_models,
    config_files,
    export_judged,
    expressions,
    folders_judged,
    key_history,
    new_launcher,
    nulls_judged,
    optimizers_judged,
    ranges_judged,
    recipe_kind,
    refusals,
    run_folders,
    schedulers,
    source_cache,
    source_tree,
    value_types,
    values_judged,
)
from doctor.recipe.arguments_judged import JUDGEMENTS as _JUDGED
from doctor.target import Target

ID = "arguments"
AFTER: tuple[str, ...] = ("recipe", "llamafactory", "deepspeed", "launch")

_FACTS = ("launcher", "subcommand", "fields", "unknown", "misfits", "refusals", "requirements", "missing", "loader")
_OF_FOLDERS = ("output_dir", "resume")
_ENABLED = ("true", "y", "1")  # LLaMA-Factory's is_env_enabled


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    values = facts["recipe.values"]
    root = facts.get("llamafactory.root")
    transformers = source_tree.package_root("transformers", target.site)
    if root is None or transformers is None:
        lacking = Unknown(f"{'LLaMA-Factory' if root is None else 'transformers'} is not installed in the target")
        return {f"arguments.{name}": lacking for name in _FACTS} | run_folders.read(target, facts, values)
    package = Path(root)
    launcher = new_launcher.which(target.environ, values, package)
    if launcher["starts"] != launcher["recipe"]:
        lacking = Unknown("not judged: the recipe is written for the other launcher of LLaMA-Factory")
        return {f"arguments.{name}": lacking for name in (*_FACTS, *_OF_FOLDERS)} | {"arguments.launcher": launcher}
    if launcher["starts"] == "new":
        lacking = Unknown("not judged: the new launcher treats its folders in its own way")
        folders = {f"arguments.{name}": lacking for name in _OF_FOLDERS}
        return {**_of_new_launcher(target, values, package), **folders, "arguments.launcher": launcher}
    try:
        files = argument_source.files(package, transformers)
        source = source_cache.cached(
            "arguments", files, lambda: argument_source.read(package, transformers), argument_source.Source
        )
    except (OSError, SyntaxError) as error:
        lacking = Unknown(f"the argument classes cannot be read ({error})")
        return {f"arguments.{name}": lacking for name in _FACTS} | run_folders.read(target, facts, values)
    command = recipe_kind.subcommand(values)
    group = {"train": "train", "eval": "eval"}.get(command, "infer")
    fields = {name: f for cls in source.groups.get(group, []) for name, f in source.classes[cls].fields.items()}
    if not any(key in fields for key in values):
        command = recipe_kind.OTHER
    megatron = recipe_kind.asks_for_megatron(target.environ)
    if command == recipe_kind.OTHER or megatron or not fields:
        why = recipe_kind.other_program(target.environ) if megatron else "the file is not a LLaMA-Factory recipe"
        lacking = Unknown(f"not judged: {why}")
        found: dict[str, Any] = {f"arguments.{name}": lacking for name in _FACTS} | {"arguments.subcommand": command}
        return found | run_folders.read(target, facts, values)
    every = {name for cls in source.classes.values() for name in cls.fields}
    return {
        "arguments.launcher": launcher,
        "arguments.subcommand": command,
        "arguments.fields": sorted(fields),
        "arguments.loader": "OmegaConf" if source.converts_floats else "PyYAML",
        "arguments.unknown": [] if _enabled(target, "ALLOW_EXTRA_ARGS") else _unknown(values, fields, every),
        "arguments.misfits": _misfits(values, fields, source.converts_floats),
        "arguments.missing": _missing(values, source, group),
        **_followed(target, facts, source, values, group),
        "arguments.tool_formats": values_judged.tool_formats(package),
        "arguments.length_as_fraction": values_judged.length_as_fraction(package),
        "arguments.loss_is_sigmoid": values.get("stage") == "dpo"
        and values_judged.loss_is_sigmoid(source_tree.package_root("trl", target.site)),
        "arguments.json_broken": target.recipe.suffix == ".json" and values_judged.json_is_broken(package),
        "arguments.attentions": values_judged.attentions(package),
        "arguments.quantisers": values_judged.quantisers(package),
        "arguments.dequantised": values_judged.dequantised(package),
        "arguments.files_for_folders": values_judged.files_for_folders(values, target.workdir),
        "arguments.companions": companion_models.companions(values, target.workdir),
        "arguments.scheduler_takes": _scheduler_takes(values, transformers),
        **config_files.read(target, values, transformers),
        **run_folders.read(target, facts, values),
    }


def _of_new_launcher(target: Target, values: Mapping[str, Any], package: Path) -> dict[str, Any]:
    """Keys and values by the dataclasses of the new launcher; its other checks are made while it runs."""
    files = new_launcher.files(package)
    try:
        source = source_cache.cached("new-arguments", files, lambda: new_launcher.read(package), argument_source.Source)
    except (OSError, SyntaxError) as error:
        lacking = Unknown(f"the argument classes of the new launcher cannot be read ({error})")
        return {f"arguments.{name}": lacking for name in _FACTS}
    fields = {name: f for cls in source.groups["train"] for name, f in source.classes[cls].fields.items()}
    kept = [msgspec.to_builtins(r) | {"file": _shown(r.file)} for r in new_launcher.refused(source, values)]
    return {
        "arguments.subcommand": "new",
        "arguments.fields": sorted(fields),
        "arguments.loader": "OmegaConf" if source.converts_floats else "PyYAML",
        "arguments.unknown": [] if _enabled(target, "ALLOW_EXTRA_KEYS") else _unknown(values, fields, set()),
        "arguments.misfits": _misfits(values, fields, source.converts_floats),
        "arguments.missing": _missing(values, source, "train"),
        "arguments.refusals": {"distributed": kept, "single": kept},
        "arguments.requirements": [],
    }


def _scheduler_takes(values: Mapping[str, Any], transformers: Path) -> dict[str, Any] | None:
    if not isinstance(values.get("lr_scheduler_kwargs"), Mapping):
        return None
    taken = schedulers.read(transformers, str(values.get("lr_scheduler_type", "linear")))
    return None if taken is None else dict(msgspec.to_builtins(taken))


def _enabled(target: Target, name: str) -> bool:
    return target.environ.get(name, "0").lower() in _ENABLED


def _unknown(
    values: Mapping[str, Any], fields: Mapping[str, Any], every: set[str]
) -> list[dict[str, str | bool | None]]:
    """Keys that no dataclass of the subcommand has. `elsewhere`: another subcommand's dataclass has it."""
    found: list[dict[str, str | bool | None]] = []
    for key in values:
        if key in fields:
            continue
        renamed = key_history.renamed_to(key, fields)
        found.append(
            {
                "key": key,
                "renamed_to": renamed,
                "nearest": None if renamed else key_history.nearest(key, fields),
                "needs_newer": key_history.FIRST_RELEASE.get(key),
                "elsewhere": key in every,
            }
        )
    return found


def _misfits(
    values: Mapping[str, Any], fields: Mapping[str, argument_source.Field], omega: bool
) -> list[dict[str, Any]]:
    found = []
    for key, value in values.items():
        if key not in fields:
            continue
        misfit = value_types.check(fields[key], value, omega)
        if misfit is not None:
            more = {"key": key, "annotation": fields[key].annotation[:120], "enum": fields[key].enum}
            found.append(msgspec.to_builtins(misfit) | more)
    return found


def _missing(values: Mapping[str, Any], source: argument_source.Source, group: str) -> list[str]:
    """Arguments without a default that the recipe does not give."""
    classes = [source.classes[name] for name in source.groups[group]]
    return [f.name for cls in classes for f in cls.fields.values() if f.required and values.get(f.name) is None]


def _followed(
    target: Target, facts: Facts, source: argument_source.Source, values: Mapping[str, Any], group: str
) -> dict[str, Any]:
    """Refusals and needed packages, once as one process would see them and once under torchrun."""
    deepspeed = facts.get("deepspeed.config")
    zero = deepspeed.get("zero_optimization") if isinstance(deepspeed, Mapping) else None
    stage = zero.get("stage") if isinstance(zero, Mapping) else None
    zero3: Any = expressions.UNKNOWN if values.get("deepspeed") and deepspeed is None else stage == 3
    accelerate = _version(target, "accelerate")
    functions = {
        "is_env_enabled": lambda name, *default: (
            _enabled(target, name) if isinstance(name, str) else expressions.UNKNOWN
        ),
        "is_deepspeed_zero3_enabled": zero3,
        "is_mcore_adapter_available": False,
        # Without these LLaMA-Factory does not start at all.
        "is_torch_available": True,
        "is_accelerate_available": lambda *least: not least or _at_least(accelerate, least[0]),
        "is_safetensors_available": True,
    }
    verdicts = {}
    for name, mode in (("distributed", "distributed"), ("single", "not_parallel")):
        environment = {"parallel_mode": mode, "ParallelMode.DISTRIBUTED": "distributed",
                       "ParallelMode.NOT_DISTRIBUTED": "not_distributed",
                       "is_torch_greater_or_equal_than_2_0": True}  # fmt: skip
        verdicts[name] = refusals.follow(source, values, group, environment, functions)
    shorten = {str(Path(f)): _shown(f) for f in source.files}
    return {
        "arguments.refusals": {
            name: [msgspec.to_builtins(r) | {"file": shorten.get(r.file, r.file)} for r in verdict.refusals]
            for name, verdict in verdicts.items()
        },
        "arguments.requirements": msgspec.to_builtins(verdicts["distributed"].requirements),
    }


def _version(target: Target, package: str) -> str | None:
    found = (path.name for site in target.site for path in Path(site).glob(f"{package}-*.dist-info"))
    return next((name.removesuffix(".dist-info").rpartition("-")[2] for name in found), None)


def _at_least(installed: str | None, least: Any) -> Any:
    try:
        return Version(str(installed)) >= Version(str(least))
    except InvalidVersion:
        return expressions.UNKNOWN


def _shown(file: str) -> str:
    """A source file from its package on: llamafactory/hparams/parser.py."""
    parts = Path(file).parts
    start = max((i for i, part in enumerate(parts) if part in ("llamafactory", "transformers")), default=0)
    return "/".join(parts[start:])


JUDGEMENTS: tuple[Judgement, ...] = (
    new_launcher.launcher_fits, *_JUDGED, *ranges_judged.ALL, *values_judged.ALL, *companion_models.ALL,
    *combinations_judged.ALL, *optimizers_judged.ALL, *attention_judged.ALL, *export_judged.ALL, *folders_judged.ALL,
    *nulls_judged.ALL, config_files.configs_fit,
)  # fmt: skip
