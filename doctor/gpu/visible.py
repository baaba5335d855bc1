"""Which GPUs a launch sees: CUDA_VISIBLE_DEVICES over the devices of the machine. Pure."""

from __future__ import annotations

import re
from typing import Any

_ORDINAL = re.compile(r"[+-]?\d+")


def visible(value: str | None, devices: list[dict[str, Any]]) -> tuple[list[str], str | None]:
    """(what is seen, in order: "0", "1" or MIG UUIDs; the reason why fewer are seen than were named, or None).

    The rules are those of torch.cuda._parse_visible_devices and of the CUDA programming guide (CUDA_VISIBLE_DEVICES):
    numbers or UUID prefixes separated by commas; the list ends at the first that names no device; a repeated one
    empties it. A device that NVML lost is not seen. With MIG on, a card is seen as its first MIG device.
    """
    usable = {str(d["index"]): d for d in devices if not d.get("error")}
    if value is None:
        return [_first_part(d) or index for index, d in usable.items()], None
    seen: list[str] = []
    for word in value.split(","):
        word = word.strip()
        name = _named(word, usable)
        if name is None:
            if word in ("", "-1", "NoDevFiles") and not seen:
                return [], None  # the ways to say: no GPU
            return seen, f"{word or 'an empty entry'} names no GPU of this machine; what follows it is ignored"
        if name in seen:
            return [], f"{word} is named twice, which hides every GPU"
        seen.append(name)
    return seen, None


def _named(word: str, usable: dict[str, dict[str, Any]]) -> str | None:
    if word.startswith("MIG-"):
        parts = [str(part["uuid"]) for d in usable.values() for part in d.get("mig_devices") or ()]
        return next((uuid for uuid in parts if uuid.startswith(word)), None)
    if word.startswith("GPU-"):
        matching = [d for d in usable.values() if str(d.get("uuid")).startswith(word)]
        return (_first_part(matching[0]) or str(matching[0]["index"])) if len(matching) == 1 else None
    found = _ORDINAL.match(word)
    if not found or str(int(found[0])) not in usable:
        return None
    return _first_part(usable[str(int(found[0]))]) or str(int(found[0]))


def _first_part(device: dict[str, Any]) -> str | None:
    parts = device.get("mig_devices") or ()
    return str(parts[0]["uuid"]) if parts else None
