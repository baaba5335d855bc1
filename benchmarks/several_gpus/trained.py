"""A recipe trained as a user does it, its log kept."""

from __future__ import annotations

import shutil
from pathlib import Path

from place import Workspace
from rows import Done, Out


def train(
    out: Out, python: Path, environ: dict[str, str], work: Workspace, what: str, limit: float, **sentences: str
) -> str:
    """Run `llamafactory-cli train` for at most `limit` seconds; the path of its log. `sentences`: key of the row -> what
    that key says whether the log has."""
    shutil.rmtree(work.root / "saves", ignore_errors=True)  # an earlier run's would pass for this one's
    done = Done([str(python.parent / "llamafactory-cli"), "train", work.RECIPE], work.root, environ, limit)
    name = out.keep(f"{out.part}-{what.replace(' ', '-')}.log", done.text)
    said = {key: sentence in done.text for key, sentence in sentences.items()}
    out.row(what, code=done.code, seconds=done.seconds, **said, trained=work.trained(), log=name)
    return str(out.folder.resolve() / name)
