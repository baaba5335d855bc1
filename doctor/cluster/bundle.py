"""The collector as one zipapp: our own files, and of other packages only what is plain Python.

It runs under any Python from 3.10 on, with nothing installed. What is compiled stays at home: msgspec has a stand-in,
PyYAML's parser is the Python one, and what only judges or repairs (re2, hyperscan, uv) is not asked for.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from functools import cache
from pathlib import Path

OURS = ("doctor", "fixes", "knowledge_base")
AT_HOME = ("doctor/commands/", "doctor/report/", "doctor/rehearse/")  # what shows and starts; nodes only collect
THEIRS = ("packaging", "yaml", "platformdirs", "certifi", "pynvml")
STANDINS = {"msgspec": "doctor/cluster/standins/msgspec.py"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bytes for the same files
_MAIN = """\
import sys
if sys.version_info < (3, 10):
    sys.exit("the collector needs Python 3.10, this is %d.%d" % sys.version_info[:2])
from doctor.cluster.node_main import main
main()
"""


@cache
def build() -> bytes:
    """The zipapp's bytes, 0.8 MB."""
    files: dict[str, bytes] = {"__main__.py": _MAIN.encode()}
    for name in (*OURS, *THEIRS):
        files |= _sources(name)
    for name, path in STANDINS.items():
        files[f"{name}.py"] = files[path]
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), files[name], zipfile.ZIP_DEFLATED, 9)
    return kept.getvalue()


def _sources(name: str) -> dict[str, bytes]:
    """Name in the archive -> the Python source of a package or a single module."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{name} is not installed with the doctor")
    origin = Path(spec.origin)
    if origin.name != "__init__.py":
        return {origin.name: origin.read_bytes()}
    root = origin.parent
    return {
        str(path.relative_to(root.parent)): path.read_bytes()
        for path in sorted(root.rglob("*.py"))
        if "__pycache__" not in path.parts and not str(path.relative_to(root.parent)).startswith(AT_HOME)
    }
