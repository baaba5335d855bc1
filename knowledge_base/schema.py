"""The shape of what is known: causes, their signatures, their fixes.

A cause is one YAML file, `causes/<area>/<id>.yaml`; this module is its schema. The structs are frozen and reject
unknown keys, so a typo in a YAML file is an error where it is loaded strictly (`load.validate`), not a silence.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec


class Severity(str, Enum):
    """error: this run will fail or train wrongly; warning: it may, or it wastes; info: worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class FixClass(str, Enum):
    """Who may decide that a fix is applied (DESIGN: fix classes)."""

    SAFE = "safe"  # applied by --apply; never changes what the training computes
    REVIEW = "review"  # changes results, speed or memory: asks; --yes or --only is a yes
    NEEDS_ARGUMENT = "needs-argument"  # the user must say something first (where the model is)
    MANUAL = "manual"  # printed only: sudo, drivers, hardware


class Role(str, Enum):
    """How a cause behaves when several are seen in one log."""

    ROOT = "root"  # stands for itself
    SYMPTOM = "symptom"  # often the echo of another cause: loses to any root cause seen in the same log
    WRAPPER = "wrapper"  # only says that something else failed: loses to everything


class Evidence(str, Enum):
    """What stands behind a statement of ours."""

    RUN = "run"  # seen here in a run of real packages
    SOURCE = "source"  # read in the source code or documentation of the package
    THREAD = "thread"  # a maintainer or several users confirmed it in a linked thread
    HEARSAY = "hearsay"  # reported, not verified


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One statement in English and Simplified Chinese."""

    en: str
    zh: str

    def in_language(self, lang: str) -> str:
        return self.zh if lang == "zh" else self.en


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a cause shows in a log.

    `pattern` is an RE2 expression (no look-around, no back-references), matched case-sensitively anywhere in a line;
    named groups `(?P<name>…)` become evidence. `strength` is the share of logs showing it in which this cause is the
    root: 0.95 for a message that only this cause prints, 0.5 for one shared with another cause. Every pattern of
    `with_` (YAML key `with`) must match somewhere in the same log, none of `without` may. `where` compares captured
    numbers and sizes, as in `total - reserved - free > 0.3 * total`.
    """

    pattern: str
    strength: float = 0.9
    with_: tuple[str, ...] = msgspec.field(default=(), name="with")
    without: tuple[str, ...] = ()
    where: str = ""


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reproduction that failed before a fix and trained after it, on exactly these versions."""

    stack: str
    reproduction: str
    versions: dict[str, str] = {}


class Action(msgspec.Struct, frozen=True):
    """One change. `kind` names the module in `fixes/actions`, `args` are what it takes.

    In YAML an action is flat: `{kind: set-recipe, values: {template: "{template}"}}`. Strings may hold `{detail}`
    placeholders, filled from the finding's details and the user's arguments; a fix whose placeholders cannot all be
    filled is not offered.
    """

    kind: str
    args: dict[str, Any]


class Fix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a cause is healed. `when`/`unless` name details of the finding that must be true / must not be true."""

    id: str
    class_: FixClass = msgspec.field(name="class")
    title: Text
    actions: tuple[dict[str, Any], ...] = ()
    when: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    verified_on: tuple[Proof, ...] = ()
    evidence: Evidence = Evidence.SOURCE

    def action_list(self) -> list[Action]:
        return [Action(a["kind"], {k: v for k, v in a.items() if k != "kind"}) for a in self.actions]


class DoesNotHelp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Advice found on the web that does not heal this cause, and why."""

    id: str
    what: Text
    why: Text
    verified_on: tuple[Proof, ...] = ()
    evidence: Evidence = Evidence.SOURCE


class Cause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong, why, in which versions, how it shows, what heals it and what does not."""

    id: str
    severity: Severity
    title: Text
    why: Text
    references: tuple[str, ...]
    affected: dict[str, str] = {}  # package -> PEP 440 specifier; outside it a log finding loses confidence
    role: Role = Role.ROOT
    kind_of: str = ""  # the nearest id that other programs know; documents give it as `cause`, this one as `kind`
    yields_to: tuple[str, ...] = ()  # causes that explain this one when both are seen in one log
    blocks_training: bool | None = None  # default: severity is error
    silent: bool = False  # shows in the log of a run that goes on, or even ends: no failure is printed
    signatures: tuple[Signature, ...] = ()
    fixes: tuple[Fix, ...] = ()
    does_not_help: tuple[DoesNotHelp, ...] = ()
    evidence: Evidence = Evidence.SOURCE

    @property
    def names(self) -> frozenset[str]:
        """The ids by which it may be called: its own, and the one that it is filed under."""
        return frozenset({self.id, self.kind_of} - {""})

    @property
    def filed(self) -> dict[str, str | None]:
        """`cause` and `kind` as documents give them: programs know the fixed list of ids, people want the exact one."""
        return {"cause": self.kind_of or self.id, "kind": self.id if self.kind_of else None}

    @property
    def blocks(self) -> bool:
        return self.severity is Severity.ERROR if self.blocks_training is None else self.blocks_training
