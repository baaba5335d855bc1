"""`report`: one run's record as a page or as Markdown for an issue. Reads the record, writes the file, nothing else."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from doctor.errors import BadInput
from doctor.exit_codes import ExitCode
from doctor.report import run_record
from doctor.report.words import language
from doctor.train.run_directory import RUNS

STDOUT = "-"


def run(*, run: str | None, workdir: str | None, html: str | None, markdown: str | None, lang: str | None) -> int:
    if html is None and markdown is None:
        raise BadInput("Say what to write: --html FILE for a page, --markdown [FILE] for a GitHub issue.")
    lang = language(lang)
    folder = chosen(run, Path(workdir) if workdir else Path.cwd())
    try:
        record = run_record.read(folder)
    except OSError as error:
        raise BadInput(f"{folder} cannot be read ({error.strerror}).") from None
    if html is not None:
        from doctor.report.page.render import page

        _write(html, lambda: page(record, lang))
    if markdown is not None:
        from doctor.report.markdown import markdown as text

        _write(markdown, lambda: text(record, lang))
    return ExitCode.OK


def chosen(run: str | None, workdir: Path) -> Path:
    """The run directory: a path, the name of a run of the workdir, or its last run. Raises BadInput."""
    runs = workdir / RUNS
    if run is None:
        found = [path for path in _listed(runs) if _is_run(path)]
        if not found:
            raise BadInput(f"No run is recorded in {runs}; `skyt1-doctor train` makes one, or name a run directory.")
        return max(found, key=_order)
    for path in (Path(run), runs / run):
        if path.is_dir():
            if not _is_run(path):
                raise BadInput(f"{run} is not a run directory: it holds none of {', '.join(run_record.FILES)}.")
            return path
    raise BadInput(f"There is no run {run}: neither a directory nor a run in {runs}.")


def _listed(runs: Path) -> list[Path]:
    try:
        return list(runs.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInput(f"{runs} cannot be read ({error.strerror}).") from None


def _is_run(path: Path) -> bool:
    try:
        return any((path / name).exists() for name in run_record.FILES)
    except OSError:
        return False


def _order(path: Path) -> tuple[str, int]:
    """Runs are named by their time; of several in one second the number behind it tells (`20260102-030405-10`)."""
    stamp, _, number = path.name[:15], path.name[15:16], path.name[16:]
    return stamp, int(number) if number.isdigit() else 0


def _write(file: str, made: Callable[[], str]) -> None:
    """The text into the file at once, or to stdout for `-`. Raises BadInput where it cannot be written."""
    if file == STDOUT:
        sys.stdout.write(made())
        return
    path = Path(file)
    if path.is_dir():
        raise BadInput(f"{file} is a directory; name a file in it.")
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise BadInput(f"{file} cannot be written ({error.strerror}).") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as out:
            out.write(made())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise BadInput(f"{file} cannot be written ({error.strerror}).") from None
    finally:
        Path(temporary).unlink(missing_ok=True)
    print(f"skyt1-doctor: {path.absolute()}", file=sys.stderr)
