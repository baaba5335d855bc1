"""DeepSpeed of the target and the JSON that the recipe names, against the transformers that will drive it.

Whether no_sync exists in the engine, whether the Trainer enters it, and whether the CPU accelerator runs numactl, is
read from the installed sources, so that a patched or a future release is judged by what it does.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from doctor.facts import Facts, Unknown
from doctor.findings import Evidence, Finding, Severity, found, in_recipe
from doctor.probes.packages import version_of
from doctor.recipe import (
    deepspeed_batch_judged,
    deepspeed_classes,
    deepspeed_judged,
    deepspeed_optimizer,
    deepspeed_rare,
    deepspeed_sections,
    source_cache,
)  # fmt: skip
from doctor.recipe.deepspeed_batch_judged import accumulation
from doctor.recipe.source_tree import package_root
from doctor.target import Target

ID = "deepspeed"
AFTER: tuple[str, ...] = ("recipe",)

_found = partial(found, ID)

_GUARDED = re.compile(r"DistributedType\.DEEPSPEED\b(?:(?!\bdef\b)[\s\S]){0,400}?\.no_sync\b")
_RUNS_NUMACTL = re.compile(r"(?P<guard>try:\s*)?\n\s*output\s*=\s*subprocess\.check_output\(\['numactl'")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """Sources are read only when the recipe uses DeepSpeed."""
    named = facts["recipe.values"].get("deepspeed")
    if not named:
        return {"deepspeed.config_path": None, "deepspeed.config": None, "deepspeed.config_error": None}
    site = target.site
    engine = _source(package_root("deepspeed", site), "runtime/engine.py")
    numa = _source(package_root("deepspeed", site), "utils/numa.py")
    trainer = _source(package_root("transformers", site), "trainer.py")
    absent = Unknown("deepspeed is not installed")
    call = _RUNS_NUMACTL.search(numa) if numa else None
    config = _config(named, target)
    return {
        **config,
        "deepspeed.optimizers": _optimizers(_source(package_root("deepspeed", site), "runtime/config.py")),
        "deepspeed.optimizer_takes": deepspeed_optimizer.taken(
            _optimizer(config["deepspeed.config"]), package_root("torch", site)
        ),
        "deepspeed.bf16_scales": not re.search(
            r"elif get_bfloat16_enabled\(param_dict\):\s+return 1\.0",
            _source(package_root("deepspeed", site), "runtime/config.py") or "",
        ),
        "deepspeed.refused": _refused(config["deepspeed.config"], package_root("deepspeed", site)),
        "deepspeed.nvme_missing": _nvme_missing(config["deepspeed.config"]),
        "deepspeed.has_no_sync": "def no_sync(" in engine if engine else absent,
        "deepspeed.cpu_runs_numactl": call is not None and not call["guard"] if numa else absent,
        "deepspeed.trainer_enters_no_sync": _enters_no_sync(trainer)
        if trainer
        else Unknown("transformers is not installed"),
    }


def _source(root: Path | None, name: str) -> str | None:
    try:
        return (root / name).read_text(encoding="utf-8") if root else None
    except OSError:
        return None


def _optimizers(text: str | None) -> list[str]:
    """Names of the optimizers that the installed DeepSpeed makes itself."""
    return re.findall(r"^[A-Z_]+_OPTIMIZER = ['\"](\w+)['\"]", text or "", re.MULTILINE)


def _optimizer(config: Any) -> Any:
    return config.get("optimizer") if isinstance(config, dict) else None


def _enters_no_sync(trainer: str) -> bool:
    """True when the training loop enters `accelerator.no_sync` for DeepSpeed too (mended by transformers PR 35157)."""
    return "self.accelerator.accumulate(model)" in trainer or (".no_sync" in trainer and not _GUARDED.search(trainer))


def _config(named: Any, target: Target) -> dict[str, Any]:
    if isinstance(named, dict):
        return {"deepspeed.config_path": "(in the recipe)", "deepspeed.config": named, "deepspeed.config_error": None}
    path = target.workdir / str(named)
    shown = target.shown(path)
    broken = {"deepspeed.config_path": shown, "deepspeed.config": Unknown(f"{shown} cannot be read")}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        error = {"kind": "missing", "what": f"{shown} does not exist"}
        existing = _same_name(path, target)
        near = None if existing else _like_name(path, target)
        return {
            **broken,
            "deepspeed.config_error": error,
            "deepspeed.existing_config": existing,
            "deepspeed.near_config": near,
        }
    except json.JSONDecodeError as error:
        what = f"{shown}:{error.lineno} is not valid JSON ({error.msg})"
        return {**broken, "deepspeed.config_error": {"kind": "syntax", "what": what, "line": error.lineno}}
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a number of thousands of digits
        return {**broken, "deepspeed.config_error": {"kind": "unreadable", "what": f"{shown} cannot be read ({error})"}}
    except RecursionError:
        what = f"{shown} is not valid JSON (nested too deep)"
        return {**broken, "deepspeed.config_error": {"kind": "syntax", "what": what, "line": 1}}
    if not isinstance(config, dict):
        return {**broken, "deepspeed.config_error": {"kind": "shape", "what": f"{shown} holds no JSON object"}}
    return {"deepspeed.config_path": shown, "deepspeed.config": config, "deepspeed.config_error": None}


def _refused(config: Any, package: Path | None) -> Any:
    """What the installed DeepSpeed's own classes refuse of the JSON."""
    if not isinstance(config, dict) or package is None:
        return Unknown("the JSON cannot be read" if package else "deepspeed is not installed")
    try:
        files = deepspeed_classes.files(package)
        known = source_cache.cached(
            "deepspeed", files, lambda: deepspeed_classes.read(package), deepspeed_classes.Classes
        )
    except (OSError, SyntaxError) as error:
        return Unknown(f"DeepSpeed's configuration classes cannot be read ({error})")
    return [msgspec.to_builtins(refused) for refused in deepspeed_classes.refused(config, known)]


