"""What a run ran on and with, from its record: the command, the machine, the versions, the recipe with its overrides."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from doctor.report.run_record import RunRecord
from doctor.report.run_words import say, size

# What decides how a run behaves, in the order in which people ask for it.
NOTABLE = (
    "llamafactory", "torch", "transformers", "deepspeed", "accelerate", "peft", "trl", "datasets", "tokenizers",
    "flash-attn", "liger-kernel", "bitsandbytes", "unsloth", "vllm", "triton", "numpy", "pyarrow",
)  # fmt: skip


class RecipeLine(msgspec.Struct, frozen=True):
    """One line of the recipe as used; `override`: its key was set on the command line."""

    text: str
    override: bool


def facts(record: RunRecord, lang: str) -> list[tuple[str, str, bool]]:
    """(label, value, whether it is code) of what is known of the environment."""
    command = record.command
    found: list[tuple[str, str, bool]] = []

    def add(word: str, value: Any, code: bool = True) -> None:
        if value:
            found.append((say(word, lang), str(value), code))

    argv = command.get("command")
    if isinstance(argv, list):
        add("command", shlex.join(str(word) for word in argv))
    elif argv:
        add("command", argv)
    environ = command.get("environment")
    if isinstance(environ, Mapping):
        add("variables", " ".join(f"{name}={shlex.quote(str(value))}" for name, value in environ.items()))
    add("workdir", command.get("workdir"))
    add("started", command.get("started"), code=False)
    version, executable = record.fact("python.version"), record.fact("python.executable")
    add("python", " ".join(str(part) for part in (version, executable) if part))
    add("gpus", _gpus(record, lang), code=False)
    add("machine", _machine(record, lang), code=False)
    add("processes", record.fact("launch.world_size"), code=False)
    add("model", _model(record, lang))
    packages = versions(record)
    notable = [f"{name} {packages[name]}" for name in NOTABLE if name in packages]
    add("versions", ", ".join(notable), code=False)
    return found


def versions(record: RunRecord) -> dict[str, str]:
    """All packages of the target by name."""
    packages = record.fact("packages.versions", {})
    return {str(name): str(version) for name, version in packages.items()} if isinstance(packages, Mapping) else {}


def _gpus(record: RunRecord, lang: str) -> str:
    devices = record.fact("gpu.devices", [])
    named = [device for device in devices if isinstance(device, Mapping)] if isinstance(devices, list) else []
    if not named:
        return say("no_gpus", lang) if record.fact("gpu.count") == 0 else ""
    kinds = Counter(f"{device.get('name', '?')}{_memory(device.get('memory_total'))}" for device in named)
    told = ", ".join(f"{count} × {name}" for name, count in kinds.items())
    driver, cuda = record.fact("gpu.driver"), record.fact("gpu.cuda")
    return told + (f"; {say('driver', lang)} {driver}" if driver else "") + (f", CUDA {cuda}" if cuda else "")


def _memory(total: Any) -> str:
    return f" ({size(total)})" if _is_count(total) else ""


def _machine(record: RunRecord, lang: str) -> str:
    cpus, memory = record.fact("machine.cpus"), record.fact("machine.memory_total")
    return say("cpus", lang, count=cpus, memory=size(memory)) if _is_count(cpus) and _is_count(memory) else ""


def _model(record: RunRecord, lang: str) -> str:
    name, count = record.fact("model.name"), record.fact("model.parameters")
    if not name:
        return ""
    return f"{name} ({say('parameters', lang, count=f'{count:,}')})" if _is_count(count) else str(name)


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def recipe(record: RunRecord) -> list[RecipeLine]:
    """The lines of the recipe as used, those of overridden keys marked."""
    overrides = record.fact("recipe.overrides", {})
    keys = {str(key) for key in overrides} if isinstance(overrides, Mapping) else set()
    lines = record.recipe.rstrip("\n").split("\n") if record.recipe.strip() else []
    return [RecipeLine(line, not line[:1].isspace() and line.partition(":")[0].strip("'\" ") in keys) for line in lines]
