"""The live view in a real terminal, as tmux shows it: narrow, wide, made narrower meanwhile, closed."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.cells import cell_len

from tests.doctor.train import runs

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux on this machine (apt-get install tmux)")
ROOT = Path(__file__).parents[3]
WAIT = 60.0  # seconds, on a busy machine


class Terminal:
    """One tmux server with one window, in which the run goes on."""

    def __init__(self, folder: Path, width: int, lang: str) -> None:
        self.server = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        self.folder = folder / "run"
        argv = [sys.executable, "-m", "tests.doctor.train.live_run", str(self.folder), lang]
        environ = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}
        environ.pop("TMUX", None)
        size = ["-x", str(width), "-y", "40"]
        keep = [";", "set-option", "-g", "remain-on-exit", "on"]
        start = [*self.server, "-u", "new-session", "-d", *size, "-c", str(ROOT), *argv, *keep]
        subprocess.run(start, check=True, env=environ, cwd=ROOT)

    def tmux(self, *words: str) -> str:
        return subprocess.run([*self.server, *words], check=True, capture_output=True, text=True).stdout

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.tmux("capture-pane", "-p").rstrip("\n").split("\n")]

    def wait(self, text: str) -> list[str]:
        until = time.monotonic() + WAIT
        while text not in "\n".join(lines := self.lines()):
            assert time.monotonic() < until, lines
            time.sleep(0.1)
        return lines

    def run_directory(self) -> Path:
        return max((self.folder / "work" / ".skyt1-doctor" / "runs").iterdir())


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def open_one(width, lang="en"):
        opened.append(Terminal(tmp_path, width, lang))
        return opened[-1]

    yield open_one
    for one in opened:
        subprocess.run([*one.server, "kill-server"], check=False, capture_output=True)


def panels(lines):
    return [line for line in lines if len(line) >= 40 and set(line) == {"─"}]


@pytest.mark.parametrize("width", [80, 200])
def test_one_panel_that_fits_from_the_first_step_to_the_last(terminal, width):
    shown = terminal(width)
    lines = shown.wait("checkpoint-20 is complete")
    text = "\n".join(lines)
    assert len(panels(lines)) == 1
    assert max(cell_len(line) for line in lines) == width  # the rule, and nothing beyond it
    for part in ("/40", "%", "loss ", "▁", "lr 1e-05", "grad 1.25", "/step", "host memory", "disk", "left "):
        assert part in text, part
    lines = shown.wait("code 0")
    assert len(panels(lines)) == 1
    assert "40/40  100%" in "\n".join(lines)


def test_chinese(terminal):
    text = "\n".join(terminal(80, "zh").wait("checkpoint-10 已完整保存"))
    assert "步" in text
    assert "host memory" not in text


def test_a_window_made_narrower_leaves_one_panel(terminal):
    shown = terminal(200)
    shown.wait("checkpoint-10 is complete")
    shown.tmux("resize-window", "-x", "80")
    lines = shown.wait("checkpoint-20 is complete")
    assert max(cell_len(line) for line in lines) == 80
    text = "\n".join(shown.wait("code 0"))
    assert "40/40  100%" in text


def test_a_closed_terminal_ends_the_run_with_a_whole_record(terminal):
    shown = terminal(80)
    shown.wait("checkpoint-10 is complete")
    folder = shown.run_directory()
    shown.tmux("kill-session")
    until = time.monotonic() + WAIT
    while "end" not in runs.kinds(folder):
        assert time.monotonic() < until, runs.kinds(folder)
        time.sleep(0.1)
    assert runs.rows(folder, "events")[-1]["code"] == 130
    while left := [
        p.pid for p in psutil.process_iter(["cmdline"]) if str(shown.folder) in " ".join(p.info["cmdline"] or ())
    ]:
        assert time.monotonic() < until, left
        time.sleep(0.1)
