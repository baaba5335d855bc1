"""Facts: what was read from the world, each one a value or unknown with the reason.

Facts are flat, named `subject.name`, and JSON-serialisable, so that a captured document replays every judgement on
another machine. Reading an unknown fact raises `UnknownFact`: a judgement that needs it is skipped and says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

FORMAT = 1


class Unknown(msgspec.Struct, frozen=True):
    """A fact that could not be read, and why (timed out, tool missing, no permission, needs another fact)."""

    reason: str


class UnknownFact(Exception):
    """Raised by `Facts[name]` when the fact is unknown; `name` and `reason` say which and why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class Facts(Mapping[str, Any]):
    """Fact name to value. `facts[name]` raises UnknownFact, `facts.get(name)` gives the default instead."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values: dict[str, Any] = dict(values or {})

    def __getitem__(self, name: str) -> Any:
        value = self._values.get(name, Unknown("was not collected"))
        if isinstance(value, Unknown):
            raise UnknownFact(name, value.reason)
        return value

    def __contains__(self, name: object) -> bool:
        """Whether it was collected, also when what came of it is unknown."""
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        value = self._values.get(name, default)
        return default if isinstance(value, Unknown) else value

    def known(self, name: str) -> bool:
        return name in self._values and not isinstance(self._values[name], Unknown)

    def why_unknown(self, name: str) -> str | None:
        value = self._values.get(name, Unknown("was not collected"))
        return value.reason if isinstance(value, Unknown) else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def merged(self, more: Mapping[str, Any]) -> Facts:
        raw = more._values if isinstance(more, Facts) else dict(more)
        return Facts({**self._values, **raw})

    def to_json(self) -> dict[str, Any]:
        return {
            name: {"unknown": value.reason} if isinstance(value, Unknown) else value
            for name, value in sorted(self._values.items())
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Facts:
        """The inverse of `to_json`. A value is unknown exactly when it is `{"unknown": reason}`."""
        return cls(
            {
                name: Unknown(value["unknown"]) if isinstance(value, dict) and value.keys() == {"unknown"} else value
                for name, value in document.items()
            }
        )
