"""What the LLaMA-Factory that will run says of itself, read from its source as syntax trees, never imported.

Every release and every fork is judged by its own rules this way: versions it requires.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

from doctor import syntax

_EDITABLE_MAPPING = re.compile(r"^MAPPING(?::[^=]*)?\s*=\s*(\{.*\})\s*$", re.M)


def package_root(name: str, site: Iterable[Path], python_path: Iterable[Path] = ()) -> Path | None:
    """The directory of the package that `import name` would load, or None.

    Follows what the interpreter follows: PYTHONPATH, the site directories, the lines of their .pth files, and the
    finders that editable installs leave behind (setuptools' `__editable___*_finder.py`).
    """
    site = list(site)
    for folder in [*python_path, *site]:
        if (folder / name / "__init__.py").is_file() or (
            (folder / name).is_dir() and any((folder / name).glob("*.py"))
        ):
            return folder / name
    for folder in site:
        for candidate in _editable_roots(name, folder):
            if candidate.is_dir():
                return candidate
    return None


def _editable_roots(name: str, folder: Path) -> Iterator[Path]:
    for pth in sorted(folder.glob("*.pth")):
        for line in pth.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip() and not line.startswith(("import ", "import\t", "#")):
                yield (folder / line.strip() / name).resolve()
    for finder in sorted(folder.glob("__editable___*_finder.py")):
        found = _EDITABLE_MAPPING.search(finder.read_text(encoding="utf-8", errors="replace"))
        if found:
            try:
                mapping = syntax.literal(found[1])
            except (ValueError, SyntaxError):
                continue
            if name in mapping:
                yield Path(mapping[name])


def text(path: Path) -> str:
    """A source file; empty where it is not there or cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def source_url(dist_info: Path) -> str | None:
    """Where a distribution was installed from when it was not an index: `direct_url.json` of PEP 610."""
    try:
        url = json.loads((dist_info / "direct_url.json").read_text(encoding="utf-8")).get("url")
    except (OSError, ValueError, AttributeError):
        return None
    parsed = urlparse(url or "")
    return unquote(parsed.path) if parsed.scheme == "file" else url


def required_versions(package: Path) -> dict[str, str]:
    """`{package: specifier}` that LLaMA-Factory's own check enforces at start (`extras/misc.py: check_dependencies`)."""
    tree = syntax.tree((package / "extras" / "misc.py").read_text(encoding="utf-8"))
    check = next((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "check_dependencies"), None)
    required = {}
    for node in ast.walk(check) if check else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            first = node.args[0]
            if node.func.id in ("require_version", "check_version") and isinstance(first, ast.Constant):
                found = re.match(r"([A-Za-z0-9_.-]+)\s*(.*)", str(first.value))
                if found:
                    required[found[1]] = found[2]
    return required


def own_version(package: Path) -> str | None:
    """The VERSION that the package prints (`extras/env.py`), which a fork may keep while its dist-info says another."""
    try:
        found = re.search(r"^VERSION\s*=\s*[\"']([^\"']+)", (package / "extras" / "env.py").read_text("utf-8"), re.M)
    except OSError:
        return None
    return found[1] if found else None
