"""What may be resumed without a fix, and what may not."""

import pytest

from doctor.findings import Evidence, Finding
from doctor.train import healing, resume
from doctor.train.healing import Situation
from doctor.train.settings import Settings
from tests.doctor.train.test_checkpoint import plain


def finding(cause, confidence=0.9):
    return Finding(cause, (Evidence("seen", "line 1"),), confidence=confidence)


def samples(share, **more):
    return [{"host_used": share * 1e12, "host_total": 1e12, **more}] * 12


@pytest.mark.parametrize(
    ("cause", "now", "sound"),
    [
        ("launch-sigkill-oom", Situation(samples(0.4)), True),
        ("launch-sigkill-oom", Situation(samples(0.9)), False),  # the kernel would kill it again
        ("launch-sigkill-oom", Situation(samples(0.4), oom_kills=1), False),
        ("launch-sigkill-oom", Situation(samples(0.4, host_limit=4.5e11)), False),  # 89 % of the container's limit
        ("launch-sigkill-oom", Situation(), False),  # nothing is known of the memory
        ("data-loader-worker-died", Situation(samples(0.4)), True),
        ("data-loader-worker-killed", Situation(samples(0.4)), True),
        ("data-loader-worker-killed", Situation(samples(0.9)), False),
        ("launch-port-in-use", Situation(port_busy=True), False),
        ("launch-port-in-use", Situation(), True),
        ("disk-full", Situation(checkpoint_bytes=10**9, disk_free=2 * 10**9), True),
        ("nccl-timeout", Situation(), True),
        ("ds-no-sync-zero", Situation(samples(0.1)), False),
        ("mem-host-oom", Situation(samples(0.1)), False),
        ("cuda-oom", Situation(samples(0.1)), False),
        ("gpu-ecc-xid", Situation(samples(0.1)), False),
        ("launch-sigterm-peer", Situation(samples(0.1)), False),  # somebody wanted it to end
        ("launch-interrupted", Situation(samples(0.1)), False),
    ],
)
def test_transient_causes(cause, now, sound):
    found = healing.transient(finding(cause), now)
    assert (found is not None and not found.wait) == sound
    assert healing.transient(finding(cause, confidence=0.3), now) is None  # no run is restarted on a guess


def test_a_full_disk_is_waited_for():
    found = healing.transient(finding("disk-full"), Situation(checkpoint_bytes=10**9, disk_free=10**8))
    assert found.wait
    assert found.en == "waiting for room on the disk: 100.0 MB free"
    assert healing.transient(finding("disk-full"), Situation()) is None


@pytest.mark.parametrize(
    ("actions", "keeps"),
    [
        ([{"kind": "install", "packages": ["deepspeed==0.15.4"]}], True),
        ([{"kind": "set-launch", "values": {"MASTER_PORT": "7"}}], True),
        ([{"kind": "set-launch", "values": {"CUDA_VISIBLE_DEVICES": "0,1"}}], False),
        ([{"kind": "install"}, {"kind": "unset-launch", "names": ["NPROC_PER_NODE"]}], False),
    ],
)
def test_a_fix_that_changes_the_number_of_ranks_changes_the_results(actions, keeps):
    assert healing.keeps_results(actions) is keeps


def test_an_older_run_s_checkpoint_is_not_resumed_when_its_output_was_to_be_overwritten(tmp_path):
    old = plain(tmp_path / "checkpoint-500", 500)
    started = old.stat().st_mtime + 10
    settings = Settings(output=tmp_path, world_size=2, overwrite_output=True)
    assert resume.prepare(settings, started).checkpoint is None
    settings.overwrite_output = False  # then LLaMA-Factory itself went on from it
    assert resume.prepare(settings, started).checkpoint.step == 500
    assert old.exists()


def test_the_checkpoint_that_the_recipe_names_is_the_last_resort(tmp_path):
    given = plain(tmp_path / "given" / "checkpoint-7", 7)
    settings = Settings(output=tmp_path / "out", world_size=2, resume_from=str(given))
    assert resume.prepare(settings, 0.0).checkpoint.path == given
    (given / "optimizer.pt").unlink()
    assert resume.prepare(settings, 0.0).checkpoint is None
    assert given.exists()
