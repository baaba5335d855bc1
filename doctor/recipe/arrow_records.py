"""The records of Parquet and Arrow files, read by the target's own pyarrow in a process that ends with the time."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor.recipe import parquet_footer

_CHILD = Path(__file__).with_name("arrow_child.py")


class NotRead(Exception):
    """The records were not read, or not all of them; the message says why."""


def read(path: Path, kind: str, python: Path | None, until: float) -> Iterator[list[Any]]:
    """Lists of records. Raises NotRead where nobody could look, parquet_footer.NotParquet where pyarrow refuses the file."""
    if python is None:
        raise NotRead(f"records of {kind} files are not read without the target's interpreter")
    try:
        child = subprocess.Popen(
            [str(python), "-I", str(_CHILD), str(path), kind],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
    except OSError as error:
        raise NotRead(f"records of {kind} files are not read: {python} does not start ({error.strerror})") from None
    clock = threading.Timer(max(0.1, until - time.monotonic()), child.kill)
    clock.start()
    assert child.stdout is not None
    try:
        for line in child.stdout:
            told = _value(line)
            if isinstance(told, list):
                yield told
            elif isinstance(told, dict) and "broken" in told:
                raise parquet_footer.NotParquet(f"pyarrow cannot read it: {told['broken']}")
            elif isinstance(told, dict) and "rows" in told:
                return
        raise NotRead(f"not all records of this {kind} file were read")
    finally:
        clock.cancel()
        child.kill()
        child.stdout.close()
        child.wait()


def _value(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # cut off where the time ended
        return None