def _nvme_missing(config: Any) -> list[str]:
    """Parts that offload to NVMe and name no folder that exists."""
    zero = config.get("zero_optimization") if isinstance(config, dict) else None
    found = []
    for part in ("offload_optimizer", "offload_param"):
        offload = zero.get(part) if isinstance(zero, dict) and zero.get("stage") == 3 else None
        if isinstance(offload, dict) and offload.get("device") == "nvme":
            path = offload.get("nvme_path")
            if not isinstance(path, str) or not os.path.isdir(path):
                found.append(f"{part}: nvme_path is {path!r}" + ("" if path is None else ", which is no folder here"))
    return found


def _same_name(path: Path, target: Target) -> str | None:
    """A DeepSpeed JSON of that name where LLaMA-Factory keeps them, when the recipe's path is wrong.

    A name spelt almost so counts only where the ZeRO stage is the same: another stage needs another amount of memory.
    """
    for folder in (Path("examples") / "deepspeed", Path("examples"), Path()):
        if os.path.isfile(target.workdir / folder / path.name):
            return str(folder / path.name)
    stage = re.search(r"z(?:ero)?_?([0-3])", path.stem)
    names = [file.name for file in path.parent.glob("*.json")]
    for name in difflib.get_close_matches(path.name, names, n=3, cutoff=0.85):
        other = re.search(r"z(?:ero)?_?([0-3])", name)
        if stage and other and stage[1] == other[1] and ("offload" in name) == ("offload" in path.name):
            return target.shown(path.with_name(name))
    return None


def _like_name(path: Path, target: Target) -> str | None:
    """The DeepSpeed JSON whose name is nearest, whatever its stage and offload: one to be agreed to."""
    folders = (path.parent, target.workdir / "examples" / "deepspeed", target.workdir / "examples")
    files = {file.name: file for folder in reversed(folders) for file in folder.glob("*.json")}
    near = difflib.get_close_matches(path.name, files, n=1, cutoff=0.75)
    return target.shown(files[near[0]]) if near else None


