"""Samples of GPUs: what NVML gives, a card that is lost, a driver that stops answering."""

import json
import sys
import time

from doctor.train import gpu_samples
from doctor.train.gpu_samples import GpuSamples, sample
from tests.support.fake_nvml import GIB, FakeNvml


def test_what_nvml_gives_and_nothing_for_what_it_does_not():
    healthy, lost = sample(FakeNvml([{"used": 70 * GIB, "ecc": 2}, {"lost": True}]))
    assert (healthy["used"], healthy["total"], healthy["ecc_errors"]) == (70 * GIB, 80 * GIB, 2)
    assert "utilisation" not in healthy  # this NVML does not say it
    assert None not in healthy.values()
    assert lost == {"index": 1, "lost": "GPU is lost"}


def child(code):
    return [sys.executable, "-u", "-c", f"import json, time\n{code}"]


def until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not condition():
        time.sleep(0.02)
    return condition()


def test_the_newest_sample_and_a_driver_that_stops_answering(monkeypatch):
    rows = [[{"index": 0, "used": step}] for step in range(3)]
    samples = GpuSamples(0.1, child(f"for row in {rows!r}: print(json.dumps(row))\ntime.sleep(60)"))
    assert until(lambda: samples.look() == [{"index": 0, "used": 2}])
    assert not samples.silent()
    monkeypatch.setattr(gpu_samples.time, "monotonic", lambda: samples.at + 60)
    assert samples.silent()
    assert samples.look() == []  # old figures are not passed off as new ones
    samples.close()


def test_half_a_line_is_waited_for():
    half = json.dumps([{"index": 0, "used": 1}])
    code = f"import sys\nsys.stdout.write({half[:9]!r}); time.sleep(0.3); print({half[9:]!r}); time.sleep(60)"
    samples = GpuSamples(0.1, child(code))
    assert samples.look() == []
    assert until(lambda: samples.look() == [{"index": 0, "used": 1}])
    samples.close()


def test_without_a_gpu_no_child_is_started(monkeypatch):
    monkeypatch.setattr(gpu_samples, "nodes", list)
    samples = GpuSamples(0.1)
    assert samples.look() == []
    samples.close()
