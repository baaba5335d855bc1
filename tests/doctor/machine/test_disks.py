import errno
import os
import time

import pytest

from doctor.machine import disks


def test_a_folder_that_is_there(tmp_path):
    found = disks.describe(tmp_path)
    assert found["at"] == str(tmp_path)
    assert 0 < found["free"] <= found["total"]
    assert found["write_error"] is None


def test_a_folder_that_will_be_made_lies_on_its_nearest_parent(tmp_path):
    assert disks.describe(tmp_path / "a" / "b")["at"] == str(tmp_path)


def test_the_write_test_leaves_nothing(tmp_path):
    before = tmp_path.stat().st_mtime_ns
    assert disks.write_error(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_mtime_ns == before


def test_without_nameless_files_a_named_one_is_removed(tmp_path, monkeypatch):
    real = os.open

    def refuses(path, flags, *mode, **more):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, *mode, **more)

    monkeypatch.setattr(os, "open", refuses)
    assert disks.write_error(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "out").touch()
    assert disks.describe(tmp_path / "out" / "x")["write_error"] == "ENOTDIR"


@pytest.mark.parametrize("name", ["EROFS", "EACCES", "ENOSPC", "EDQUOT"])
def test_errors_of_the_file_system(tmp_path, monkeypatch, name):
    def refuses(*_, **__):
        raise OSError(getattr(errno, name), "no")

    monkeypatch.setattr(os, "write", refuses)
    assert disks.write_error(tmp_path) == name


def test_a_real_read_only_file_system():
    assert disks.write_error(disks.Path("/proc")) in ("EROFS", "EACCES", "ENOENT", "EPERM")


def test_a_mount_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: time.sleep(30))
    begun = time.monotonic()
    assert "did not answer" in disks.describe(tmp_path, seconds=0.2)["unknown"]
    assert disks.roomy([tmp_path], seconds=0.2) == []
    with pytest.raises(TimeoutError):
        disks.space(tmp_path, seconds=0.2)
    assert time.monotonic() - begun < 2


def test_roomy_places(tmp_path):
    (one,) = disks.roomy([tmp_path / "none", tmp_path, tmp_path])
    assert one["path"] == str(tmp_path)
