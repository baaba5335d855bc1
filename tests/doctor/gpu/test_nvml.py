import json
import os
import sys
import time

import pytest

from doctor.gpu import machine, nvml
from tests.support.fake_nvml import GIB, H100, FakeNvml, install


def test_eight_gpus():
    head, *devices, linked = nvml.read(FakeNvml([dict(H100) for _ in range(8)]))
    assert len(linked["topology"]) == 8
    assert head == {"driver": "550.54.15", "cuda": "12.4", "count": 8}
    assert [d["index"] for d in devices] == list(range(8))
    first = devices[0]
    assert (first["memory_total"], first["capability"], first["holders"], first["mig"]) == (80 * GIB, "9.0", [], False)
    json.dumps(devices)


def test_no_gpu():
    assert list(nvml.read(FakeNvml([]))) == [{"driver": "550.54.15", "cuda": "12.4", "count": 0}]


def test_a_driver_that_is_not_loaded():
    assert list(nvml.read(FakeNvml([], init_error="DriverNotLoaded"))) == [
        {"error": "driver not loaded", "message": "DriverNotLoaded"}
    ]


def test_what_is_not_supported_or_forbidden_is_said():
    (device,) = list(nvml.read(FakeNvml([{"unsupported": ["ecc", "rows", "persistence"], "forbidden": ["holders"]}])))[
        1:
    ]
    assert device["ecc_uncorrected"] is None
    assert device["remap_pending"] is None
    assert device["holders"] is None
    assert device["persistence"] is None
    unread = device["unread"]
    assert (unread["ecc"], unread["holders"], unread["nvlink"]) == ("not supported", "no permission", "not supported")


def test_a_lost_gpu_does_not_hide_the_others():
    _, *devices, linked = nvml.read(FakeNvml([{}, {"lost": True}, {}]))
    assert linked["topology"] == [["self", None, "NODE"], [None, "self", None], ["NODE", None, "self"]]
    assert [d.get("error") for d in devices] == [None, "gpu is lost", None]


def test_faults_links_and_throttling():
    fake = FakeNvml([{"ecc": 3, "rows": (0, 1, 1, 0), "throttle": 0x49, "nvlinks": 18, "fabric": 2, "compute_mode": 3}])
    (device,) = list(nvml.read(fake))[1:]
    assert (device["ecc_uncorrected"], device["remap_pending"], device["remap_failed"]) == (3, True, False)
    assert device["throttle"] == ["hardware slowdown", "hardware thermal slowdown"]
    assert (device["nvlinks_up"], device["fabric"]["state"], device["compute_mode"]) == (18, 2, "exclusive process")


def test_links_that_are_down_are_counted():
    (device,) = list(nvml.read(FakeNvml([{"nvlinks": 18, "links_down": [0, 7]}])))[1:]
    assert (device["nvlinks"], device["nvlinks_up"]) == (18, 16)


def test_mig_devices():
    (device,) = list(nvml.read(FakeNvml([{"mig": ["MIG-a", "MIG-b"]}])))[1:]
    assert [part["uuid"] for part in device["mig_devices"]] == ["MIG-a", "MIG-b"]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    def use(**arguments):
        install(tmp_path, **arguments)
        paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

    return use


def test_the_child_reads_what_the_module_says(fake):
    fake(devices=[{"used": 10 * GIB}] * 2)
    documents, late = machine.ask_nvml()
    assert late is None
    assert [d.get("memory_free") for d in documents] == [None, 70 * GIB, 70 * GIB, None]


def test_a_hung_driver_is_left_behind_with_what_it_said(fake):
    fake(devices=[{}, {}], hang_at=1)
    begun = time.monotonic()
    documents, late = machine.ask_nvml(seconds=1.5)
    assert time.monotonic() - begun < 3.0
    assert [d.get("index") for d in documents] == [None, 0]
    assert late == "the NVIDIA driver did not answer within 1.5 s"


def test_a_child_that_dies():
    documents, late = machine.ask_nvml([sys.executable, "-c", "raise SystemExit('no pynvml')"])
    assert documents == []
    assert late == "reading NVML failed: no pynvml"


def test_a_line_cut_off_by_the_deadline_is_dropped():
    code = "print('{\"count\": 1}'); print('{\"index\":', end='', flush=True); import time; time.sleep(60)"
    documents, late = machine.ask_nvml([sys.executable, "-u", "-c", code], seconds=1.0)
    assert documents == [{"count": 1}]
    assert late is not None
