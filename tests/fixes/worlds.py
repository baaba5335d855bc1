"""Real small targets to change: a recipe workspace, a virtual environment with PyPI packages, causes of the test's own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from doctor.facts import Facts
from doctor.findings import Finding
from doctor.target import Target, find
from fixes.apply import Applied, apply_plan
from fixes.choose import Choice
from fixes.installer import find_uv
from fixes.journal import STATE
from fixes.plan import Plan, make_plan
from fixes.verify import Verify, VerifyResult
from knowledge_base import load

RECIPE = """### model
model_name_or_path: Qwen/Qwen2.5-32B-Instruct

### method
deepspeed: ds.json  # choices: [ds_z0_config.json, ds_z2_config.json]

### dataset
template: qwen25  # 模板
cutoff_len: 16384
"""
INFO = '{\n  "identity": {\n    "file_name": "identity.json"\n  },\n  "Sky-T1": {\n    "file_name": "here"\n  },\n}\n'
PACKAGES = ("six==1.15.0", "idna==3.4", "packaging==23.0")


def uv() -> str:
    found = find_uv(os.environ)
    assert found
    return found


def make_environment(prefix: Path, *packages: str) -> Path:
    """A virtual environment with packages from the index; its python."""
    subprocess.run([uv(), "venv", "-q", "-p", sys.executable, str(prefix)], check=True)
    python = prefix / "bin" / "python"
    if packages:
        install(python, *packages)
    return python


def install(python: Path, *packages: str) -> None:
    subprocess.run([uv(), "pip", "install", "-q", "--python", str(python), *packages], check=True)


def freeze(python: Path) -> str:
    return subprocess.run(
        [uv(), "pip", "freeze", "--python", str(python)], check=True, capture_output=True, text=True
    ).stdout


def snapshot(*roots: Path) -> dict[str, str]:
    """Every path below the roots with type, mode and content hash; our own state and bytecode left out."""
    found = {}
    for root in roots:
        for path in sorted(root.rglob("*")):
            if STATE in path.parts or "__pycache__" in path.parts:
                continue
            if path.is_symlink():
                found[str(path)] = f"link {os.readlink(path)}"
            elif path.is_dir():
                found[str(path)] = "directory"
            else:
                mode = oct(path.stat().st_mode & 0o7777)
                found[str(path)] = f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


def healed(cause: str) -> VerifyResult:
    return VerifyResult(True)


@dataclass
class World:
    """A workspace and the environment that trains in it; `causes` are written as YAML files of a knowledge base."""

    workdir: Path
    python: Path
    knowledge: Path
    findings: list[Finding] = field(default_factory=list)

    @property
    def target(self) -> Target:
        return find(recipe="recipe.yaml", workdir=str(self.workdir), python=str(self.python))

    @property
    def prefix(self) -> Path:
        return self.python.parent.parent

    @property
    def recipe(self) -> Path:
        return self.workdir / "recipe.yaml"

    @property
    def info(self) -> Path:
        return self.workdir / "data" / "dataset_info.json"

    def cause(
        self, cause_id: str, *fixes: dict[str, Any], details: dict[str, Any] | None = None, kind_of: str = ""
    ) -> None:
        """Add a cause with fixes to the knowledge base, and a finding of it. A fix needs id and actions."""
        text = {"en": cause_id, "zh": cause_id}
        listed = [{"class": "safe", "title": text, **fix} for fix in fixes]
        document = {
            "id": cause_id,
            "severity": "error",
            "kind_of": kind_of,
            "title": text,
            "why": text,
            "references": [],
            "fixes": listed,
        }
        place = self.knowledge / "test" / f"{cause_id}.yaml"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
        load.paths.cache_clear()
        load.cause.cache_clear()
        self.findings.append(Finding(cause_id, (), details=details or {}))

    def plan(self, facts: Facts | None = None, **choice: Any) -> Plan:
        if "only" in choice:
            choice["only"] = frozenset(choice["only"])
        return make_plan(self.findings, facts or Facts(), self.target, Choice(**choice))

    def apply(self, plan: Plan | None = None, verify: Verify = healed, **choice: Any) -> Applied:
        return apply_plan(plan or self.plan(**choice), self.target, Facts(), verify)

    def snapshot(self) -> dict[str, str]:
        return snapshot(self.workdir, self.prefix)


def fix(fix_id: str, *actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": fix_id, "actions": list(actions), **more}


def set_recipe(**values: Any) -> dict[str, Any]:
    return {"kind": "set-recipe", "values": values}
