"""The target's pip index settings as environment variables for uv, which does not read pip's.

Read in pip's order: system, user and environment pip.conf, PIP_CONFIG_FILE, PIP_* variables. Values may hold
credentials: they go through the child's environment only, never into arguments, output or a journal.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

PYPI = "https://pypi.org/simple"  # what pip and uv ask where nothing is configured
# uv's own settings win: a user who has configured uv has said which index it asks.
_UV_INDEX = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_CONFIG_FILE")


def pip_settings(prefix: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """pip's settings of [global] and [install] with dashes in their names, later files over earlier ones."""
    settings: dict[str, str] = {}
    for path in _config_files(prefix, environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself stops on such a file and says so; the index it names is unknown
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def _config_files(prefix: Path, environ: Mapping[str, str]) -> list[Path]:
    home = Path(environ.get("HOME") or Path.home())
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    own = environ.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:
        return []
    system = [Path(d) / "pip" / "pip.conf" for d in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if d]
    found = [
        *system,
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        config / "pip" / "pip.conf",
        prefix / "pip.conf",
    ]
    return [*found, Path(own)] if own else found


def uv_options(prefix: Path, environ: Mapping[str, str]) -> list[str]:
    """What uv takes as an option only: that no index is to be asked."""
    said = (pip_settings(prefix, environ).get("no-index", ""), environ.get("UV_NO_INDEX", ""))
    return ["--no-index"] if any(text.lower() in ("1", "true", "yes", "on") for text in said) else []


def uv_environment(prefix: Path, environ: Mapping[str, str], offline: bool = False) -> dict[str, str]:
    """The environment that makes uv ask where pip would ask."""
    result = {name: value for name, value in environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    result.update({"UV_NO_PROGRESS": "1", "NO_COLOR": "1"})
    if offline:
        result["UV_OFFLINE"] = "1"
    settings = pip_settings(prefix, environ)
    if not any(environ.get(name) for name in _UV_INDEX):
        if index := settings.get("index-url"):
            result["UV_DEFAULT_INDEX"] = index
        if extra := settings.get("extra-index-url"):
            # Of one version uv takes the files of the first index alone, where pip takes the best file of all: a further
            # index may hold nothing but the pure wheel of what has a library in it (soundfile).
            result["UV_INDEX"] = " ".join([settings.get("index-url", PYPI), *extra.split()])
            # pip takes the best version of all indexes; uv would stop at the first index that knows the name.
            result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    if (links := settings.get("find-links")) and not environ.get("UV_FIND_LINKS"):
        result["UV_FIND_LINKS"] = ",".join(links.split())
    if hosts := settings.get("trusted-host"):
        result.setdefault("UV_INSECURE_HOST", " ".join(hosts.split()))
    if proxy := settings.get("proxy"):
        result.setdefault("HTTPS_PROXY", proxy)
        result.setdefault("HTTP_PROXY", proxy)
    if certificate := settings.get("cert"):
        result.setdefault("SSL_CERT_FILE", certificate)
    return result


# What uv says when a source offers another file of the pinned version than the one whose hash is known.
HASH_MISMATCH = "Hash mismatch"
_OTHER_SOURCES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX_STRATEGY")


def main_index_only(environment: Mapping[str, str]) -> dict[str, str] | None:
    """The same environment for uv without further indexes and folders of wheels; None where it names none.

    A house that builds some wheels itself offers files of the same version with other hashes, and uv looks no further:
    a file that is pinned by its hash may still be had from the main index."""
    left = {name: value for name, value in environment.items() if name not in _OTHER_SOURCES}
    return left if len(left) < len(environment) else None
