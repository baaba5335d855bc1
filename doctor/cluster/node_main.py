"""The zipapp's command: `doctor.pyz collect REQUEST | port SEED | recipe FOLDER NODES RESTART`."""

from __future__ import annotations

import sys


def main() -> None:
    word, *arguments = sys.argv[1:] or ["collect"]
    if word == "collect":
        from doctor.cluster.collector import main as collect

        collect(arguments)
    elif word in ("port", "recipe"):
        from doctor.cluster import on_node

        (on_node.port_command if word == "port" else on_node.recipe_command)(arguments)
    else:
        sys.exit(f"doctor.pyz does not know {word}")
