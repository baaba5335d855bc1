"""Where a measurement is kept: OUT/rows.jsonl, one object a line, and logs beside it; both written as they happen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

LOG_BYTES = 2 << 20  # of one log, from its end
PATIENCE = (
    "SEVERAL_GPUS_PATIENCE"  # variable: times the usual limits, for a rehearsal on a machine that does other work
)


def limit(seconds: float) -> float:
    return seconds * float(os.environ.get(PATIENCE, "1"))


class Out:
    def __init__(self, folder: Path, part: str) -> None:
        self.folder, self.part = folder, part
        folder.mkdir(parents=True, exist_ok=True)

    def row(self, what: str, **values: Any) -> dict[str, Any]:
        found = {"part": self.part, "what": what, **values}
        with (self.folder / "rows.jsonl").open("a") as file:
            file.write(json.dumps(found, ensure_ascii=False) + "\n")
        shown = {key: value for key, value in values.items() if not isinstance(value, (dict, list)) or len(value) < 4}
        print(
            f"{time.strftime('%H:%M:%S')} {self.part} {what}: {json.dumps(shown, ensure_ascii=False)[:400]}", flush=True
        )
        return found

    def keep(self, name: str, text: str) -> str:
        """A log or document, cut at its front; its name."""
        (self.folder / name).write_text(text[-LOG_BYTES:], encoding="utf-8", errors="replace")
        return name


class Done:
    """A command that has ended, or was ended at its limit with all that it started."""

    def __init__(self, argv: list[str], cwd: Path, environ: dict[str, str], seconds: float) -> None:
        begun = time.monotonic()
        with subprocess.Popen(
            argv, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", start_new_session=True,
        ) as process:  # fmt: skip
            try:
                self.out, self.err = process.communicate(timeout=limit(seconds))
            except subprocess.TimeoutExpired:
                end(process)
                self.out, self.err = process.communicate()
            self.code = process.returncode
        self.seconds = round(time.monotonic() - begun, 1)

    @property
    def text(self) -> str:
        return self.out + self.err

    def document(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.out))
        except ValueError:
            return {"not_json": self.text[-2000:]}


def end(process: subprocess.Popen[Any]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def causes(document: dict[str, Any]) -> list[str]:
    """`cause (severity, rank)` of each finding."""
    return [
        f"{found['cause']} ({found['severity']}"
        + (f", rank {found['rank']})" if found.get("rank") is not None else ")")
        for found in document.get("findings", ())
    ]
