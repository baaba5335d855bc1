"""What a person sees of a run: a live view in a terminal, the trainer's own output and plain notes anywhere else."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from doctor import redact
from doctor.findings import Finding
from doctor.report.words import say
from doctor.train import launch
from doctor.train.sizes import nice_bytes, nice_seconds
from doctor.train.trainer_lines import ordinary
from doctor.train.watch import Watch

REDRAW_SECONDS = 0.5
EVENTS_SHOWN = 3
TOLD = (
    "alarm",
    "failure",
    "diagnosis",
    "heal",
    "resume",
    "signal",
)  # events that are printed, not only shown for a while
_SPARKS = "▁▂▃▄▅▆▇█"


def told(kind: str, text: str, finding: Finding | None) -> list[str]:
    """The lines of an event; of an alarm with what was seen, unless the first line says it already."""
    lines = [f"[skyt1-doctor] {text}"]
    if finding is not None and kind == "alarm":
        lines += [f"    {item.what}  — {item.where}" for item in finding.evidence if item.what not in text]
    return lines


class View(Protocol):
    """Told of output, events and the state of the watch, in this order."""

    def output(self, data: bytes, lines: list[str]) -> None: ...
    def event(self, kind: str, text: dict[str, str], finding: Finding | None) -> None: ...
    def update(self, watch: Watch, last: bool = False) -> None: ...
    def close(self) -> None: ...


class PlainView:
    """The trainer's output byte for byte on stdout, notes a line each on stderr."""

    def __init__(self, lang: str, echo: bool = True) -> None:
        self.lang, self.echo = lang, echo

    def output(self, data: bytes, lines: list[str]) -> None:
        if self.echo:
            launch.echo(data)

    def event(self, kind: str, text: dict[str, str], finding: Finding | None) -> None:
        if kind in TOLD:
            for line in told(kind, text[self.lang], finding):
                print(line, file=sys.stderr, flush=True)

    def update(self, watch: Watch, last: bool = False) -> None:
        return

    def close(self) -> None:
        return


