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