def stage(facts: Facts) -> int:
    """The ZeRO stage of the JSON; 0 when it has none."""
    zero = facts["deepspeed.config"].get("zero_optimization", {})
    value = zero.get("stage", 0) if isinstance(zero, dict) else 0
    return value if isinstance(value, int) else 0


def not_installed(facts: Facts) -> Iterator[Finding]:
    path = facts["deepspeed.config_path"]
    if path is not None and "deepspeed" not in facts["packages.versions"]:
        what = "the recipe names a DeepSpeed configuration and deepspeed is not installed in the target"
        # Releases that drive the Trainer of transformers 5 are newer than the one that older stacks need.
        transformers = version_of(facts, "transformers")
        newer = bool(transformers and transformers.major >= 5)
        details: dict[str, Any] = {"needs_newer_deepspeed": newer, "nproc": facts["launch.nproc"]}
        details["cpu_without_numactl"] = not newer and _counts_by_numactl(facts)
        if newer:
            details["deepspeed_requirement"] = "deepspeed>=0.18.4"
        yield _found("ds-not-installed", what, in_recipe(facts, "deepspeed"), **details)


def config_unusable(facts: Facts) -> Iterator[Finding]:
    error = facts["deepspeed.config_error"]
    path = facts["deepspeed.config_path"]
    if error and error["kind"] == "missing":
        details = {"file": path}
        if existing := facts.get("deepspeed.existing_config"):
            details["existing_ds_config"] = existing
        elif near := facts.get("deepspeed.near_config"):
            details["near_ds_config"] = near
        yield _found("ds-config-missing", error["what"], in_recipe(facts, "deepspeed"), **details)
    elif error:
        syntax = error["kind"] == "syntax"
        yield _found("ds-config-invalid", error["what"], path, file=path, ds_config=path, json_syntax_error=syntax)


def config_refused(facts: Facts) -> Iterator[Finding]:
    """Keys and values that DeepSpeed's pydantic classes do not take; without them, or with an "auto" that is
    filled in, it uses its default."""
    if facts["deepspeed.config"] is None:
        return
    path, corrected, removed, said = facts["deepspeed.config_path"], {}, [], []
    for refused in facts["deepspeed.refused"]:
        at, meant = refused["path"], refused["meant"]
        if refused["kind"] == deepspeed_classes.FRACTION and at.endswith(".stage3_prefetch_bucket_size"):
            yield _found("ds-prefetch-bucket-float", refused["text"], path, ds_config=path, prefetch_bucket=meant)
            continue
        said.append(Evidence(refused["text"], path))
        unknown = refused["kind"] == deepspeed_classes.UNKNOWN
        # "auto" is of no use where nothing fills it in: accelerate refuses it.
        if unknown or (meant is None and not deepspeed_sections.is_filled(at)):
            removed.append(at)
        else:
            corrected[at] = "auto" if meant is None else meant
        if unknown and meant:
            parent, _, key = at.rpartition(".")
            part: Any = facts["deepspeed.config"]
            for name in parent.split("."):
                part = part[name]
            if meant not in part:
                corrected[f"{parent}.{meant}"] = part[key]
    if said:
        words = ", ".join(
            [f"{at} = {json.dumps(value)}" for at, value in corrected.items()] + [f"−{at}" for at in removed]
        )
        details = {"file": path, "ds_config": path, "corrected_values": corrected, "removed_keys": removed}
        details |= {"corrected": words, "corrects": bool(corrected or removed)}
        yield Finding("ds-config-invalid", tuple(said), source=f"probe:{ID}", details=details)


# What DeepSpeed makes itself (runtime/engine.py); any other name is looked for in torch.optim, as it is written.
_OWN_OPTIMIZERS = ("adam", "adamw", "lamb", "onebitadam", "onebitlamb", "zerooneadam", "muadam", "muadamw", "musgd", "lion",
                   "muon")  # fmt: skip
_TORCH_OPTIMIZERS = ("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "LBFGS", "NAdam", "RAdam",
                     "RMSprop", "Rprop", "SGD", "SparseAdam")  # fmt: skip


