"""Data sets of a hub that a run in offline mode cannot load: `datasets` has not made them here before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from doctor.hub import settings
from doctor.hub.needs import Need


def uncached(environ: Mapping[str, str], needs: Iterable[Need]) -> list[str]:
    """Names of those of which the cache has no folder owner___name. None are told where the cache cannot be listed."""
    folder = settings.datasets_cache(environ)
    wanted = [need.name for need in needs if need.kind == "dataset"]
    try:
        made = {_plain(name) for name in os.listdir(folder)} if wanted and folder.exists() else set()
    except OSError:
        return []
    return [name for name in wanted if _plain(name.replace("/", "___")) not in made]


def _plain(name: str) -> str:
    """Names are written in snake case, by rules that changed."""
    return "".join(sign for sign in name.lower() if sign.isalnum())
