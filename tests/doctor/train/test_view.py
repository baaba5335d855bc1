"""The live view at the widths of real terminals, and plain notes."""

import errno
import io
import math

import pytest
from rich.console import Console

from doctor.findings import Evidence, Finding
from doctor.train import view, watch
from doctor.train.progress import Step
from doctor.train.settings import Settings


def state(tmp_path, gpus=8):
    one = watch.Watch(
        Settings(output=tmp_path, save_steps=100, checkpoint_bytes=int(4.59e11)),
        watch.Record(None),
        lambda *event: None,
        list,
        live=False,
    )
    one.progress.phase, one.progress.step, one.progress.total = "training", 212, 531
    one.progress.durations.extend([12.0] * 20)
    for number in range(1, 213):
        values = {"loss": 2 - number / 200, "grad_norm": 0.71, "learning_rate": 9.3e-6}
        one.progress.steps.append(Step(float(number), number, values, 12.0, 5200.0, 8.0))
    rows = [
        {"index": i, "used": 70e9, "total": 85.5e9, "utilisation": 97, "watts": 612.0, "celsius": 61, "throttled": []}
        for i in range(gpus)
    ]
    one.samples.append({"time": 1.0, "host_used": 8e11, "host_total": 1e12, "disk_free": 2e12, "gpus": rows})
    return one


def drawn(one, width, lang="en", events=()):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False, color_system=None)
    console.print(view.panel(one, list(events), lang, width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("width", "rows"), [(80, 4), (200, 2)])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_panel_fits_and_shows_everything(tmp_path, width, rows, lang):
    lines = drawn(state(tmp_path), width, lang, [(0.0, "checkpoint-200 is complete " + "x" * 300, "")])
    text = "\n".join(lines)
    assert max(len(line) for line in lines) <= width
    for shown in ("212/531", "40%", "loss 0.94", "lr 9.3e-06", "grad 0.71", "GPU 7", "612W", "61°C", "97%"):
        assert shown in text
    for shown in ("800.0 GB/1.0 TB", "2.0 TB", "@300 459.0 GB", "5,200"):
        assert shown in text
    assert sum("GPU" in line for line in lines) == rows


def test_before_the_first_step(tmp_path):
    one = watch.Watch(Settings(), watch.Record(None), lambda *event: None, list, live=False)
    assert any("no step logged yet" in line for line in drawn(one, 80))


def test_the_course_of_a_value():
    assert view.spark([1.0, 2.0, 3.0], 10) == "▁▅█"
    assert view.spark([1.0, math.nan, 2.0], 10) == "▁×█"
    assert view.spark([math.nan] * 2, 10) == "××"
    assert len(view.spark([float(n) for n in range(1000)], 12)) == 12


def test_the_live_view_keeps_ordinary_lines_and_drops_bars(tmp_path):
    out = io.StringIO()
    live = view.LiveView("en", Console(file=out, width=80, force_terminal=True, color_system=None))
    live.output(b"", ["a warning", " 25%|██▌       | 1/4 [00:00<00:02,  1.29it/s]", "{'loss': 2.0, 'epoch': 0.1}"])
    finding = Finding("train-hang", (Evidence("rank 1 is stopped", "rank 1"), Evidence("stack", "rank 0")))
    live.event("alarm", {"en": "hang: rank 1 is stopped", "zh": ""}, finding)
    live.update(state(tmp_path), last=True)
    live.close()
    shown = out.getvalue()
    assert "a warning" in shown
    assert "1.29it/s" not in shown
    assert "[skyt1-doctor] hang: rank 1 is stopped" in shown
    assert "stack  — rank 0" in shown


def test_plain_notes_go_to_stderr_and_output_to_stdout(capfdbinary):
    plain = view.PlainView("zh")
    plain.output(b"raw \xff bytes\n", [])
    plain.event("resume", {"en": "resumed", "zh": "续训"}, None)
    plain.event("checkpoint", {"en": "saved", "zh": "已保存"}, None)
    captured = capfdbinary.readouterr()
    assert captured.out == b"raw \xff bytes\n"
    assert captured.err.decode() == "[skyt1-doctor] 续训\n"


class Gone(io.StringIO):
    """A terminal after its window was closed."""

    def write(self, text):
        raise OSError(errno.EIO, "Input/output error")


def test_a_terminal_that_was_closed_does_not_end_the_run(tmp_path):
    live = view.LiveView("en", Console(file=io.StringIO(), width=80, force_terminal=True))
    shown = view.Surviving(live)
    live.console.file = Gone()
    shown.event("alarm", {"en": "one", "zh": ""}, None)
    assert shown.closed
    shown.update(state(tmp_path), last=True)
    shown.output(b"x", ["x"])
    shown.close()
    live.console.file = io.StringIO()
    live.close()