def optimizer_known(facts: Facts) -> Iterator[Finding]:
    optimizer = (facts["deepspeed.config"] or {}).get("optimizer")
    kind = optimizer.get("type") if isinstance(optimizer, dict) else None
    own = facts.get("deepspeed.optimizers") or _OWN_OPTIMIZERS
    if not isinstance(kind, str) or kind.lower() in own or kind in _TORCH_OPTIMIZERS:
        return
    path = facts["deepspeed.config_path"]
    lowered = {name.lower(): name for name in (*_TORCH_OPTIMIZERS, "Lamb", "OneBitAdam", "Lion")}
    near = [lowered[name] for name in difflib.get_close_matches(kind.lower(), lowered, n=1)]
    details: dict[str, Any] = {"file": path, "ds_config": path}
    if near:
        details |= {"corrected_values": {"optimizer.type": near[0]}, "corrected": f"optimizer.type = {near[0]}",
                    "removed_keys": [], "corrects": True}  # fmt: skip
    what = f'optimizer.type "{kind}" is neither one of DeepSpeed\'s nor of torch.optim'
    yield _found("ds-config-invalid", what, path, **details)


def stage_auto(facts: Facts) -> Iterator[Finding]:
    """Nobody fills in a stage: DeepSpeed drops "auto", and trains without ZeRO."""
    if _written_stage(facts) == "auto":
        what = 'zero_optimization.stage is "auto", which nothing fills in: DeepSpeed trains without ZeRO'
        yield _stage_wrong(facts, what, 3, Severity.WARNING)


def stage_as_text(facts: Facts) -> Iterator[Finding]:
    """DeepSpeed makes a number of "3" and shards; transformers and accelerate compare it with 3 and gather nothing: every
    rank loads the whole model, and what is saved are tensors without elements."""
    written = _written_stage(facts)
    if isinstance(written, str) and written in ("0", "1", "2", "3"):
        harm = "the saved model has no weights" if written == "3" else "transformers and accelerate see no stage"
        what = f'zero_optimization.stage is "{written}" in quotes: DeepSpeed reads the number, and {harm}'
        yield _stage_wrong(facts, what, int(written), None if written == "3" else Severity.WARNING)


def _written_stage(facts: Facts) -> Any:
    zero = (facts["deepspeed.config"] or {}).get("zero_optimization")
    return zero.get("stage") if isinstance(zero, dict) else None


def _stage_wrong(facts: Facts, what: str, right: int, severity: Severity | None) -> Finding:
    path = facts["deepspeed.config_path"]
    return _found("ds-config-invalid", what, path, severity, ds_config=path, file=path,
                  corrected_values={"zero_optimization.stage": right}, removed_keys=[], corrects=True,
                  corrected=f"zero_optimization.stage = {right}")  # fmt: skip


def nvme_path(facts: Facts) -> Iterator[Finding]:
    if facts["deepspeed.config"] is None:
        return
    for what in facts["deepspeed.nvme_missing"]:
        yield _found("ds-offload-nvme", what, facts["deepspeed.config_path"], ds_config=facts["deepspeed.config_path"])


def offloaded_optimizer(facts: Facts) -> Iterator[Finding]:
    """Optimizer offload takes AdamW, for which accelerate puts DeepSpeed's CPU Adam; any other needs to be allowed."""
    config, optim = facts["deepspeed.config"], str(facts["recipe.values"].get("optim", "adamw_torch"))
    if config is None or "optimizer" in config or config.get("zero_force_ds_cpu_optimizer") is False:
        return
    zero = config.get("zero_optimization")
    offload = zero.get("offload_optimizer") if isinstance(zero, dict) else None
    old = isinstance(zero, dict) and zero.get("cpu_offload") is True  # accelerate looks for the newer key alone
    offloads = isinstance(offload, dict) and offload.get("device") in ("cpu", "nvme")
    if not old and (not offloads or optim.startswith("adamw")):
        return
    if old and not offloads:
        what = "zero_optimization.cpu_offload is deprecated, and its optimizer is refused; use offload_optimizer"
        path = facts["deepspeed.config_path"]
        yield _found("ds-offload-client-optimizer", what, path, ds_config=path, cpu_offload=True)
        return
    what = f"offload_optimizer with optim: {optim}; DeepSpeed offloads its own CPU Adam only"
    yield _found("ds-offload-client-optimizer", what, in_recipe(facts, "optim"),
                 ds_config=facts["deepspeed.config_path"])  # fmt: skip


