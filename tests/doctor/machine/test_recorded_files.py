"""The files of a distribution against its RECORD."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from doctor.machine import recorded_files

ELF = b"\x7fELF\x02" + bytes(35) + struct.pack("<Q", 100) + bytes(10) + struct.pack("<HH", 64, 2)


def library(size: int) -> bytes:
    """One whose sections are told of at its bytes 100 to 228."""
    return ELF + bytes(size - len(ELF))


FILES = {"pkg/__init__.py": b"x = 1\n", "pkg/part/deep.py": b"y = 1\n", "pkg/core.so": library(300),
         "pkg/tests/test_x.py": b"", "pkg/__pycache__/x.pyc": b"1"}  # fmt: skip


@pytest.fixture
def info(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    info = tmp_path / "pkg-1.0.dist-info"
    info.mkdir()
    lines = [f"{name},sha256=abc,{len(content)}" for name, content in FILES.items()]
    lines += ["../../../bin/pkg,,", '"odd, name.py",,', "pkg-1.0.dist-info/METADATA,,"]
    (info / "RECORD").write_text("\n".join(lines))
    return info


def test_what_was_installed(info: Path) -> None:
    assert recorded_files.look(info, True) == recorded_files.Faults()


@pytest.mark.parametrize("name", ["pkg/__init__.py", "pkg/part/deep.py", "pkg/core.so"])
def test_a_file_that_is_gone(info: Path, name: str) -> None:
    (info.parent / name).unlink()
    assert recorded_files.look(info, True).lacking == [name]


def test_files_that_slim_images_lack(info: Path) -> None:
    for name in ("pkg/tests/test_x.py", "pkg/__pycache__/x.pyc"):
        (info.parent / name).unlink()
    assert recorded_files.look(info, True) == recorded_files.Faults()
    (info.parent / "pkg/part/deep.py").unlink()
    assert recorded_files.look(info, False) == recorded_files.Faults()


def test_nothing_is_left(info: Path) -> None:
    for name in FILES:
        (info.parent / name).unlink()
    assert not recorded_files.look(info, True).whole


@pytest.mark.parametrize(
    ("name", "content", "broken"),
    [("pkg/__init__.py", b"", True), ("pkg/__init__.py", b"<<<<<<< HEAD\nx = 1\n", True),
     ("pkg/__init__.py", b"x = 2  # mended by hand\n", False), ("pkg/__init__.py", b"x = ", True),
     ("pkg/__init__.py", b"x", True), ("pkg/__init__.py", b"x\n", False), ("pkg/core.so", library(200), True),
     ("pkg/core.so", library(250), False), ("pkg/core.so", b"", True), ("pkg/core.so", b"version https://git-lfs", True),],
)  # fmt: skip
def test_a_file_of_another_size(info: Path, name: str, content: bytes, broken: bool) -> None:
    (info.parent / name).write_bytes(content)
    assert recorded_files.look(info, True).broken == ([name] if broken else [])


def test_models_of_other_kinds(info: Path) -> None:
    with (info / "RECORD").open("a") as record:
        record.write("\npkg/models/auto/a.py,,\npkg/models/bert/b.py,,\npkg/models/c.py,,")
    found = recorded_files.look(info, True, frozenset({"auto"}))
    assert found.lacking == ["pkg/models/auto/a.py", "pkg/models/c.py"]


def test_without_a_record(tmp_path: Path) -> None:
    assert recorded_files.look(tmp_path / "pkg-1.0.dist-info", True) == recorded_files.Faults()
