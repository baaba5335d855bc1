"""Every alarm: silent for a healthy run, raised for the fault, on figures made for it."""

import math

import pytest

from doctor.train import alarms
from doctor.train.alarms import Seen
from doctor.train.progress import Progress, Step


def run(losses=(), durations=(), phase="training", step=None, moved=None, **norms):
    progress = Progress(0.0)
    progress.phase = phase
    for number, loss in enumerate(losses, 1):
        values = {"loss": loss, **{name: value[number - 1] for name, value in norms.items()}}
        progress.steps.append(Step(float(number), number, values))
    progress.durations.extend(durations)
    progress.step = step if step is not None else len(losses)
    progress.moved = progress.first_moved = moved
    progress.sign = moved or 0.0
    return progress


def causes(seen):
    return [finding.cause for finding in alarms.judge(seen)]


def said(seen):
    return alarms.judge(seen)[0].evidence[0].what


HEALTHY = [2.0 - number * 0.01 + 0.05 * math.sin(number) for number in range(60)]


def test_a_healthy_run_raises_nothing():
    machine = [
        {"time": float(t), "host_used": 5e9 + 1e7 * (t % 3), "host_total": 25e9, "disk_free": 9e11} for t in range(60)
    ]
    progress = run(HEALTHY, [1.0] * 60, moved=60.0, grad_norm=[1.0] * 60)
    assert causes(Seen(61.0, progress, machine, next_checkpoint=int(4e11), next_save=100)) == []


@pytest.mark.parametrize(("now", "raised"), [(80.0, []), (91.0, ["train-hang"])])
def test_no_step_for_many_times_the_median(now, raised):
    seen = Seen(now, run(HEALTHY, [1.0] * 60, moved=60.0))
    assert causes(seen) == raised
    if raised:
        assert said(seen) == "no step for 31 s; a step takes 1.0 s in this run"


@pytest.mark.parametrize(
    ("phase", "silent", "raised"),
    [
        ("starting", 1000, False), ("starting", 1900, True), ("saving", 600, False), ("saving", 1900, True),
        ("evaluating", 600, False), ("evaluating", 1000, True), ("done", 1e6, False),
    ],
)  # fmt: skip
def test_phases_have_their_own_patience(phase, silent, raised):
    assert causes(Seen(float(silent), run([2.0], [1.0] * 5, phase=phase))) == (["train-hang"] if raised else [])


@pytest.mark.parametrize("phase", ["starting", "training", "evaluating", "saving", "trained"])
def test_silence_in_which_nothing_computes_is_a_hang_in_every_phase(phase):
    progress = run([2.0], [], phase=phase)
    assert causes(Seen(170.0, progress, idle=170.0)) == []
    assert causes(Seen(200.0, progress, idle=100.0)) == []
    seen = Seen(250.0, progress, idle=200.0)
    assert causes(seen) == ["train-hang"]
    assert "for 3 min no process of the run has computed" in said(seen)


def test_a_step_that_is_awaited_without_any_work_is_a_hang_before_its_time():
    progress = run(HEALTHY, [30.0] * 60, moved=60.0)
    assert causes(Seen(60.0 + 200.0, progress, idle=190.0)) == ["train-hang"]
    assert causes(Seen(60.0 + 100.0, progress, idle=190.0)) == []


def test_a_run_that_pauses_now_and_then_is_given_that_time():
    progress = run(HEALTHY, [1.0] * 20 + [25.0] + [1.0] * 20, moved=60.0)
    assert causes(Seen(60.0 + 70.0, progress)) == []
    assert causes(Seen(60.0 + 76.0, progress)) == ["train-hang"]


def test_slow_steps_are_no_hang():
    assert causes(Seen(60.0 + 500.0, run(HEALTHY, [30.0] * 60, moved=60.0))) == []


@pytest.mark.parametrize(
    ("losses", "norms", "raised"),
    [
        ([2.0, math.nan], [1.0, math.nan], True),
        ([2.0, math.inf], [1.0, 1.0], True),
        ([2.0, 0.0, 0.0], [1.0, math.nan, math.nan], True),
        ([2.0, 0.0], [1.0, 0.0], False),  # once may be rounding
        ([2.0, 0.0, 0.0], [1.0, 0.001, 0.001], False),  # learnt by heart: the gradient lives
        ([2.0] * 5, [1.0] + [math.nan] * 4, True),
        ([2.0] * 5, [math.inf] * 3 + [1.0, 1.0], False),  # fp16 finds its loss scale
    ],
)
def test_loss_or_gradient_gone(losses, norms, raised):
    found = causes(Seen(1.0, run(losses, grad_norm=norms, moved=1.0)))
    assert found == (["train-loss-zero-or-nan"] if raised else [])


