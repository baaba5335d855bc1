"""What the campaign showed: results.json, one object per fault and pass, and one log per fault."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from doctor import redact
from tests.faults.workspace import Workspace

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
LOGS = HERE / "logs"
LONGEST = 6000  # characters of a kept log; its end holds what ended the run


def read() -> dict[str, dict[str, Any]]:
    """{fault id or "healthy <base>": {pass: what it showed}}."""
    return dict(json.loads(RESULTS.read_text(encoding="utf-8"))) if RESULTS.exists() else {}


def write(name: str, step: str, shown: Mapping[str, Any]) -> None:
    """One result, beside what other processes record at the same time."""
    _change(name, lambda results: results.update({step: dict(shown)}))


def forget(name: str, step: str) -> None:
    """Take a result away that holds no longer."""
    _change(name, lambda results: results.pop(step, None))


def _change(name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    with (HERE / ".results.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = read()
        change(results.setdefault(name, {}))
        text = json.dumps(dict(sorted(results.items())), ensure_ascii=False, indent=1)
        fresh = RESULTS.with_suffix(".new")
        fresh.write_text(text + "\n", encoding="utf-8")
        fresh.replace(RESULTS)  # a reader never sees half of it


def keep_log(name: str, place: Workspace, log: str) -> None:
    LOGS.mkdir(exist_ok=True)
    (LOGS / f"{name}.log").write_text(shortened(neutral(place, log)), encoding="utf-8")


def neutral(place: Workspace, log: str) -> str:
    """A log with the paths of a user, nobody's secrets, and no machine's name."""
    text = redact.text(place.neutral(log))
    text = text.replace(str(place.root.parent), "/home/user")
    text = text.replace(place.environ["TORCH_EXTENSIONS_DIR"], "/home/user/.cache/torch_extensions")
    text = re.sub(r"/[^\s\"':,]*/tests/faults/serve\.py", "/home/user/serve.py", text)
    return re.sub(r"\[\w[\w.-]*:\d+:\d+\]|\[rank\d+\]:\[W[^\]]*\]", "[host]", text)


def shortened(text: str) -> str:
    """Head and tail; progress bars are dropped."""
    lines = [line.rpartition("\r")[2] for line in text.split("\n")]
    text = "\n".join(line for line in lines if not re.search(r"\d+%\|.*\|", line))
    if len(text) <= LONGEST:
        return text
    return text[: LONGEST // 4] + "\n[…]\n" + text[-LONGEST * 3 // 4 :]


def how(log: str) -> str:
    """The last line that names an error, shortened."""
    lines = [line.strip() for line in log.splitlines()]
    errors = [
        line
        for line in lines
        if re.match(r"(\[rank\d\]: )?[\w.]*(Error|Exception|Exit|Refused)\b.*:|.*not found", line)
    ]
    named = [line for line in errors if "ChildFailedError" not in line]  # which only says that a rank failed
    return (named or errors or [line for line in lines if line] or [""])[-1][:160]