def no_sync(facts: Facts) -> Iterator[Finding]:
    """More than one process, accumulation above 1, ZeRO on: DeepSpeed's no_sync asserts on the first step."""
    if facts["deepspeed.config_path"] is None or stage(facts) == 0 or accumulation(facts) <= 1:
        return
    world_size = facts["launch.world_size"]
    if world_size <= 1 or not facts["deepspeed.has_no_sync"] or not facts["deepspeed.trainer_enters_no_sync"]:
        return
    deepspeed, transformers = version_of(facts, "deepspeed"), version_of(facts, "transformers")
    what = (
        f"deepspeed {deepspeed} has no_sync and transformers {transformers} enters it: ZeRO stage {stage(facts)}, "
        f"gradient_accumulation_steps {accumulation(facts)}, {world_size} processes"
    )
    micro_batch = facts["recipe.values"].get("per_device_train_batch_size", 8)
    yield _found(
        "ds-no-sync-zero",
        what,
        in_recipe(facts, "gradient_accumulation_steps"),
        stage=stage(facts),
        on_cpu=facts.get("gpu.count") == 0,
        cpu_without_numactl=_counts_by_numactl(facts),
        nproc=facts["launch.nproc"],
        global_batch=micro_batch * accumulation(facts) * world_size,
        global_batch_without_accumulation=micro_batch * world_size,
    )


def numactl(facts: Facts) -> Iterator[Finding]:
    """DeepSpeed before 0.16 counts CPU devices with the program numactl, unless LOCAL_SIZE tells it.

    It does so where ZeRO stage 3 scatters gradients; the other stages never count and train without numactl.
    """
    if facts["deepspeed.config_path"] is None or not facts["deepspeed.cpu_runs_numactl"]:
        return
    if _counts_by_numactl(facts) and "LOCAL_SIZE" not in facts["launch.environ"]:
        what = (
            f"deepspeed {version_of(facts, 'deepspeed')} runs numactl on a machine without GPU, and it is not installed"
        )
        yield _found("env-numactl-missing", what, "numactl", nproc=facts["launch.nproc"])


def _counts_by_numactl(facts: Facts) -> bool:
    return stage(facts) == 3 and facts.get("gpu.count") == 0 and facts.get("tools.numactl") is None


def cpu_world_size(facts: Facts) -> Iterator[Finding]:
    """`use_cpu` with ZeRO-3: the model is made before DeepSpeed's communication, which then counts a world of one.

    It refuses the batch where the JSON has a total, which is filled in for all processes; stages 1 and 2 train.
    """
    config = facts["deepspeed.config"]
    if not isinstance(config, dict) or not facts["recipe.values"].get("use_cpu"):
        return
    if facts["launch.world_size"] > 1 and stage(facts) == 3 and config.get("train_batch_size") is not None:
        what = f"use_cpu: true with ZeRO-3 and {facts['launch.world_size']} processes: it counts a world size of 1"
        yield _found("ds-cpu-world-size", what, in_recipe(facts, "use_cpu"), gpus=facts.get("gpu.count") or 0)


JUDGEMENTS = (
    not_installed, config_unusable, config_refused, stage_auto, stage_as_text,
    optimizer_known, nvme_path, offloaded_optimizer, no_sync,
    numactl, cpu_world_size, *deepspeed_batch_judged.ALL, *deepspeed_judged.ALL, *deepspeed_sections.ALL,
    *deepspeed_rare.ALL, *deepspeed_optimizer.ALL,
)  # fmt: skip
