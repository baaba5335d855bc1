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
    "Hugging Face token": re.compile(r"(?<![A-Za-z0-9])(?P<keep>hf_|api_org_)[A-Za-z0-9]{20,}\b"),
    "wandb key (v1)": re.compile(r"\b(?P<keep>wandb_v1_)[A-Za-z0-9_]{20,}\b"),
    "OpenAI key": re.compile(r"\b(?P<keep>sk-(?:proj-|ant-)?)[A-Za-z0-9_-]{20,}\b"),
    "GitHub token": re.compile(r"\b(?P<keep>gh[pousr]_|github_pat_)[A-Za-z0-9_]{20,}\b"),
    "AWS access key": re.compile(r"\b(?P<keep>AKIA|ASIA)[A-Z0-9]{16}\b"),
    "Slack token": re.compile(r"\b(?P<keep>xox[abpr]-)[A-Za-z0-9-]{10,}\b"),
    "GitLab token": re.compile(r"\b(?P<keep>glpat-)[A-Za-z0-9_-]{20,}\b"),
    "PyPI token": re.compile(r"\b(?P<keep>pypi-)AgE[A-Za-z0-9_-]{20,}"),
    "Google API key": re.compile(r"\b(?P<keep>AIza)[A-Za-z0-9_-]{35}\b"),
    "Aliyun access key": re.compile(r"\b(?P<keep>LTAI)[A-Za-z0-9]{12,24}\b"),
    "ModelScope token": re.compile(r"\b(?P<keep>ms-)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
    "private key": re.compile(
        r"(?P<keep>-----BEGIN [A-Z ]*PRIVATE KEY-----)[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    ),
}
# A bare 40-digit hexadecimal word is a wandb key or a git commit: only a name before it tells. What stands before that
# name does not matter (HF_TOKEN, my.api_key), so nothing is matched there and a long line costs no more than its length.
NAMED = re.compile(
    r"(?i)(?P<keep>(?:(?:api[_-]?key|access[_-]?key|secret|token|passw(?:or)?d|wandb[_-]?key)(?:[\"']?\s*[:=]\s*|\s+)"
    r"|wandb\s+login\s+(?:--?[\w-]+\s+)*|\blogin\(\s*(?:(?:key|token)\s*=\s*)?|\bbearer\s+)[\"']?)"
    r"(?P<value>[A-Za-z0-9+/_.\-]{16,})"
)
_NAME = re.compile(r"(?i)(?:api[_-]?key|access[_-]?key|secret|token|passw(?:or)?d|wandb[_-]?key)$")
# A password may be any word, also a short one; not a call.
PASSWORD = re.compile(
    r"(?i)(?P<keep>passw(?:or)?d[\"']?\s*[:=]\s*[\"']?)"
    r"(?P<value>(?!(?:none|null|true|false)\b)[^\s\"',;$<>{}()\[\]*]{6,})(?!\S*\()"
)
IN_URL = re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]{0,20}://)[^\s/@:]+(?::[^\s/@]*)?@")
_LOGIN_IN_URL = re.compile(r"\b[a-z][a-z0-9+.-]{0,20}://[^\s/@:$<{]+:[^\s/@$<{*]+@")
_PLAIN_VALUE = re.compile(r"[a-z_.\-/]+|[A-Z_]+|[\d.]+")  # an identifier, a path or a number is no secret
# One of these stands in every line that shows a secret; most lines have none and cost a microsecond.
_HINTS = (
    "hf_", "api_org_", "wandb", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "akia", "asia", "xox",
    "glpat-", "pypi-", "aiza", "ltai", "ms-", "key", "secret", "token", "passw", "login(", "bearer", "@",
)  # fmt: skip
_IN_CODE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|[./~].*")  # a name with dots, a path


def text(value: str) -> str:
    """The same text with every secret-looking part replaced by `***`, its vendor prefix kept.

    Half a surrogate pair, which JSON can spell and UTF-8 cannot hold, becomes `?`.
    """
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode("utf-8")
    for shape in SHAPES.values():
        value = shape.sub(lambda m: m["keep"] + MASK, value)
    value = IN_URL.sub(lambda m: m["keep"] + MASK + "@", value)
    value = PASSWORD.sub(lambda m: m["keep"] + MASK, value)
    return NAMED.sub(lambda m: m[0] if _PLAIN_VALUE.fullmatch(m["value"]) else m["keep"] + MASK, value)


def document(value: Any) -> Any:
    """`text` applied to every string of a JSON-like value, keys included; a key counts as the name beside its value."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(str(key)): _beside(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [document(item) for item in value]
    return value


def _beside(name: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_beside(name, item) for item in value]
    if not isinstance(value, str):
        return document(value)
    masked = text(value)
    if masked != value or _NAME.search(name) is None:
        return masked
    return text(f"{name}={value}").partition(f"{text(name)}=")[2]


def secrets_in_line(line: str) -> list[str]:
    """Kinds of secret that a line of a file shows; empty when it shows none.

    Stricter than `text`, which may mask too much: a finding must not be raised by a name, a path or a commit.
    """
    lowered = line.lower()
    if not any(hint in lowered for hint in _HINTS):
        return []
    kinds = [kind for kind, shape in SHAPES.items() if shape.search(line)]
    if not kinds and any(_looks_random(m["value"]) for m in NAMED.finditer(line)):
        kinds.append("key or token")
    if not kinds and (PASSWORD.search(line) or _LOGIN_IN_URL.search(line)):
        kinds.append("password")
    return kinds


def _looks_random(value: str) -> bool:
    """Letters and digits mixed, as generated keys are; words, versions, paths and attributes of code are not."""
    if _PLAIN_VALUE.fullmatch(value) or _IN_CODE.fullmatch(value):
        return False
    digits = sum(c.isdigit() for c in value)
    return digits >= 3 and len(set(value)) >= 8 and any(c.isalpha() for c in value)
