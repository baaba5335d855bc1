from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixes import files, history
from fixes.door import Door, Why
from fixes.errors import EditedSince, Failed, WorldChanged
from fixes.journal import Journal

WHY = Why("cause", "fix", "test", "a file", "diff")


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(Journal.create(tmp_path / "state", {}))


def test_write_and_take_back_keep_bytes_mode_and_times(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"\xef\xbb\xbfa\r\n")
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18))
    number = door.write(path, b"b", files.sha256(b"\xef\xbb\xbfa\r\n"), WHY)
    assert path.read_bytes() == b"b"
    assert path.stat().st_mode & 0o777 == 0o640
    assert door.take_back(number) is True
    assert path.read_bytes() == b"\xef\xbb\xbfa\r\n"
    assert (path.stat().st_mode & 0o777, path.stat().st_mtime_ns) == (0o640, 10**18)
    assert door.take_back(number) is False
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "state"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_owner_is_kept(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a")
    os.chown(path, 12345, 23456)
    number = door.write(path, b"b", files.sha256(b"a"), WHY)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)
    door.take_back(number)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_a_link_is_written_through(door: Door, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"a")
    (tmp_path / "link").symlink_to("real")
    number = door.write(tmp_path / "link", b"b", files.sha256(b"a"), WHY)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"b"
    door.take_back(number)
    assert (tmp_path / "link").read_bytes() == b"a"


def test_a_new_file_in_new_directories_goes_again_into_quarantine(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "x" / "y" / "f"
    number = door.write(path, b"b", None, WHY)
    door.take_back(number)
    assert not (tmp_path / "x").exists()
    assert [p.read_bytes() for p in (door.journal.directory / "quarantine").iterdir()] == [b"b"]


def test_a_file_changed_in_between_is_refused(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"theirs")
    with pytest.raises(WorldChanged, match="changed since the plan"):
        door.write(path, b"b", files.sha256(b"a"), WHY)
    with pytest.raises(WorldChanged):
        door.write(path, b"b", None, WHY)
    assert path.read_bytes() == b"theirs"
    assert door.journal.actions() == []


def test_a_file_changed_while_it_is_replaced_is_theirs(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody saves after the journal's intent and before the rename: their text stays, ours never was."""
    path = tmp_path / "f"
    path.write_bytes(b"a")
    written = files.write_synced

    def they_save(place: Path, data: bytes, mode: int = 0o600) -> None:
        written(place, data, mode)
        if place.parent == tmp_path:  # the new content lies beside the file, ready to be renamed
            path.write_bytes(b"theirs")

    monkeypatch.setattr(files, "write_synced", they_save)
    with pytest.raises(WorldChanged, match="changed since the plan"):
        door.write(path, b"b", files.sha256(b"a"), WHY)
    assert path.read_bytes() == b"theirs"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "state"]
    assert [a.state for a in door.journal.actions()] == ["back"]
    done = subprocess.run(["sh", str(door.journal.directory / "undo.sh")], capture_output=True, text=True)
    assert (done.returncode, path.read_bytes()) == (0, b"theirs")


def test_an_edit_after_the_fix_is_kept_unless_forced(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a\n")
    number = door.write(path, b"b\n", files.sha256(b"a\n"), WHY)
    path.write_bytes(b"mine\n")
    with pytest.raises(EditedSince) as caught:
        door.take_back(number)
    assert "-mine" in caught.value.shown
    assert path.read_bytes() == b"mine\n"
    door.take_back(number, force=True)
    assert path.read_bytes() == b"a\n"
    assert [p.read_bytes() for p in (door.journal.directory / "quarantine").iterdir()] == [b"mine\n"]


def test_a_file_with_a_secret_leaves_no_copy_of_it(door: Door, tmp_path: Path) -> None:
    secret = "hf_" + "a1B2" * 8
    before = f"# token: {secret}\na: 1\nb: 2\n".encode()
    path = tmp_path / "f"
    path.write_bytes(before)
    number = door.write(path, before.replace(b"a: 1", b"a: 22"), files.sha256(before), WHY)
    kept = subprocess.run(["grep", "-r", secret, str(tmp_path / "state")], capture_output=True)
    assert kept.returncode == 1
    door.take_back(number)
    assert path.read_bytes() == before


def test_set_aside_and_back(door: Door, tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").write_text("x")
    number = door.set_aside(tmp_path / "d", WHY)
    assert not (tmp_path / "d").exists()
    door.take_back(number)
    assert (tmp_path / "d" / "e" / "f").read_text() == "x"


def test_a_directory_is_no_file(door: Door, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="is a directory"):
        door.write(tmp_path, b"b", None, WHY)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_disk_leaves_the_file_as_it_was(door: Door, small_disk: Path) -> None:
    path = small_disk / "f"
    path.write_bytes(b"a" * 30_000)
    with pytest.raises(Failed, match="disk is full; nothing was left half done"):
        door.write(path, b"b" * 50_000, files.sha256(b"a" * 30_000), WHY)
    assert path.read_bytes() == b"a" * 30_000
    assert [p.name for p in small_disk.iterdir()] == ["f"]


def test_full_disk_while_journalling(tmp_path: Path, small_disk: Path) -> None:
    door = Door(Journal.create(small_disk / "state", {}))
    path = tmp_path / "f"
    path.write_bytes(b"a" * 60_000)
    with pytest.raises(Failed, match="disk is full"):
        door.write(path, b"b", files.sha256(b"a" * 60_000), WHY)
    assert path.read_bytes() == b"a" * 60_000


def test_a_full_disk_does_not_keep_a_change_in(tmp_path: Path, small_disk: Path) -> None:
    """The kept copy itself goes back when there is no room for another one."""
    door = Door(Journal.create(small_disk / "state", {}))
    path = small_disk / "f"
    path.write_bytes(b"a" * 8_000)
    number = door.write(path, b"b", files.sha256(b"a" * 8_000), WHY)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"x" * 4096)
    with filler.open("r+b") as stream:
        stream.truncate(filler.stat().st_size - 4096)  # room for a journal line, not for the file
    assert door.take_back(number) is True
    assert path.read_bytes() == b"a" * 8_000


def test_read_only_directory(door: Door, small_disk: Path) -> None:
    path = small_disk / "f"
    path.write_bytes(b"a")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(Failed, match=r"not writable|read-only"):
        door.write(path, b"b", files.sha256(b"a"), WHY)
    assert path.read_bytes() == b"a"


def test_a_torn_last_line_counts_as_not_written(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a")
    door.write(path, b"b", files.sha256(b"a"), WHY)
    log = door.journal.directory / "journal.jsonl"
    log.write_bytes(log.read_bytes()[:-9])
    journal = Journal.load(door.journal.directory)
    assert [a.state for a in journal.actions()] == ["intent"]
    assert history.take_back_all(journal, by="test") == []
    assert path.read_bytes() == b"a"
    assert Journal.load(door.journal.directory).undone
