"""Packages that LLaMA-Factory declares and that a training run imports only on demand.

Seen in runs of 0.9.1 and 0.9.5 whose environments lacked one of them at a time (tests/faults/catalogue/packages.py). From
0.9.3 on the launcher is a file of its own, and `train` imports no board.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doctor.facts import Facts
from doctor.recipe.model_values import at_least

_LAUNCHER_SINCE = "0.9.3"
# Package -> when it is imported, and the variable that demands it. 0.9.1 declares no torchdata, modelscope or hf-transfer.
_ALWAYS: dict[str, tuple[str, str | None]] = {
    "gradio": ("by LLaMA Board", None),
    "fastapi": ("by the API server", None),
    "uvicorn": ("by the API server", None),
    "sse-starlette": ("by the API server", None),
    "av": ("for videos and audio", None),
    "torchdata": ("with USE_V1", "USE_V1"),
    "modelscope": ("with USE_MODELSCOPE_HUB", "USE_MODELSCOPE_HUB"),
    "hf-transfer": ("with HF_HUB_ENABLE_HF_TRANSFER", "HF_HUB_ENABLE_HF_TRANSFER"),
    "sentencepiece": ("by tokenizers without a tokenizer.json", None),
    "fire": ("by scripts", None),
    "scipy": ("by metrics", None),
    "hf-xet": ("for downloads", None),
    "tiktoken": ("by tokenizers without a tokenizer.json", None),
}
_OLDER = {"einops": "by models that bring their own code", "networkx": "when torch compiles a model"}
_NEWER = {"tyro": "by scripts", "torchvision": "for images and videos"}
_ASKERS = ("llamafactory", "torch", "huggingface-hub")
# Package -> columns of the data that it is needed for.
_MEDIA = {"av": ("videos", "audios"), "torchvision": ("images", "videos")}


def of(asker: str, needed: str, facts: Facts) -> str | None:
    """When the package is imported that `asker` declares, if not by this run."""
    if asker not in _ASKERS:
        return None
    release = facts.get("llamafactory.version")
    newer = not isinstance(release, str) or at_least(release, _LAUNCHER_SINCE)
    when, variable = _ALWAYS.get(needed, ((_NEWER if newer else _OLDER).get(needed), None))
    entries: Mapping[str, Any] = facts.get("dataset.entries") or {}
    if any((entry.get("columns") or {}).get(tag) for entry in entries.values() for tag in _MEDIA.get(needed, ())):
        return None
    if needed == "matplotlib" and not (facts.get("recipe.values") or {}).get("plot_loss"):
        return "with plot_loss"
    # The board is imported by `train` as well where its package is there, and it imports the server's.
    if needed == "fastapi" and not newer and "gradio" in facts["packages.versions"]:
        return None
    set_to = str((facts.get("launch.environ") or {}).get(variable, "")) if variable else ""
    return None if set_to.lower() not in ("", "0", "false") else when
