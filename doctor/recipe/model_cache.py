"""Where a hub model may already lie on this machine: the caches of huggingface_hub and ModelScope, by their layouts.

Hugging Face: https://huggingface.co/docs/huggingface_hub/guides/manage-cache. ModelScope keeps plain folders, with dots
of the name written as three underscores in older releases.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def hugging_face_root(environ: Mapping[str, str], cache_dir: str | None = None) -> Path:
    """The cache that the target uses: recipe's cache_dir, HF_HUB_CACHE, HF_HOME/hub, else under the home directory."""
    if cache_dir:
        return Path(cache_dir)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(name):
            return Path(environ[name]).expanduser()
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser() / "hub"
    base = Path(environ["XDG_CACHE_HOME"]) if environ.get("XDG_CACHE_HOME") else _home(environ) / ".cache"
    return base / "huggingface" / "hub"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or "/")


def snapshots(repository: str, revision: str, root: Path) -> list[Path]:
    """Snapshot folders of a model in the Hugging Face cache; the one that `revision` names first."""
    folder = root / ("models--" + repository.replace("/", "--"))
    found: list[Path] = []
    try:
        commit = (folder / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        commit = revision
    if os.path.isdir(folder / "snapshots" / commit):
        found.append(folder / "snapshots" / commit)
    return found


def modelscope_folders(repository: str, environ: Mapping[str, str]) -> list[Path]:
    """Folders in which ModelScope may have put this model."""
    if environ.get("MODELSCOPE_CACHE"):
        roots = [Path(environ["MODELSCOPE_CACHE"]).expanduser()]
    else:
        roots = [_home(environ) / ".cache" / "modelscope"]
    owner, _, name = repository.partition("/")
    if not name:
        return []
    spelt = dict.fromkeys((f"{owner}/{name}", f"{owner}/{name.replace('.', '___')}"))
    places = (root / middle / s for root in roots for middle in ("hub/models", "hub", "models", "") for s in spelt)
    return [place for place in dict.fromkeys(places) if os.path.isfile(place / "config.json")]
