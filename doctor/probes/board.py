"""LLaMA Board (`llamafactory-cli webui`): training does without it, so what stands in its way is only worth knowing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

from packaging.version import InvalidVersion, Version

from doctor.facts import Facts
from doctor.findings import Finding, Severity, found
from doctor.probes import Judgement
from doctor.target import Target

ID = "board"
AFTER: tuple[str, ...] = ("packages",)

_found = partial(found, ID)


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`board.port`: the one that GRADIO_SERVER_PORT names, None where gradio may choose; `board.port_busy` of it."""
    given = target.environ.get("GRADIO_SERVER_PORT", "")
    port = int(given) if given.isdigit() and 0 < int(given) < 65536 else None
    return {"board.port": port, "board.port_busy": port is not None and _busy(port)}


def _busy(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def gradio_fits_pydantic(facts: Facts) -> Iterator[Finding]:
    """gradio 4 cannot describe its own pages with pydantic 2.11 and later."""
    versions = facts["packages.versions"]
    try:
        gradio, pydantic = Version(versions["gradio"]), Version(versions["pydantic"])
    except (KeyError, InvalidVersion):
        return
    if gradio.major == 4 and pydantic >= Version("2.11"):
        what = f"gradio {gradio} with pydantic {pydantic}: every page of the web board is an error; training needs none"
        yield _found("pkg-gradio-pydantic-mismatch", what, "gradio", Severity.INFO)


def port_free(facts: Facts) -> Iterator[Finding]:
    if "gradio" in facts["packages.versions"] and facts["board.port_busy"]:
        what = f"GRADIO_SERVER_PORT={facts['board.port']} is in use: the web board would not start; training needs none"
        yield _found("launch-port-in-use", what, "GRADIO_SERVER_PORT", Severity.INFO)


JUDGEMENTS: tuple[Judgement, ...] = (gradio_fits_pydantic, port_free)
