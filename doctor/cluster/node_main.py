"""The zipapp's command on a node: `doctor.pyz collect REQUEST`. Other words of a job script are added here."""

from __future__ import annotations

import sys


def main() -> None:
    word, *arguments = sys.argv[1:] or ["collect"]
    sys.argv[1:] = arguments
    if word == "collect":
        from doctor.cluster.collector import main as collect

        collect()
    else:
        sys.exit(f"doctor.pyz does not know {word}")
