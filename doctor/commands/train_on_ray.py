"""`train --ray`: check the nodes of the cluster, then LLaMA-Factory's own Ray run, watched and diagnosed."""

from __future__ import annotations

import ast
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doctor import launch_profile, syntax, target
from doctor.cluster import judge, render
from doctor.cluster.capture import Capture
from doctor.cluster.ray import collect
from doctor.commands import cluster, train
from doctor.commands.arguments import split
from doctor.errors import BadInput
from doctor.exit_codes import ExitCode
from doctor.recipe import source_tree, yaml_recipe
from doctor.report.words import language, say

_ADDRESS = "RAY_ADDRESS"  # ray.init() without an address takes it (Ray Core: configuring Ray)


def fields(root: Path) -> set[str]:
    """The recipe keys of RayArguments in the LLaMA-Factory at `root`; empty where it has none (before 0.9.2)."""
    try:
        tree = syntax.tree((root / "hparams" / "training_args.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return set()
    return {
        item.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == "RayArguments"
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def overrides(known: set[str], workers: int, on_gpus: bool) -> list[str]:
    """KEY=VALUE for LLaMA-Factory's Ray options, those that this release has."""
    wanted: dict[str, Any] = {"ray_num_workers": workers, "resources_per_worker": {"GPU" if on_gpus else "CPU": 1}}
    return [f"{key}={json.dumps(value)}" for key, value in wanted.items() if key in known]


# Ray starts workers in a folder of its own, so a path relative to the working directory leads nowhere there.
_PATHS = ("output_dir", "deepspeed", "tokenized_path", "adapter_name_or_path", "resume_from_checkpoint")


def absolute(values: Mapping[str, Any], workdir: Path) -> list[str]:
    """KEY=VALUE for the paths of the recipe that are relative; a hub's name stays."""
    found = {key: values[key] for key in _PATHS if isinstance(values.get(key), str)}
    folder = values.get("dataset_dir", "data")
    if isinstance(folder, str) and not folder.startswith(("REMOTE:", "ONLINE")):
        found["dataset_dir"] = folder
    model = values.get("model_name_or_path")
    if isinstance(model, str) and (workdir / model).is_dir():
        found["model_name_or_path"] = model
    return [f"{key}={workdir / path}" for key, path in found.items() if not os.path.isabs(path)]


def ray(
    *,
    arguments: tuple[str, ...],
    workdir: str | None,
    python: str | None,
    env: str | None,
    force: bool,
    lang: str | None,
    ray: str,
    workers: int | None,
    only_print: bool,
    slurm: bool,
    slurm_options: str | None,
    **rest: Any,
) -> int:
    recipe, given = split("train", arguments)
    wanted = cluster.request(recipe, workdir, python, env)
    capture = collect(wanted, ray, cluster.BUDGET)
    if not _passes(capture, force, language(lang)):
        return ExitCode.REFUSED
    known = _known(Path(wanted["workdir"]), wanted["python"])
    gpus = _devices(capture, "GPU")
    count = workers or gpus or len(capture.nodes)
    if "ray_num_workers" not in known:
        raise BadInput("The installed LLaMA-Factory has no Ray options; they came with 0.9.2.")
    here = target.find(recipe, workdir, python, env, offline=True)
    values = {**yaml_recipe.read(here.recipe, here.shown(here.recipe)).values, **yaml_recipe.parse_overrides(given)}
    own = [*overrides(known, count, gpus > 0), *absolute(values, here.workdir)]
    given = {key: value for key, value in given.items() if key not in {word.partition("=")[0] for word in own}}
    # FORCE_TORCHRUN would start torchrun on this machine alone, USE_RAY or not.
    environ = {"USE_RAY": "1", _ADDRESS: ray, "FORCE_TORCHRUN": "0"}
    if only_print:
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in environ.items())
        print(
            f"{variables} llamafactory-cli train {recipe or target.DEFAULT_RECIPE} {shlex.join([*own, *_words(given)])}"
        )
        return ExitCode.OK
    os.environ.update(environ)
    everything = (*([recipe] if recipe else []), *own, *_words(given))
    return train.run(arguments=everything, workdir=workdir, python=python, env=env, force=force, lang=lang, **rest)


def _words(given: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in given.items()]


def _devices(capture: Capture, name: str) -> int:
    return int(sum(said.get(name, 0) for said in capture.of("ray.resources").values()))


def _known(workdir: Path, python: str) -> set[str]:
    found = target.ask(Path(python), {**os.environ, **launch_profile.read(workdir)})
    root = source_tree.package_root("llamafactory", tuple(map(Path, found.site)), [])
    return fields(root) if root else set()


def _passes(capture: Capture, force: bool, lang: str) -> bool:
    """The gate over all nodes: what blocks training is told with its nodes; without --force the run is not started."""
    from doctor.report import text

    judged = judge.judge(capture)
    content = render.document("train", capture, judged, lang, with_facts=False)
    content["findings"] = [finding for finding in content["findings"] if finding["blocks_training"]]
    if not content["findings"]:
        return True
    notes = text.console(stderr=True)
    for line in render.lines(content, lang):
        notes.print(line, soft_wrap=True, markup=False)
    notes.print(say("forced" if force else "gate", lang, count=len(content["findings"])), style="bold red")
    return force
