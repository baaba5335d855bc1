"""What hash each weight file should have: from the hub, from its cache's own names, from the notes of a download."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_SHA256 = re.compile(r"[0-9a-f]{64}")
SECONDS = 15.0
LARGEST = 16 << 20  # bytes of a listing


class NoListing(Exception):
    """The hub gave no list of files; the message says why."""


def of_cache(folder: Path, files: Iterable[str]) -> dict[str, str]:
    """File -> hash as huggingface_hub keeps it: the name of the blob that a snapshot links to (its LFS id), or the note that
    a download into a plain folder leaves in .cache/huggingface/download."""
    found = {}
    for name in files:
        target = os.path.basename(os.path.realpath(folder / name)) if (folder / name).is_symlink() else ""
        if not _SHA256.fullmatch(target):
            try:
                note = folder / ".cache" / "huggingface" / "download" / f"{name}.metadata"
                target = note.read_text(encoding="utf-8").splitlines()[1].strip('" ')
            except (OSError, UnicodeDecodeError, IndexError):
                continue
        if _SHA256.fullmatch(target):
            found[name] = target
    return found


def of_hub(
    endpoint: str, repository: str, revision: str, token: str | None, proxy: Callable[[str], str | None], ca: str | None
) -> dict[str, str]:
    """File -> LFS hash from the hub's listing (`/api/models/…/tree/…`). Raises NoListing."""
    import httpx

    url = f"{endpoint}/api/models/{repository}/tree/{revision}?recursive=true"
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        with (
            httpx.Client(proxy=proxy(url), verify=ca or True, timeout=SECONDS, trust_env=False) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                raise NoListing(f"{endpoint} answered {answer.status_code} for the files of {repository}")
            raw = b""
            for part in answer.iter_bytes():
                raw += part
                if len(raw) > LARGEST:
                    raise NoListing(f"the listing of {repository} is larger than {LARGEST >> 20} MiB")
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise NoListing(f"{endpoint}: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from None
    return listed(raw)


def listed(raw: bytes) -> dict[str, str]:
    """File -> hash in a listing. Raises NoListing for anything that is none."""
    import json

    try:
        items: Any = json.loads(raw)
    except (ValueError, RecursionError):
        raise NoListing("the hub's listing is not JSON") from None
    if not isinstance(items, list):
        raise NoListing("the hub's listing is not a list")
    found = {}
    for item in items:
        lfs = item.get("lfs") if isinstance(item, dict) else None
        oid = lfs.get("oid") if isinstance(lfs, dict) else None
        if isinstance(oid, str) and _SHA256.fullmatch(oid) and isinstance(item.get("path"), str):
            found[item["path"]] = oid
    return found
