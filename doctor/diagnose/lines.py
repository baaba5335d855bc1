"""Stretches of bytes → lines: decoded, without colours and progress-bar leftovers, with the rank that wrote each.

Ranks are told by what launchers put in front of a line: torch's `[rank3]:`, torchrun's `[default0]:` and tee prefixes,
DeepSpeed's and pdsh's `node1: `, Slurm's `3: ` (srun -l), MPI's `[1,3]<stderr>:`, Ray's `(Worker pid=7)`, compose's
`worker-1  | `, the journal's `Jan 02 03:04:05 host python[7]: `. Two of them may follow each other (`node1: [rank5]: `).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum

from doctor.diagnose.scan import Scan, Stretch

LONGEST = 32_768  # characters; a longer line is read as several
PREFIX_WITHIN = 200  # characters in which a prefix may stand

ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])|\[(?:\d{1,3};)*\d{1,3}m")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]")
MIDLINE_RANK = re.compile(r"(?<=.)(?=\[(?:rank|default)\d{1,5}\]:)")
# A log whose lines were folded into one on the way (a chat, a form, an e-mail): where its lines began.
FOLDED = re.compile(r'File "[^"]+", line \d+, in .+ File "[^"]+", line \d+|call last\):\s+File "')
FOLD = re.compile(
    r"""(?<=\S)\s+(?=
      Traceback\ \(most\ recent\ call\ last\)
    | File\ "[^"]+",\ line\ \d+
    | The\ above\ exception\ was\ the\ direct | During\ handling\ of\ the\ above
    | \[(?:INFO|WARNING|ERROR)[|\]]
    | (?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception):\ [^\s)]
    )""",
    re.VERBOSE,
)
PREFIX = re.compile(
    r"""\s*(?:
      [A-Z][a-z]{2}\s+\d{1,2}\s\d\d:\d\d:\d\d\s[\w.-]{1,60}\s[\w./@-]{1,60}\[\d+\]:\s
    | \[?(?:rank|default)(?P<rank>\d{1,5})\]:\s?
    | \[\d+,(?P<mpi>\d{1,5})\]<std(?:out|err)>:\s?
    | \((?:[\w.]+\s)?pid=\d+(?:,\s*ip=[\d.]+)?\)\s?
    | (?P<compose>[\w.-]{1,60}?(?:[-_]\d+)?)\s*\|\s+(?=\S)(?!\d+/\d)
    | (?P<node>(?:node|worker|host|gpu|slave|master|compute|ip|dgx|localhost)[\w.-]{0,60}|(?:\d{1,3}\.){3}\d{1,3}):\s
    | \d{4}-\d\d-\d\d[T\s][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?\s*(?:std(?:out|err)\s[FP]\s|\|\s*\w+\s*\|\s*std(?:out|err)\s*\|\s?)
    )""",
    re.VERBOSE,
)
SLURM = re.compile(r"\s{0,3}(?P<rank>\d{1,4}): ?")
RANK_INSIDE = re.compile(r"\[Rank (\d{1,5})\]|\[PG [^\]]{0,40}?Rank (\d{1,5})\]|\brank=(\d{1,5})\]|\[RANK:(\d{1,5})\]")
LEVEL = re.compile(
    r"^\W{0,3}(?:[\w.]+: )?(?:\d{2,4}[-/]\d\d[-/]\d{2,4}[ T])?[\d:.,\s|-]{0,24}"
    r"\[?(?P<level>DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b"
    r"|\[(?P<bracket>DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)[\]|]"
    r"| (?:- |\| )(?P<dashed>DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL) +(?:-|\|)"
    r"|(?:^|\[|: )(?P<glog>[IWEF])(?:\d{3,4} \d\d:\d\d:\d\d| [\w.]+\.cpp:\d+\])"
    r"|\b(?P<warning>\w*Warning): "
)
# Without any of these a line states no level; looking for them is faster than LEVEL.
LEVEL_HINTS = (
    "INFO",
    "WARN",
    "ERROR",
    "DEBUG",
    "CRITICAL",
    "FATAL",
    "arning: ",
    "[I",
    "[W",
    "[E",
    "[F",
    ": I",
    ": W",
    ": E",
)
MESSAGE_LINES = 12  # of a message without prefixes
BEGINS = re.compile(r"\s*(?:Traceback \(|File \"|[\w.]{1,200}(?:Error|Exception)\b)")
NOTHING_SAID = re.compile(r"^[\w.]{1,200}(?:Error|Exception):$")  # an exception whose message begins on the next line
BAR = re.compile(r"(?:s/it|it/s)\]\s*$")  # tqdm
TIME = re.compile(r"(?:(\d{4})[-/](\d\d)[-/](\d\d)[ T_])(\d\d):(\d\d):(\d\d)|\b[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)")


class Level(IntEnum):
    """How loud a line says it is."""

    INFO = 0
    PLAIN = 1
    WARNING = 2
    ERROR = 3


class Line:
    """One line as it reads. `lane` tells apart the writers that prefixes show; `gap` is true where text was left out
    before it; `within` counts lines from the beginning of its stretch."""

    __slots__ = ("gap", "lane", "level", "log", "rank", "stretch", "text", "within")

    def __init__(self, stretch: Stretch, within: int, text: str, log: int, rank: int | None, gap: bool) -> None:
        self.stretch, self.within, self.text, self.log, self.rank, self.gap = stretch, within, text, log, rank, gap
        self.lane = "" if rank is None else f"rank{rank}"
        self.level = Level.PLAIN

    @property
    def number(self) -> int:
        """From 1, within its log."""
        return self.stretch.line + self.within

    def __repr__(self) -> str:
        return f"Line({self.number}, {self.text!r}, lane={self.lane!r})"


def lines(scan: Scan, log: int) -> list[Line]:
    """The kept lines of one log, in order."""
    result: list[Line] = []
    for stretch in _whole(scan.stretches):
        gap = bool(result)
        for within, text in _texts(stretch):
            for piece in MIDLINE_RANK.split(text) if "[rank" in text or "[default" in text else (text,):
                line = Line(stretch, within, piece, log, scan.stream.rank, gap)
                _take_prefixes(line)
                result += _unfolded(line)
                gap = False
    if scan.stream.rank is None:
        _slurm(result)
    _unprefixed(result)
    return result


def _whole(stretches: list[Stretch]) -> Iterator[Stretch]:
    """The stretches, those that follow each other without a gap made one: a line may begin in one and end in the next."""
    group: list[Stretch] = []
    for stretch in [*stretches, None]:
        if group and (stretch is None or not stretch.joined):
            first = group[0]
            first.text = b"".join(part.text for part in group)
            yield first
            group = []
        if stretch is not None:
            group.append(stretch)


def _texts(stretch: Stretch) -> Iterator[tuple[int, str]]:
    """Number within the stretch, and text; one for each part between carriage returns that is not blank."""
    for index, raw in enumerate(stretch.text.split(b"\n")):
        text = _decode(raw)
        if "\x1b" in text or "[" in text:
            text = ANSI.sub("", text)
        parts = [part for part in text.split("\r") if part.strip()] if "\r" in text else [text]
        for part in parts or [""]:
            part = CONTROL.sub("", part)
            for start in range(0, max(len(part), 1), LONGEST):
                yield index, part[start : start + LONGEST]


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return raw.decode("gb18030")
        except UnicodeDecodeError:
            return raw.decode("utf-8", "replace")


def _unfolded(line: Line) -> list[Line]:
    """The line, or the lines that were folded into it."""
    if 'File "' not in line.text or not FOLDED.search(line.text):
        return [line]
    first, *others = FOLD.split(line.text)
    line.text, line.level = first, level(first)
    result = [line]
    for text in others:
        more = Line(line.stretch, line.within, text, line.log, line.rank, gap=False)
        more.lane, more.level = line.lane, level(text)
        result.append(more)
    return result


def _take_prefixes(line: Line) -> None:
    """Move what launchers put in front of the text to the line's lane, rank and level."""
    text = line.text
    if BAR.search(text[-40:]) or text.startswith("{'loss'"):  # what most lines are; they need no closer look
        line.text = text.rstrip()
        return
    for _ in range(3):
        match = PREFIX.match(text, 0, PREFIX_WITHIN)
        if match is None:
            break
        line.lane += match[0].strip()
        if found := match["rank"] or match["mpi"]:
            line.rank = int(found)
        text = text[match.end() :]
    if line.rank is None and (inside := RANK_INSIDE.search(text, 0, PREFIX_WITHIN)):
        line.rank = int(next(group for group in inside.groups() if group))
    line.text = text.rstrip()
    line.level = level(line.text)


def level(text: str) -> Level:
    """The level that the line's own format states; PLAIN when it states none."""
    head = text[:PREFIX_WITHIN]
    if head[:1] not in "IWEF" and not any(hint in head for hint in LEVEL_HINTS):
        return Level.PLAIN
    match = LEVEL.search(head)
    if match is None:
        return Level.PLAIN
    if match["warning"]:
        return Level.WARNING
    word = match["level"] or match["bracket"] or match["dashed"] or match["glog"]
    if word[0] == "W":
        return Level.WARNING
    return Level.INFO if word[0] in "ID" else Level.ERROR


def _slurm(result: list[Line]) -> None:
    """Take `srun -l` task numbers off, when nearly every line has one and there are at least two of them."""
    bare = [line for line in result if line.text and not line.lane]
    matches = [SLURM.match(line.text) for line in bare]
    found = [match for match in matches if match]
    if len(found) < 4 or len(found) < 0.9 * len(bare) or len({match["rank"] for match in found}) < 2:
        return
    for line, match in zip(bare, matches, strict=True):
        if match:
            line.lane, line.rank, line.text = match[0].strip(), int(match["rank"]), line.text[match.end() :]
            line.level = level(line.text)


def _unprefixed(result: list[Line]) -> None:
    """Give the message of an exception that says nothing on its own line to the rank that raised it, where only the first
    line still has its prefix: a log cleaned by hand."""
    for position, line in enumerate(result):
        if not line.lane or not line.text.endswith(":") or not NOTHING_SAID.match(line.text):
            continue
        for more in result[position + 1 : position + 1 + MESSAGE_LINES]:
            if (
                more.lane
                or more.gap
                or not more.text.strip()
                or more.level is not Level.PLAIN
                or BEGINS.match(more.text)
            ):
                break
            more.lane, more.rank = line.lane, line.rank