@pytest.mark.parametrize(("last", "raised"), [(2.2, False), (3.5, False), (9.0, True)])
def test_a_loss_far_above_its_level(last, raised):
    assert causes(Seen(1.0, run([*HEALTHY, last], moved=1.0))) == (["train-loss-spike"] if raised else [])


def test_slower_than_its_own_median_and_the_gpu_that_is():
    clocks = [{"index": 0, "megahertz": 1980}, {"index": 1, "megahertz": 1200}, {"index": 2, "megahertz": 1965}]
    progress = run([2.0], [1.0] * 50 + [2.0] * 10, moved=1.0)
    seen = Seen(1.0, progress, [{"time": 1.0, "gpus": clocks}])
    assert causes(seen) == ["train-slow"]
    assert said(seen) == "a step takes 2.0 s now and took 1.0 s before; GPU 1 runs at 1200 MHz, the others at 1972.5"
    assert causes(Seen(1.0, run([2.0], [1.0] * 50 + [2.0] * 9 + [1.0], moved=1.0))) == []


def gpus(**changes):
    return [
        {"time": float(t), "gpus": [{"index": 0, "ecc_errors": 1, "throttled": []}, {"index": 1, **changes}]}
        for t in range(6)
    ]


def test_gpu_throttled_for_long():
    hot = gpus(throttled=["hardware thermal slowdown"], celsius=91)
    assert said(Seen(6.0, run([2.0], moved=6.0), hot)) == "GPU 1 is slowed down: hardware thermal slowdown at 91 °C"
    assert causes(Seen(6.0, run([2.0], moved=6.0), hot[:5])) == []
    assert causes(Seen(6.0, run([2.0], moved=6.0), [*hot[:5], *gpus(throttled=[])[:1]])) == []


def test_gpu_memory_errors_that_grow():
    machine = gpus(throttled=[])
    machine[-1]["gpus"][0]["ecc_errors"] = 3
    seen = Seen(6.0, run([2.0], moved=6.0), machine)
    assert (causes(seen), said(seen)) == (["gpu-ecc-xid"], "2 uncorrectable memory errors since the run began")


@pytest.mark.parametrize(("xid", "cause"), [(79, ["gpu-fell-off-bus"]), (94, ["gpu-ecc-xid"]), (13, []), (31, [])])
def test_xids_of_the_kernel_log(xid, cause):
    told = [{"xid": xid, "where": "PCI:0000:3b:00", "text": "GPU has fallen off the bus."}]
    assert causes(Seen(1.0, run([2.0], moved=1.0), xids=told)) == cause


def memory(slope, level=17e9, limit=None):
    more = {"host_limit": limit} if limit else {}
    return [{"time": float(t), "host_used": level + slope * t, "host_total": 25e9, **more} for t in range(0, 120, 5)]


def test_host_memory_that_will_be_full():
    seen = Seen(120.0, run([2.0], moved=10.0, durations=[30.0] * 5), memory(1e7))
    assert causes(seen) == ["mem-host-oom"]
    assert said(seen) == "host memory grows by 600.0 MB a minute and is full in 11 min"
    assert causes(Seen(120.0, run([2.0], moved=10.0), memory(0.0))) == []
    assert causes(Seen(120.0, run([2.0], moved=10.0), memory(1e7, level=5e9))) == []
    assert causes(Seen(120.0, run([2.0], moved=100.0), memory(1e7))) == []  # twenty seconds of training are no trend
    assert causes(Seen(120.0, run([2.0], phase="starting"), memory(1e7))) == []  # weights are being loaded


def test_host_memory_that_is_full_by_the_container_s_limit():
    seen = Seen(120.0, run([2.0], phase="starting"), memory(0.0, level=9.7e9, limit=10e9))
    assert causes(seen) == ["mem-host-oom"]
    assert alarms.judge(seen)[0].evidence[0].where == "9.7 GB of 10.0 GB of this container"


@pytest.mark.parametrize(("free", "raised"), [(5e11, False), (4.6e11, True)])
def test_a_disk_that_will_not_hold_the_next_checkpoint(free, raised):
    progress = run([2.0], [60.0] * 10, step=340, moved=1.0)
    seen = Seen(1.0, progress, [{"time": 1.0, "disk_free": free}], int(4.59e11), 400, "/data/saves")
    assert causes(seen) == (["disk-full"] if raised else [])
    if raised:
        assert said(seen) == (
            "the next checkpoint takes 459.0 GB, 460.0 GB are free; it comes at step 400, in about 60 min"
        )
