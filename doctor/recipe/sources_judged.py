"""Judgements of where an entry of dataset_info.json is loaded from: packages that its hub or its cloud asks for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, found

_finding = partial(found, "dataset")

# Beginning of cloud_file_name -> the package that fsspec opens it with (data/data_utils.py, setup_fs).
_CLOUDS = {"s3://": "s3fs", "gs://": "gcsfs", "gcs://": "gcsfs"}


def sources_served(facts: Facts) -> Iterator[Finding]:
    if facts["dataset.tokenized"] or not any(facts["dataset.requested"].values()):
        return
    installed, path = facts["packages.versions"], facts["dataset.info_path"] or "dataset_dir"
    for name, entry in facts["dataset.entries"].items():
        source, kind = entry["source"], entry["load_from"]
        if not source.strip():
            continue
        key = "cloud_file_name" if kind == "cloud_file" else f"{kind}_url"
        where = f"{path}:{entry['lines'].get(key, entry['lines'].get('', 1))}"
        if key in entry["unknown_keys"]:
            continue  # a release that does not read it
        details: dict[str, Any] = {"entry": name, "info_file": path, "key": key}
        package = next((needed for start, needed in _CLOUDS.items() if source.startswith(start)), None)
        if kind == "cloud_file" and package is None:
            what = f'cloud_file_name "{source[:80]}" of "{name}" begins with none of {", ".join(_CLOUDS)}'
            yield _finding("data-format-undeclared", what, where, **details)
        elif kind == "cloud_file" and package not in installed:
            what = f'"{name}" is loaded from {source[:80]}, for which {package} is needed; it is not installed'
            yield _finding("pkg-missing", what, where, **details, distribution=package)
        elif kind == "ms_hub" and "modelscope" not in installed:
            what = f'"{name}" is loaded from ModelScope by its ms_hub_url; modelscope is not installed'
            yield _finding("hub-modelscope-missing", what, where, **details)
        elif kind == "om_hub" and "openmind" not in installed:
            what = f'"{name}" is loaded from Openmind by its om_hub_url; openmind is not installed'
            yield _finding("pkg-missing", what, where, **details, distribution="openmind")


ALL = (sources_served,)
