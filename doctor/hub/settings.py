"""Settings of the hub as huggingface_hub and LLaMA-Factory of the target read them from the launch environment.

Pure functions of an environment and a home directory. The rules are those of `huggingface_hub/constants.py` and
`utils/_auth.py` (0.23 to 1.33, read in their sources), and of `llamafactory/extras/misc.py:use_modelscope`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_ENDPOINT = "https://huggingface.co"
# Mirrors that users in mainland China set as HF_ENDPOINT or use instead of the hub, without credentials.
MIRRORS = {"hf-mirror": "https://hf-mirror.com", "modelscope": "https://www.modelscope.cn"}

# Certificates of the system, where a company's own authority is installed (Debian, Red Hat, SUSE).
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)

_TRUE = {"1", "ON", "YES", "TRUE"}
_REPO_ID = re.compile(r"(?:[\w][\w.-]*/)?[\w][\w.-]{0,95}")


def endpoint(environ: Mapping[str, str]) -> str:
    """HF_ENDPOINT without trailing slashes; an empty value stays empty, as huggingface_hub keeps it."""
    return environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")


def offline_variable(environ: Mapping[str, str]) -> str | None:
    """The variable that puts huggingface_hub into offline mode, or None."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        value = environ.get(name)
        if value:  # the first that is set and not empty decides: `HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE`
            return name if is_true(value) else None
    return None


def datasets_cache(environ: Mapping[str, str]) -> Path:
    """Where `datasets` keeps what it has made."""
    given = environ.get("HF_DATASETS_CACHE")
    return Path(os.path.expanduser(given)) if given else hf_home(environ) / "datasets"


def offline_variable_of_data(environ: Mapping[str, str]) -> str | None:
    """The one that keeps `datasets` from the hub: its own where it is set, else the hub's."""
    own = environ.get("HF_DATASETS_OFFLINE")
    if own is not None:
        return "HF_DATASETS_OFFLINE" if is_true(own) else None
    return "HF_HUB_OFFLINE" if is_true(environ.get("HF_HUB_OFFLINE")) else None


def is_true(value: str | None) -> bool:
    """As `huggingface_hub.constants._is_true`."""
    return value is not None and value.upper() in _TRUE


def other_hub(environ: Mapping[str, str]) -> str | None:
    """modelscope | openmind when LLaMA-Factory is told to download from there."""
    for name, hub in (("USE_MODELSCOPE_HUB", "modelscope"), ("USE_OPENMIND_HUB", "openmind")):
        if environ.get(name, "0").lower() in ("true", "1"):
            return hub
    return None


def is_repo_id(name: str) -> bool:
    """Whether a model name is one that a hub could know (`owner/name` or `name`), not a path."""
    return bool(_REPO_ID.fullmatch(name)) and ".." not in name and "--" not in name and not name.endswith(".git")


def home(environ: Mapping[str, str]) -> Path:
    """The user's home as the launch environment says it."""
    return Path(environ.get("HOME") or os.path.expanduser("~"))


def hf_home(environ: Mapping[str, str]) -> Path:
    cache = environ.get("XDG_CACHE_HOME") or str(home(environ) / ".cache")
    return _expanded(environ.get("HF_HOME") or os.path.join(cache, "huggingface"), environ)


def hub_cache(environ: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps models (HF_HUB_CACHE, older HUGGINGFACE_HUB_CACHE, HF_HOME/hub)."""
    given = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    return _expanded(given, environ) if given else hf_home(environ) / "hub"


def token_path(environ: Mapping[str, str]) -> Path:
    given = environ.get("HF_TOKEN_PATH")
    return _expanded(given, environ) if given else hf_home(environ) / "token"


def _expanded(path: str, environ: Mapping[str, str]) -> Path:
    filled = re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: environ.get(m[1] or m[2], m[0]), path)
    return home(environ) / filled[2:] if filled.startswith("~/") else Path(filled)


def read_token(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """(token as huggingface_hub sends it, where it stands), (None, None) without one. Never printed, never a fact.

    Line breaks and outer blanks are removed as `_clean_token` does. Raises OSError when the file cannot be read.
    """
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if environ.get(name):
            return clean(environ[name]), name
    try:
        return clean(token_path(environ).read_text(encoding="utf-8", errors="replace")), str(token_path(environ))
    except FileNotFoundError:
        return None, None


def clean(raw: str) -> str | None:
    return raw.replace("\r", "").replace("\n", "").strip() or None


def token_fault(token: str | None) -> str | None:
    """Why a token cannot be valid, or None. Says nothing of the token itself.

    huggingface_hub sends it in a header, so a blank or a character outside latin-1 cannot work with any server; hub
    tokens begin with hf_ or api_org_ (https://huggingface.co/docs/hub/security-tokens).
    """
    if token is None:
        return "it is empty"
    if any(c.isspace() for c in token):
        return "it has a blank inside"
    if not token.isascii() or not token.isprintable():
        return "it has characters that no token has"
    if token[0] in "'\"" or token[-1] in "'\"":
        return "it is in quotation marks"
    if token.lower().startswith(("bearer", "token=", "hf_token")):
        return "it begins with a word that is not part of a token"
    body = token.removeprefix("hf_").removeprefix("api_org_")
    if len(body) < 20 or len(set(body)) < 6 or "..." in body or "your" in body.lower():
        return "it is a placeholder or cut off"
    return None


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that requests and httpx use for this URL: `<scheme>_proxy`, `all_proxy`, unless NO_PROXY names the host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _bypassed(host, parts.port, _either(environ, "no_proxy") or ""):
        return None
    chosen = _either(environ, f"{parts.scheme}_proxy") or _either(environ, "all_proxy")
    if not chosen:
        return None
    return chosen if "://" in chosen else f"http://{chosen}"


def _either(environ: Mapping[str, str], name: str) -> str | None:
    """Lower case wins, as in urllib.request.getproxies_environment."""
    return environ.get(name) or environ.get(name.upper()) or None


def _bypassed(host: str, port: int | None, rules: str) -> bool:
    for rule in (part.strip().lower() for part in rules.split(",")):
        if rule == "*":
            return True
        name = rule.removeprefix("*").lstrip(".")
        if name and (host.lower() == name or host.lower().endswith(f".{name}") or f"{host.lower()}:{port}" == name):
            return True
    return False


def ca_bundle(environ: Mapping[str, str], requests_client: bool) -> str | None:
    """The file or folder of trusted certificates that the target's client is told to use, or None for its own.

    huggingface_hub below 1.0 talks through requests (REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE), from 1.0 on through httpx
    (SSL_CERT_FILE, SSL_CERT_DIR).
    """
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if requests_client else ("SSL_CERT_FILE", "SSL_CERT_DIR")
    return next((environ[name] for name in names if environ.get(name)), None)


def system_bundle(ca: str | None) -> str | None:
    """The system's certificates, unless they are in use already."""
    return next((bundle for bundle in _SYSTEM_BUNDLES if bundle != ca and os.path.isfile(bundle)), None)
