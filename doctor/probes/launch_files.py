"""Files that change a launch from outside the recipe: `.deepspeed_env`, the launch profile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor import launch_profile, redact
from doctor.facts import Facts
from doctor.findings import Evidence, Finding, Severity
from doctor.hub.settings import home
from doctor.target import Target

ID = "launch_files"
AFTER: tuple[str, ...] = ()

# Set anew for every launch; a value kept in a file is another launch's (deepspeed/launcher/runner.py exports the file as
# it stands, after the launcher's own variables).
PER_LAUNCH = (
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "NODE_RANK",
    "NNODES",
)


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`launch_files.deepspeed_env`: [{file, names, values, paths_missing}] in the order that DeepSpeed exports them."""
    name = target.environ.get("DS_ENV_FILE", ".deepspeed_env")
    files = [home(target.environ) / name, target.workdir / name]
    described = []
    for file in dict.fromkeys(files):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        described.append(_described(target, file, text))
    return {
        "launch_files.deepspeed_env": described,
        "launch_files.profile": sorted(launch_profile.read(target.workdir)),
        "launch_files.hostfile": os.path.exists("/job/hostfile"),
    }


def _described(target: Target, file: Path, text: str) -> dict[str, Any]:
    values, broken = {}, []
    for number, line in enumerate(text.splitlines(), start=1):
        name, sep, value = line.partition("=")
        if sep:
            values[name.strip()] = value.strip()
        elif not line.lstrip().startswith("#"):
            broken.append(number)  # DeepSpeed splits every line at `=` and dies on one without, a blank one too
    folders = [p for p in values.get("PATH", "").split(os.pathsep) if p and "$" not in p]
    return {
        "file": target.shown(file),
        "names": sorted(values),
        "values": {n: redact.text(f"{n}={values[n]}").partition("=")[2] for n in PER_LAUNCH if n in values},
        "path_folders": len(folders),
        "path_missing": [p for p in folders if not os.path.isdir(p)],
        "broken_lines": broken,
    }


def deepspeed_env(facts: Facts) -> Iterator[Finding]:
    """A file of another launch or machine. Only DeepSpeed's own launcher reads it, and only for several nodes."""
    several = (facts.get("launch.nnodes") or 1) > 1 or facts["launch_files.hostfile"]
    for described in facts["launch_files.deepspeed_env"]:
        reasons = [f"{name}={value}" for name, value in described["values"].items()]
        missing = described["path_missing"]
        if missing and len(missing) * 2 >= described["path_folders"]:
            reasons.append(f"PATH names {len(missing)} folders that do not exist here ({', '.join(missing[:3])})")
        reasons += [f"line {number} is not NAME=VALUE" for number in described["broken_lines"][:1]]
        if reasons:
            yield Finding(
                "launch-deepspeed-env-stale",
                (
                    Evidence(
                        f"{'; '.join(reasons)}: exported to every node by the deepspeed launcher", described["file"]
                    ),
                ),
                severity=Severity.WARNING if several else Severity.INFO,
                source=f"probe:{ID}",
                details={"file": described["file"], "names": ", ".join(described["names"])},
            )


JUDGEMENTS = (deepspeed_env,)
