"""A thing that only a hub has, and the file that tells whether it can be had."""

from __future__ import annotations

import msgspec


class Need(msgspec.Struct, frozen=True):
    """A model or dataset that only a hub has. `kind` is model or dataset, `key` the recipe key that names it."""

    kind: str
    name: str
    key: str
    revision: str = "main"

    def path(self, modelscope: bool = False) -> str:
        """The smallest file that tells whether it can be had: config.json of a model, the card of a dataset."""
        file = "README.md" if self.kind == "dataset" else "config.json"
        if modelscope:
            revision = "master" if self.revision == "main" else self.revision  # llamafactory/extras/misc.py
            return f"/{self.kind}s/{self.name}/resolve/{revision}/{file}"
        return f"/{'datasets/' if self.kind == 'dataset' else ''}{self.name}/resolve/{self.revision}/{file}"
