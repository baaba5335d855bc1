"""Masks what looks like a secret, in every text that leaves the doctor (DESIGN rule 7).

Patterns are those of the vendors' documented token shapes; a value is also masked when the name beside it says what it
is (HF_TOKEN=…, api_key: …). A mask keeps the vendor's prefix, so that a reader sees which secret it was.
"""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

# kind -> shape. Order matters: the more specific shape first.
SHAPES: dict[str, re.Pattern[str]] = {
    "Hugging Face token": re.compile(r"\b(?P<keep>hf_|api_org_)[A-Za-z0-9]{20,}\b"),
    "wandb key (v1)": re.compile(r"\b(?P<keep>wandb_v1_)[A-Za-z0-9_]{20,}\b"),
    "OpenAI key": re.compile(r"\b(?P<keep>sk-(?:proj-|ant-)?)[A-Za-z0-9_-]{20,}\b"),
    "GitHub token": re.compile(r"\b(?P<keep>gh[pousr]_|github_pat_)[A-Za-z0-9_]{20,}\b"),
    "AWS access key": re.compile(r"\b(?P<keep>AKIA|ASIA)[A-Z0-9]{16}\b"),
    "Slack token": re.compile(r"\b(?P<keep>xox[abpr]-)[A-Za-z0-9-]{10,}\b"),
    "ModelScope token": re.compile(r"\b(?P<keep>ms-)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
    "private key": re.compile(r"(?P<keep>-----BEGIN [A-Z ]*PRIVATE KEY-----)[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
}
# A bare 40-digit hexadecimal word is a wandb key or a git commit: only a name beside it tells.
NAMED = re.compile(
    r"(?i)(?P<keep>\b[\w.-]*(?:api[_-]?key|access[_-]?key|secret|token|passw(?:or)?d|wandb[_-]?key|wandb\s+login)"
    r"(?:[\"']?\s*[:=]\s*|\s+)[\"']?)(?P<value>[A-Za-z0-9+/_.\-]{16,})"
)
IN_URL = re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://)[^\s/@:]+(?::[^\s/@]*)?@")
_PLAIN_VALUE = re.compile(r"[a-z_.\-/]+|[A-Z_]+|[\d.]+")  # an identifier, a path or a number is no secret


def text(value: str) -> str:
    """The same text with every secret-looking part replaced by `***`, its vendor prefix kept."""
    for shape in SHAPES.values():
        value = shape.sub(lambda m: m["keep"] + MASK, value)
    value = IN_URL.sub(lambda m: m["keep"] + MASK + "@", value)
    return NAMED.sub(lambda m: m[0] if _PLAIN_VALUE.fullmatch(m["value"]) else m["keep"] + MASK, value)


def document(value: Any) -> Any:
    """`text` applied to every string of a JSON-like value, keys included."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(str(key)): document(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [document(item) for item in value]
    return value


def secrets_in_line(line: str) -> list[str]:
    """Kinds of secret that a line of a file shows; empty when it shows none."""
    kinds = [kind for kind, shape in SHAPES.items() if shape.search(line)]
    if not kinds and any(not _PLAIN_VALUE.fullmatch(m["value"]) for m in NAMED.finditer(line)):
        kinds.append("key or token")
    return kinds
