"""Secrets in files beside the recipe: which file, which line, which kind. Never the value."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor import redact
from doctor.facts import Facts
from doctor.findings import Evidence, Finding, Severity
from doctor.hub.settings import home
from doctor.launch_profile import LAUNCH_PROFILE
from doctor.target import Target

ID = "secrets"
AFTER: tuple[str, ...] = ("recipe",)

MAX_FILE = 1 << 18  # bytes read of one file; launch files and scripts are far smaller
MAX_FILES = 40
MAX_TOTAL = 1 << 21  # bytes read of all
_LAUNCH_FILES = (".deepspeed_env", ".env", str(LAUNCH_PROFILE))
_LOGS = ("*.log", "*.out", "*.err")
MAX_LOGS = 8  # the newest; what a launcher prints of its environment stands at the beginning
_SCRIPTS = ("*.sh", "*.sbatch", "*.slurm", "*.py", "*.yaml", "*.yml", "*.ipynb")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    values = facts["recipe.values"]
    files = [target.recipe]
    if isinstance(values.get("deepspeed"), str):
        files.append(target.workdir / values["deepspeed"])
    if isinstance(values.get("dataset_dir", "data"), str):
        files.append(target.workdir / values.get("dataset_dir", "data") / "dataset_info.json")
    files += [target.workdir / name for name in _LAUNCH_FILES]
    files += [home(target.environ) / ".deepspeed_env"]
    for pattern in _SCRIPTS:
        files += sorted(target.workdir.glob(pattern))
    files += _newest_logs(target.workdir)
    found: list[dict[str, Any]] = []
    unread: list[str] = []
    seen: set[Path] = set()
    spent = 0
    for file in files:
        if len(seen) >= MAX_FILES or spent >= MAX_TOTAL or not os.path.isfile(file):
            continue
        real = file.resolve()
        if real in seen:
            continue
        seen.add(real)
        spent += min(MAX_FILE, real.stat().st_size)
        try:
            found += [{"file": target.shown(file), "line": line, "kind": kind} for line, kind in _scan(file)]
        except OSError as error:
            unread.append(f"{target.shown(file)}: {error.strerror}")
    return {
        "secrets.found": found,
        "secrets.files": len(seen),
        "secrets.unread": unread,
        "secrets.arguments": [k for k, v in target.overrides.items() if redact.secrets_in_line(f"{k}={v}")],
    }


def _newest_logs(workdir: Path) -> list[Path]:
    written: dict[Path, float] = {}
    for pattern in _LOGS:
        for log in workdir.glob(pattern):
            with contextlib.suppress(OSError):
                written[log] = log.stat().st_mtime
    return sorted(written, key=lambda log: -written[log])[:MAX_LOGS]


def _scan(file: Path) -> Iterator[tuple[int, str]]:
    with file.open("rb") as stream:
        text = stream.read(MAX_FILE).decode("utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        for kind in redact.secrets_in_line(line):
            yield number, kind


def token_in_file(facts: Facts) -> Iterator[Finding]:
    for secret in facts["secrets.found"]:
        place = f"{secret['file']}:{secret['line']}"
        yield Finding(
            "sec-token-in-file",
            (Evidence(f"{secret['kind']} in plain text", place),),
            severity=Severity.WARNING,
            source=f"probe:{ID}",
            details={"file": secret["file"], "line": secret["line"], "kind": secret["kind"]},
        )


def token_on_command_line(facts: Facts) -> Iterator[Finding]:
    """KEY=VALUE arguments are seen in the process list, and loggers store the command line."""
    for key in facts["secrets.arguments"]:
        yield Finding(
            "sec-token-on-cmdline",
            (Evidence(f"{key} is given with its value on the command line", key),),
            severity=Severity.WARNING,
            source=f"probe:{ID}",
        )


JUDGEMENTS = (token_in_file, token_on_command_line)