class LiveView:
    """A panel below the trainer's ordinary lines; its progress bars and dicts of figures become the panel."""

    def __init__(self, lang: str, console: Console | None = None) -> None:
        self.lang = lang
        self.console = console or Console(highlight=False, emoji=False)
        self.events: list[tuple[float, str, str]] = []
        self._drawn = 0.0
        self.live = Live(console=self.console, auto_refresh=False, transient=False, redirect_stdout=False)
        self.live.start()

    def output(self, data: bytes, lines: list[str]) -> None:
        shown = [line for line in lines if ordinary(line)]
        if shown:
            text = Text("\n".join(redact.text(line) for line in shown))
            self.console.print(text, style="dim", soft_wrap=True)

    def event(self, kind: str, text: dict[str, str], finding: Finding | None) -> None:
        style = {"alarm": "yellow", "failure": "bold red", "heal": "cyan", "resume": "cyan"}.get(kind, "")
        self.events = [*self.events, (time.time(), text[self.lang], style)][-EVENTS_SHOWN:]
        if kind in TOLD:
            first, *rest = told(kind, text[self.lang], finding)
            self.console.print(Text(first, style=style), soft_wrap=True)
            for line in rest:
                self.console.print(Text(line, style="dim"), soft_wrap=True)

    def update(self, watch: Watch, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            self.live.update(panel(watch, self.events, self.lang, self.console.width), refresh=True)

    def close(self) -> None:
        self.live.stop()


class Surviving:
    """A view whose terminal may be closed: from the first write that fails on nothing is shown, and the run goes on."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.closed = False

    def _do(self, call: Callable[[], None]) -> None:
        if self.closed:
            return
        try:
            call()
        except OSError:  # EIO of a terminal that is gone, EPIPE of a reader that is
            self.closed = True

    def output(self, data: bytes, lines: list[str]) -> None:
        self._do(lambda: self.view.output(data, lines))

    def event(self, kind: str, text: dict[str, str], finding: Finding | None) -> None:
        self._do(lambda: self.view.event(kind, text, finding))

    def update(self, watch: Watch, last: bool = False) -> None:
        self._do(lambda: self.view.update(watch, last))

    def close(self) -> None:
        self._do(self.view.close)


def open_view(lang: str) -> View:
    """The live view where stdout is a terminal, else plain lines."""
    console = Console(highlight=False, emoji=False)
    lively = console.is_terminal and not console.is_dumb_terminal
    return Surviving(LiveView(lang, console) if lively else PlainView(lang))


def panel(watch: Watch, events: list[tuple[float, str, str]], lang: str, width: int) -> Group:
    """The whole panel for a terminal of `width` columns. Pure apart from the clock."""
    parts: list[Any] = [Text("─" * width, style="dim"), *_head(watch, lang, width), _figures(watch, lang, width)]
    sample = watch.samples[-1] if watch.samples else {}
    if gpus := sample.get("gpus"):
        parts.append(_gpus(gpus, width))
    parts.append(Text(_machine(watch, sample, lang), overflow="ellipsis", no_wrap=True))
    for at, text, style in events:
        clock = time.strftime("%H:%M:%S", time.localtime(at))
        parts.append(Text(f"{clock}  {text}", style=style or "dim", overflow="ellipsis", no_wrap=True))
    return Group(*parts)


def _head(watch: Watch, lang: str, width: int) -> list[Any]:
    """Phase, step of total, the bar, time gone and time left."""
    progress = watch.progress
    gone = nice_seconds(time.monotonic() - progress.started)
    words = [(say(f"phase_{progress.phase}", lang), "bold")]
    if progress.total:
        words.append((f"  {progress.step}/{progress.total}", "bold"))
        words.append((f"  {progress.step / progress.total:.0%}", ""))
    words.append((f"  {say('time_gone', lang)} {gone}", "dim"))
    left = progress.seconds_left()
    if left is not None and progress.phase != "done":
        words.append((f"  {say('time_left', lang)} {nice_seconds(left)}", "cyan"))
    parts: list[Any] = [Text.assemble(*words)]
    if progress.total:
        wide = min(width, 100)
        full = round(wide * progress.step / progress.total)
        parts.append(Text.assemble(("━" * full, "green"), ("━" * (wide - full), "bright_black")))
    return parts


def _figures(watch: Watch, lang: str, width: int) -> Text:
    """Loss with its course, learning rate, grad norm, seconds per step, samples and tokens per second."""
    steps = watch.progress.steps
    if not steps:
        return Text(say("no_step_yet", lang), style="dim")
    last = steps[-1]
    losses = [one.values["loss"] for one in steps if "loss" in one.values]
    cells = []
    if losses:
        cells.append(f"loss {losses[-1]:.4g} {spark(losses, 12 if width < 100 else 40)}")
    if (rate := last.values.get("learning_rate")) is not None:
        cells.append(f"lr {rate:.3g}")
    if (norm := last.values.get("grad_norm")) is not None:
        cells.append(f"grad {norm:.3g}")
    if last.seconds:
        cells.append(f"{nice_seconds(last.seconds)}/{say('step', lang)}")
    if last.samples_per_second:
        cells.append(f"{last.samples_per_second:.3g} {say('samples_per_second', lang)}")
    if last.tokens_per_second:
        cells.append(f"{last.tokens_per_second:,.0f} {say('tokens_per_second', lang)}")
    return Text("  ".join(cells), overflow="fold")


def spark(values: list[float], width: int) -> str:
    """The course of a value in `width` characters, each the mean of its share; what is not finite shows as ×."""
    if len(values) > width:
        size = len(values) / width
        parts = [values[int(i * size) : max(int(i * size) + 1, int((i + 1) * size))] for i in range(width)]
        values = [sum(part) / len(part) for part in parts]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "×" * len(values)
    low, span = min(finite), max(finite) - min(finite) or 1.0
    return "".join(_SPARKS[min(7, int((value - low) / span * 8))] if math.isfinite(value) else "×" for value in values)


def _gpus(gpus: list[dict[str, Any]], width: int) -> Table:
    """Every GPU, as many beside each other as there is room for."""
    table = Table.grid(padding=(0, 2))
    cells = [_gpu(gpu) for gpu in gpus]
    columns = max(1, min(4, (width + 2) // (max(cell.cell_len for cell in cells) + 2)))
    for start in range(0, len(cells), columns):
        table.add_row(*cells[start : start + columns])
    return table


def _gpu(gpu: dict[str, Any]) -> Text:
    if "lost" in gpu:
        return Text(f"GPU {gpu['index']} {gpu['lost']}", style="bold red")
    parts = [f"GPU {gpu['index']}"]
    if "used" in gpu and gpu.get("total"):
        parts.append(f"{gpu['used'] / 2**30:5.1f}/{gpu['total'] / 2**30:.0f} GiB")
    if "utilisation" in gpu:
        parts.append(f"{gpu['utilisation']:3d}%")
    if "watts" in gpu:
        parts.append(f"{gpu['watts']:3.0f}W")
    if "celsius" in gpu:
        parts.append(f"{gpu['celsius']}°C")
    text = Text(" ".join(parts))
    if gpu.get("throttled"):  # the reason is told by the alarm
        text.append(" ↓", style="bold yellow")
    if gpu.get("ecc_errors"):
        text.append(f" ECC {gpu['ecc_errors']}", style="red")
    return text


def _machine(watch: Watch, sample: dict[str, Any], lang: str) -> str:
    """Host memory, and the disk against the next checkpoint."""
    parts = []
    if "host_used" in sample:
        limit = sample.get("host_limit") or sample["host_total"]
        parts.append(f"{say('host_memory', lang)} {nice_bytes(sample['host_used'])}/{nice_bytes(limit)}")
    if "disk_free" in sample:
        free = f"{say('disk_free', lang)} {nice_bytes(sample['disk_free'])}"
        if need := watch.settings.checkpoint_bytes:
            step = watch.next_save()
            at = f" @{step}" if step is not None else ""
            free += f" ({say('next_checkpoint', lang)}{at} {nice_bytes(need)})"
        parts.append(free)
    return "   ".join(parts)
