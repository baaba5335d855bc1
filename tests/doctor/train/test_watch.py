"""The watch over real processes: a rank that stops is named, and what is told when it goes on."""

import os
import signal
import threading
import time

from doctor.train import alarms, idleness, session, watch
from tests.doctor.train import runs


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def hangs(folder):
    return [r for r in runs.rows(folder, "events") if r["kind"] == "alarm" and "train-hang" in str(r.get("finding"))]


def peer(run):
    return next(p for p in run._processes() if p.environ().get("RANK") == "1" and "peer" in p.cmdline())


def impatient(monkeypatch):
    monkeypatch.setattr(alarms, "HANG_LEAST", 1.0)
    monkeypatch.setattr(alarms, "HANG_TIMES", 5.0)


def test_a_stopped_rank_is_named_and_its_waking_told(tmp_path, monkeypatch):
    impatient(monkeypatch)
    run = runs.session(runs.make(tmp_path, steps=40, step_seconds=0.05, save_steps=1000))
    folder = run.directory.path
    seen = {}

    def disturb():
        until(lambda: any(r.get("step", 0) >= 10 for r in runs.rows(folder, "metrics")))
        victim = peer(run)
        victim.suspend()
        until(lambda: hangs(folder))
        seen["pid"] = victim.pid
        victim.resume()

    thread = threading.Thread(target=disturb)
    thread.start()
    ended = run.run()
    thread.join()
    assert ended.code == 0
    (event,) = hangs(folder)
    assert event["finding"]["rank"] == 1
    assert f"rank 1 is stopped (process {seen['pid']}, state T)" in event["text"]["en"]
    assert "被停止" in event["text"]["zh"]
    assert any("rank 0" in item["where"] for item in event["finding"]["evidence"])
    assert "the run goes on again" in [r["text"]["en"] for r in runs.rows(folder, "events")]


def test_ranks_that_wait_for_nothing_before_the_first_step_are_told_long_before_a_slow_start_would_be(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(alarms, "HANG_IDLE", 1.5)
    monkeypatch.setattr(idleness, "LOOK_SECONDS", 0.2)
    run = runs.session(runs.make(tmp_path, steps=1, step_seconds=6.0, save_steps=1000))
    assert run.run().code == 0
    event = hangs(run.directory.path)[0]
    assert "no process of the run has computed" in event["text"]["en"] + str(event["finding"]["evidence"])
    assert {"rank 0", "rank 1"} <= {item["where"].partition(",")[0] for item in event["finding"]["evidence"]}


def test_with_heal_a_hang_is_ended_and_the_run_goes_on(tmp_path, monkeypatch):
    impatient(monkeypatch)
    monkeypatch.setattr(session, "HANG_ENDED", 1.0)
    run = runs.session(runs.make(tmp_path, steps=30, step_seconds=0.05, save_steps=5), heal=1)
    folder = run.directory.path

    def disturb():
        until(lambda: any(r.get("step", 0) >= 12 for r in runs.rows(folder, "metrics")))
        os.kill(peer(run).pid, signal.SIGSTOP)

    thread = threading.Thread(target=disturb)
    thread.start()
    ended = run.run()
    thread.join()
    assert (ended.code, ended.attempts) == (0, 2)
    texts = [r["text"]["en"] for r in runs.rows(folder, "events")]
    assert "resumed without a fix: the ranks that stood still were ended" in texts
    assert (run.settings.output / "final").read_text() == "30"


def test_the_next_save(tmp_path):
    settings = watch.Settings(output=tmp_path, save_steps=100)
    one = watch.Watch(settings, watch.Record(None), lambda *event: None, list, live=False)
    one.progress.total, one.progress.step = 531, 0
    assert one.next_save() == 100
    one.progress.step = 100
    assert one.next_save() == 200
    one.progress.step = 530
    assert one.next_save() == 531


def test_tokens_per_second_come_from_the_trainer_s_own_log(tmp_path, monkeypatch):
    settings = watch.Settings(output=tmp_path)
    one = watch.Watch(settings, watch.Record(None), lambda *event: None, list, live=False)
    log = tmp_path / "trainer_log.jsonl"
    log.write_text('{"current_steps": 1, "total_steps": 9, "total_tokens": 1000}\n')
    one._read_trainer_log(10.0)
    with log.open("a") as file:
        file.write('{"current_steps": 2, "total_steps": 9, "total_tokens": 3000}\n')
    one._read_trainer_log(12.0)
    assert one.tokens_per_second == 1000.0


def test_a_trainer_that_saves_when_told_to_end_is_given_the_time(tmp_path):
    run = runs.session(runs.make(tmp_path, steps=2000, step_seconds=0.05, save_steps=10**6, enable_jit_checkpoint=True))
    folder = run.directory.path

    def stop():
        until(lambda: any(r.get("step", 0) >= 5 for r in runs.rows(folder, "metrics")))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    ended = run.run()
    thread.join()
    assert (ended.code, ended.interrupted) == (130, True)
    texts = [r["text"]["en"] for r in runs.rows(folder, "events")]
    assert "SIGINT: the trainer saves a checkpoint and ends; a second signal ends it at once" in texts
    assert any(text.startswith("checkpoint-") and "is complete" in text for text in texts)
