"""How lines are searched for signatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor.diagnose import diagnose
from knowledge_base.index import build
from knowledge_base.schema import Cause, Severity, Signature, Text

TEXT = Text("x", "某")
SIGNATURE = Signature(r"KeyError: '(?P<column>\w+)'", 0.9, with_=(r"datasets/formatting/formatting\.py",))
KNOWN = build(
    [("area", Cause("column", Severity.ERROR, TEXT, TEXT, ("https://example.org",), signatures=(SIGNATURE,)))]
)


@pytest.mark.parametrize(
    "frame",
    [
        'File "/opt/env/datasets/formatting/formatting.py", line 270, in __getitem__',
        'File "C:\\env\\Lib\\site-packages\\datasets\\formatting\\formatting.py", line 270, in __getitem__',
        "File D:\\env\\Lib\\site-packages\\datasets\\formatting\\formatting.py:270, in LazyRow.__getitem__(self, key)",
        "C:\\env\\Lib\\site-packages\\datasets\\formatting\\formatting.py:270 in __getitem__",
    ],
)
def test_a_frame_is_known_on_every_system(tmp_path: Path, frame: str) -> None:
    log = tmp_path / "a.log"
    log.write_text(f"Traceback (most recent call last):\n  {frame}\n    value = self.data[key]\nKeyError: 'text'\n")
    assert [finding.cause for finding in diagnose([log], index=KNOWN).findings] == ["column"]


QUOTED = Signature(r"You have set `args\.(?P<key>\w+)` but you didn't pass an `[^`']+` to '\w+'", 0.9)
MARKS = build([("area", Cause("marks", Severity.ERROR, TEXT, TEXT, ("https://example.org",), signatures=(QUOTED,)))])


@pytest.mark.parametrize(
    "message",
    [
        "You have set `args.eval` but you didn't pass an `eval_dataset` to 'Trainer'",
        "You have set args.eval but you didn't pass an `eval_dataset` to `Trainer`",
        "You have set 'args.eval' but you didn`t pass an `eval_dataset` to 'Trainer'",
        "You have set args.eval but you didn’t pass an `eval_dataset` to ‘Trainer’",
        "You have set args.eval but you didn´t pass an eval_dataset to Trainer",
        "`You have set args.eval` but you didn't `pass` an eval_dataset to Trainer",
    ],
)
def test_a_message_is_known_whatever_became_of_its_quotation_marks(tmp_path: Path, message: str) -> None:
    log = tmp_path / "a.log"
    log.write_text(f"ValueError: {message}\n")
    assert [finding.cause for finding in diagnose([log], index=MARKS).findings] == ["marks"]


def test_colons_of_an_input_method_are_colons(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("报错了，KeyError：'text'\n  File \"/opt/env/datasets/formatting/formatting.py\", line 270\n")
    plain = Signature(r"KeyError: '(?P<column>\w+)'", 0.9)
    known = build([("area", Cause("c", Severity.ERROR, TEXT, TEXT, ("https://example.org",), signatures=(plain,)))])
    assert [finding.cause for finding in diagnose([log], index=known).findings] == ["c"]


def test_a_looser_way_is_tried_where_a_stronger_one_tells_no_cause(tmp_path: Path) -> None:
    """A long log always holds a line that some signature fits; that line must not end the search."""
    weak = Cause("weak", Severity.WARNING, TEXT, TEXT, ("https://example.org",), signatures=(Signature("sdpa", 0.4),))
    marks = Cause("marks", Severity.ERROR, TEXT, TEXT, ("https://example.org",), signatures=(QUOTED,))
    log = tmp_path / "a.log"
    log.write_text(
        "[INFO|loader.py:143] 2025-01-01 10:00:00,000 >> Using torch sdpa for faster training\n"
        "ValueError: You have set args.eval but you didn't pass an eval_dataset to Trainer\n"
    )
    known = build([("area", weak), ("area", marks)])
    assert [finding.cause for finding in diagnose([log], index=known).findings] == ["marks"]


TYPED = Signature(r"ValueError: Template (?P<template>\S+) does not exist", 0.95)
SHORT = Signature(r"TypeError: not a string", 0.95)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("Template qwen25 does not exist.", "typed"),
        ("训练报错：Template qwen25 does not exist", "typed"),
        ("AssertionError: Template `qwen25` does not exist", "typed"),  # what another release raises
        ('    raise ValueError(f"Template {name} does not exist")', "typed"),
        ("not a string", None),
        ("RuntimeError: not a string", None),
    ],
)
def test_a_telling_message_is_known_without_the_type_of_its_exception(
    tmp_path: Path, text: str, cause: str | None
) -> None:
    more = {"title": TEXT, "why": TEXT, "references": ("https://example.org",), "severity": Severity.ERROR}
    causes = [Cause(id="typed", signatures=(TYPED,), **more), Cause(id="short", signatures=(SHORT,), **more)]
    log = tmp_path / "a.log"
    log.write_text(text + "\n")
    found = diagnose([log], index=build([("area", one) for one in causes])).findings
    assert [(finding.cause, finding.confidence <= 0.85) for finding in found] == ([(cause, True)] if cause else [])


RAISED = Signature(r"ZorkmidError: table (?P<table>\w+) is of another release", 0.9)
ZORKMID = build([("area", Cause("z", Severity.ERROR, TEXT, TEXT, ("https://example.org",), signatures=(RAISED,)))])


@pytest.mark.parametrize(
    ("line", "causes"),
    [
        ("ZorkmidError: table gold is of another release", ["z"]),
        ("RuntimeError: table gold is of another release", ["z"]),
        ("ZorkmidWarning: table gold is of another release", []),
        ("/opt/env/zork.py:3: UserWarning: table gold is of another release", []),
    ],
)
def test_an_error_is_known_by_its_message_under_another_type_but_not_as_a_warning(
    tmp_path: Path, line: str, causes: list[str]
) -> None:
    log = tmp_path / "a.log"
    log.write_text(f"{line}\n")
    assert [finding.cause for finding in diagnose([log], index=ZORKMID).findings] == causes
