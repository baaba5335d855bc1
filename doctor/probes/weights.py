"""`check --deep`: the hash of every weight file against the one that the hub, or the download itself, says it has."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from doctor.facts import Facts, Unknown
from doctor.findings import Evidence, Finding
from doctor.hub import settings
from doctor.probes import Judgement
from doctor.recipe import safetensors_header
from doctor.target import Target

ID = "weights"
AFTER: tuple[str, ...] = ("recipe", "model", "hub")
DEEP = True
SOURCE = f"probe:{ID}"

_FACTS = ("expected", "hashes", "origin")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`weights.expected` and `.hashes`: file -> SHA-256; `.origin`: who says what is expected, `.repository`."""
    from doctor.deep import hashing

    folder = facts["model.path"] if facts["model.local"] else facts.get("model.cached_path")
    if not folder:
        return {f"weights.{name}": Unknown("the model is not on this machine") for name in _FACTS}
    place, files = Path(folder), list(facts["model.weights"]["files"])
    begun = time.monotonic()
    expected, origin, why = _expected(target, facts, place, files)
    if not expected:
        return {f"weights.{name}": Unknown(why) for name in _FACTS}
    until = begun + target.budget * 0.9
    tell = partial(target.tell, "reading_weights") if target.tell else None
    hashes = hashing.every([place / name for name in expected], until, len(os.sched_getaffinity(0)), tell)
    return {
        "weights.folder": folder,
        "weights.repository": _repository(facts),
        "weights.expected": expected,
        "weights.origin": origin,
        "weights.hashes": {path.name: digest for path, digest in hashes.items()},
    }


def _repository(facts: Facts) -> str | None:
    """The hub id that the folder is a copy of, where its name or its configuration tells."""
    if facts["model.kind"] == "hub":
        return str(facts["model.name"])
    named = (facts.get("model.config") or {}).get("_name_or_path")
    return named if isinstance(named, str) and settings.is_repo_id(named) and "/" in named else None


def _expected(target: Target, facts: Facts, folder: Path, files: list[str]) -> tuple[dict[str, str], str, str]:
    """(file -> hash, who says so, why there is none). What the download noted needs no network."""
    from doctor.deep import hub_files

    noted = hub_files.of_cache(folder, files)
    if noted:
        return noted, "download", ""
    repository = _repository(facts)
    if repository is None:
        return {}, "", "of which model on a hub this is a copy is not known"
    environ = target.environ
    if target.offline or settings.offline_variable(environ) or settings.other_hub(environ):
        return {}, "", "the hub was not asked"
    try:
        token = settings.read_token(environ)[0]
    except OSError:
        token = None
    usable = token if token and not settings.token_fault(token) else None
    revision = str(facts["recipe.values"].get("model_revision") or "main")
    try:
        known = hub_files.of_hub(
            settings.endpoint(environ), repository, revision, usable,
            lambda url: settings.proxy_for(url, environ), facts.get("hub.ca_bundle"),
        )  # fmt: skip
    except hub_files.NoListing as error:
        return {}, "", str(error)
    return {name: known[name] for name in files if name in known}, "hub", f"{repository} has no such files on the hub"


def weights_as_on_hub(facts: Facts) -> Iterator[Finding]:
    """A file whose hash differs was damaged, or changed. A folder of which no file is the hub's is another model."""
    expected, hashes, origin = facts["weights.expected"], facts["weights.hashes"], facts["weights.origin"]
    read = {name: digest for name, digest in hashes.items() if digest is not None}
    wrong = [name for name, digest in sorted(read.items()) if digest != expected[name]]
    already = {fault["file"] for fault in facts["model.weights"]["faults"]}
    if not wrong or set(wrong) <= already:
        return
    if origin == "hub" and facts["model.local"] and 2 * len(wrong) >= len(read):
        return  # fine-tuned from it, or named after it
    folder, repository = facts["weights.folder"], facts["weights.repository"]
    evidence = tuple(
        Evidence(
            f"its SHA-256 begins with {read[name][:12]}, the {'hub says' if origin == 'hub' else 'download noted'} "
            f"{expected[name][:12]}",
            f"{folder}/{name}",
        )
        for name in wrong[:8]
    )
    details: dict[str, Any] = {"path": folder, "model_path": folder, "files": wrong, "file": wrong[0], "missing": wrong}
    details |= {"bad_file": f"{folder}/{wrong[0]}", "kind": safetensors_header.NOT_SAFETENSORS}
    details |= {"repo": repository} if repository else {}
    yield Finding("model-corrupt-safetensors", evidence, source=SOURCE, details=details)


def all_read(facts: Facts) -> Iterator[Finding]:
    """Raises UnknownFact where files were not read in time, so that the report says that not all was compared."""
    late = [name for name, digest in facts["weights.hashes"].items() if digest is None]
    if late:
        from doctor.facts import UnknownFact

        raise UnknownFact("weights.hashes", f"{len(late)} of {len(facts['weights.hashes'])} files not read in time")
    yield from ()


JUDGEMENTS: tuple[Judgement, ...] = (weights_as_on_hub, all_read)
