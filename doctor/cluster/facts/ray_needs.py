"""What LLaMA-Factory asks of Ray for each worker, read in its source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from doctor.facts import Facts, Unknown
from doctor.probes import Judgement
from doctor.target import Target

ID = "ray"
AFTER: tuple[str, ...] = ("llamafactory",)

_BUNDLE = re.compile(r"bundle\s*=\s*\{\s*[\"']CPU[\"']\s*:\s*(?P<cpus>\d+)\s*\}")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`ray.bundle_cpus`: CPUs of the placement group's bundle for one GPU; None where it makes no such group."""
    root = facts["llamafactory.root"]
    if root is None:
        return {"ray.bundle_cpus": Unknown("LLaMA-Factory is not installed in the target")}
    try:
        text = (Path(root) / "train" / "trainer_utils.py").read_text(encoding="utf-8")
    except OSError as error:
        return {"ray.bundle_cpus": Unknown(f"trainer_utils.py cannot be read ({error.strerror})")}
    found = _BUNDLE.search(text)
    return {"ray.bundle_cpus": int(found["cpus"]) if found else None}


JUDGEMENTS: tuple[Judgement, ...] = ()
