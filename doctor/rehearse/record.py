"""What a rehearsal showed, and where it is kept: `<workdir>/.skyt1-doctor/rehearsals/<fingerprint>/`.

rehearsal.json   the Rehearsal below, as JSON
recipe.yaml      the recipe as rehearsed
*.log            what each stage wrote
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec

from doctor import redact
from doctor.findings import Finding
from knowledge_base.schema import Text

REHEARSALS = Path(".skyt1-doctor") / "rehearsals"
FILE = "rehearsal.json"
KEPT = 8  # rehearsals whose records and logs stay; older ones go

PASSED, FAILED, NOT_REHEARSED = "passed", "failed", "not rehearsed"


class Stage(msgspec.Struct, omit_defaults=True):
    """One stage: `id` is model, train, evaluate, save, resume or load. `skipped` says why it was not run."""

    id: str
    passed: bool = False
    seconds: float = 0.0
    skipped: Text | None = None
    log: str | None = None  # relative to the working directory

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"id": self.id, "passed": self.passed, "seconds": self.seconds}
        if self.skipped is not None:
            told["skipped"] = {"en": self.skipped.en, "zh": self.skipped.zh}
        return told if self.log is None else {**told, "log": self.log}


class Rehearsal(msgspec.Struct):
    """`verdict` is passed, failed, or not rehearsed where nothing could be run (`not_rehearsed` says why).

    `unrecognised` is a failure whose cause is not known, as `diagnose` gives it. `directory` is where the record lies,
    relative to the working directory.
    """

    verdict: str
    seconds: float
    fingerprint: str
    directory: str
    cached: bool = False
    stages: list[Stage] = []
    not_rehearsed: list[Text] = []
    findings: list[Finding] = []
    unrecognised: dict[str, Any] | None = None
    limit: dict[str, Any] = {}  # what was made smaller: key -> {"recipe": value, "rehearsed": value}

    @property
    def passed(self) -> bool:
        return self.verdict == PASSED

    def to_json(self, lang: str = "en") -> dict[str, Any]:
        """The value of the key "rehearsal" of a document, redacted; findings with their texts in `lang`."""
        from doctor.report import document

        return redact.document(
            {
                "passed": self.passed,
                "verdict": self.verdict,
                "seconds": round(self.seconds, 1),
                "fingerprint": self.fingerprint,
                "directory": self.directory,
                "cached": self.cached,
                "stages": [stage.to_json() for stage in self.stages],
                "not_rehearsed": [{"en": text.en, "zh": text.zh} for text in self.not_rehearsed],
                "changed": self.limit,
                "findings": [document.describe(finding, lang) for finding in self.findings],
                "unrecognised": self.unrecognised,
            }
        )


def folder(workdir: Path, fingerprint: str) -> Path:
    return workdir / REHEARSALS / fingerprint


def write(rehearsal: Rehearsal, path: Path, lang: str = "en") -> None:
    """rehearsal.json, for the record and for people. `state.json` beside it is what `read` gives back."""
    text = msgspec.json.format(msgspec.json.encode(rehearsal.to_json(lang)), indent=1)
    path.mkdir(parents=True, exist_ok=True)
    (path / FILE).write_bytes(text + b"\n")
    (path / "state.json").write_bytes(msgspec.json.encode(redact.document(msgspec.to_builtins(rehearsal))))


def read(path: Path) -> Rehearsal | None:
    """The rehearsal of an earlier call; None where there is none or it was written by another release."""
    try:
        kept = msgspec.json.decode((path / "state.json").read_bytes(), type=Rehearsal)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None
    kept.cached = True
    return kept


def prune(workdir: Path, but: str) -> None:
    """Keep the youngest KEPT rehearsals, `but` among them; a folder that cannot be removed stays."""
    try:
        found = [p for p in (workdir / REHEARSALS).iterdir() if p.is_dir() and p.name != but]
    except OSError:
        return
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in found[KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
