"""One launch: what its ranks leave in shared memory is removed with its end, and nothing of other runs."""

import os
import sys
import time

from doctor.rehearse import launches
from doctor.rehearse.launches import ENDED, LATE, Launch


def test_buffers_of_this_rendezvous_are_removed(tmp_path, monkeypatch):
    shm = tmp_path / "shm"
    shm.mkdir()
    monkeypatch.setattr(launches, "SHM", shm)
    prefix = f"deepspeed_allreduce_buffer_{os.getuid()}_127.0.0.1"
    others = [f"{prefix}_29500_0", f"{prefix}_295_0", "nccl-abc"]
    environ = {"PATH": os.environ["PATH"], "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "2950"}
    for code, until, how in (("pass", 60.0, ENDED), ("import time; time.sleep(60)", 0.0, LATE)):
        for name in [*others, f"{prefix}_2950_0", f"{prefix}_2950_1"]:
            (shm / name).touch()
        launch = Launch([sys.executable, "-c", code], environ, tmp_path, tmp_path / "log")
        assert launch.wait(time.monotonic() + until).how == how
        assert sorted(path.name for path in shm.iterdir()) == sorted(others)
