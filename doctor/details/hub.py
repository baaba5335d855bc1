"""Details of the hubs: what is needed from there, another way to it, and proxies."""

from __future__ import annotations

from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding
from doctor.hub import settings


def _need(facts: Facts) -> dict[str, Any] | None:
    return next(iter(facts["hub.needed"]), None)


def _serves(facts: Facts) -> set[str]:
    """Who answered: huggingface, its mirrors, modelscope, direct (without the proxy)."""
    others: dict[str, Any] = facts["hub.others"]
    return {name for name, answer in others.items() if answer.get("status", 500) < 400}


def mirror(facts: Facts, finding: Finding) -> str | None:
    urls = {"huggingface": settings.DEFAULT_ENDPOINT, **settings.MIRRORS}
    return next((urls[name] for name in ("huggingface", "hf-mirror") if name in _serves(facts)), None)


def model_dir(facts: Facts, finding: Finding) -> str | None:
    need = _need(facts)
    return f"models/{need['name'].rpartition('/')[2]}" if need and need["kind"] == "model" else None


def proxy(facts: Facts, finding: Finding) -> str | None:
    return facts["hub.proxy"]


def proxy_dead(facts: Facts, finding: Finding) -> bool:
    """Without the proxy somebody answers."""
    return facts["hub.proxy"] is not None and "direct" in _serves(facts)
