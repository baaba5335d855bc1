"""The stage `model`: a random twin of the model, made by the target's transformers.

Its configuration is small, its tokenizer's files are the model's own, its weights are random. What is wrong with the
real weights, which a twin does not show, is judged from their headers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doctor.examine import severity_of
from doctor.facts import Facts, UnknownFact
from doctor.findings import Finding, Severity
from doctor.rehearse import launches
from doctor.rehearse.context import Context
from doctor.rehearse.launches import LATE, Launch
from doctor.rehearse.notes import note
from doctor.rehearse.record import Stage
from doctor.rehearse.shrink import Shrunk, shrink

MODEL = "model"
MAKER = Path(__file__).parent / "model_child.py"
LARGEST = 64 << 20  # bytes of a file that is copied; a tokenizer.json has 10 MB
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5", ".onnx", ".incomplete")
_OWN = ("config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json", "README.md")


def source(facts: Facts) -> Path | None:
    """The folder of the real model on this machine: the local one, or a copy in a cache. None when there is none."""
    if facts.get("model.path"):
        return Path(facts["model.path"])
    copies = facts.get("model.cached") or []
    found = facts.get("model.cached_path") or (copies[0]["path"] if copies else None)
    return Path(found) if found else None


def write(real: Path, twin: Path, small: Mapping[str, Any]) -> None:
    """The twin's folder without weights: the small config.json, and every other file of the model as it is."""
    twin.mkdir(parents=True)
    for item in sorted(real.iterdir()):
        if item.name in _OWN or item.name.endswith(_WEIGHTS) or not item.is_file() or item.stat().st_size > LARGEST:
            continue
        shutil.copyfile(item, twin / item.name)
    (twin / "config.json").write_text(json.dumps(small, indent=1) + "\n", encoding="utf-8")


def vocabulary(config: Mapping[str, Any]) -> int:
    """Rows of the embedding; 32,000 where the configuration does not tell."""
    text = config.get("text_config")
    size = config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, dict) else None)
    return size if isinstance(size, int) and size > 0 else 32_000


def architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else str(config.get("model_type", "model"))


def start(context: Context) -> tuple[Shrunk, Launch]:
    """The twin's configuration, and the child that makes its weights."""
    name = context.facts.get("model.name") or "the model"
    found = _faults(context.facts)
    if found:
        context.result.findings += found
        context.result.stages.append(Stage(MODEL))
        context.failed()
    config, real = context.facts.get("model.config"), source(context.facts)
    if real is None or config is None:
        context.nothing(note("no_model", model=name))
    try:
        small = shrink(config)
    except (ValueError, TypeError, KeyError) as error:
        context.nothing(note("no_shrink", model=name, reason=error))
    layers = next((small.config[n] for n in ("num_hidden_layers", "n_layer") if n in small.config), 2)
    context.progress(note("making", architecture=architecture(small.config), layers=layers))
    write(real, context.twin, small.config)
    argv = [str(context.target.python), str(context.child(MAKER)), str(context.twin), context.remote()]
    environ = launches.child_environment(context.target)
    return small, Launch(argv, environ, context.work, context.directory / "log")


def _faults(facts: Facts) -> list[Finding]:
    """What keeps the real weights and adapters from being loaded, which a random twin does not show."""
    from doctor.probes import adapter
    from doctor.probes import model as weights

    found: list[Finding] = []
    for judgement in (*weights.JUDGEMENTS, *adapter.JUDGEMENTS):
        try:
            found += judgement(facts)
        except UnknownFact:
            continue
    return [finding for finding in found if severity_of(finding) is Severity.ERROR]


def finish(context: Context, small: Shrunk, making: Launch) -> None:
    outcome = making.wait(context.until)
    launches.interrupted(outcome)
    name = context.facts.get("model.name") or "the model"
    if outcome.how == LATE:
        context.out_of_time(MODEL, outcome)
    if not outcome.passed:
        findings, unrecognised = context.diagnosed(outcome)
        if findings:
            context.result.findings += findings
            context.result.stages.append(context.stage(MODEL, False, outcome.seconds, outcome.log))
            context.failed()
        reason = unrecognised["message"] if unrecognised else f"exit code {outcome.code}"
        context.nothing(note("no_twin", model=name, reason=reason[:200]))
    printed = outcome.log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = json.loads(next(line for line in reversed(printed) if line.startswith('{"parameters"')))
    context.result.stages.append(context.stage(MODEL, True, outcome.seconds, outcome.log))
    context.result.not_rehearsed.append(note("weights", parameters=f"{told['parameters']:,}", model=name))
    if small.quantized:
        context.result.not_rehearsed.append(note("quantized", method=small.quantized))
