"""Stretches of bytes → lines: decoded, without colours and progress-bar leftovers, with the rank that wrote each.

Ranks are told by what launchers put in front of a line: torch's `[rank3]:`, torchrun's `[default0]:` and tee prefixes,
DeepSpeed's and pdsh's `node1: `, Slurm's `3: ` (srun -l), MPI's `[1,3]<stderr>:`, Ray's `(Worker pid=7)`, compose's
`worker-1  | `. Two of them may follow each other (`node1: [rank5]: `).
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
PREFIX = re.compile(
    r"""\s*(?:
      \[?(?:rank|default)(?P<rank>\d{1,5})\]:\s?
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
    r"^\W{0,3}(?:[\w.]+: )?(?:\d{2,4}[-/]\d\d[-/]\d{2,4}[ T])?[\d:.,\s|-]{0,24}\[?(?P<level>DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b"
    r"|\[(?P<bracket>DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)[\]|]"
    r"| (?:- |\| )(?P<dashed>DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL) +(?:-|\|)"
    r"|(?:^|\[|: )(?P<glog>[IWEF])(?:\d{3,4} \d\d:\d\d:\d\d| [\w.]+\.cpp:\d+\])"
    r"|\b(?P<warning>\w*Warning): "
)
TIME = re.compile(r"(?:(\d{4})[-/](\d\d)[-/](\d\d)[ T_])(\d\d):(\d\d):(\d\d)|\b[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)")


class Level(IntEnum):
    """How loud a line says it is."""

    INFO = 0
    PLAIN = 1
    WARNING = 2
    ERROR = 3


class Line:
    """One line as it reads. `number` counts from 1 within its log; `lane` tells apart the writers that prefixes show;
    `gap` is true where text was left out before it."""

    __slots__ = ("gap", "lane", "level", "log", "number", "rank", "text")

    def __init__(self, number: int, text: str, log: int, lane: str, rank: int | None, level: Level, gap: bool) -> None:
        self.number, self.text, self.log, self.lane = number, text, log, lane
        self.rank, self.level, self.gap = rank, level, gap

    def __repr__(self) -> str:
        return f"Line({self.number}, {self.text!r}, lane={self.lane!r})"


def lines(scan: Scan, log: int) -> list[Line]:
    """The kept lines of one log, in order. Needs `scan.locate()` first where numbers matter."""
    result: list[Line] = []
    for stretch in scan.stretches:
        gap = bool(result) and not stretch.joined
        for number, text in _texts(stretch):
            for piece in MIDLINE_RANK.split(text) if "[rank" in text or "[default" in text else (text,):
                result.append(_line(number, piece, log, scan.stream.rank, gap))
                gap = False
    if scan.stream.rank is None:
        _slurm(result)
    return result


def _texts(stretch: Stretch) -> Iterator[tuple[int, str]]:
    """Line number and text, one for each part between carriage returns that is not blank, blank lines kept."""
    for index, raw in enumerate(stretch.text.split(b"\n")):
        text = _decode(raw)
        if "\x1b" in text or "[" in text:
            text = ANSI.sub("", text)
        parts = [part for part in text.split("\r") if part.strip()] if "\r" in text else [text]
        for part in parts or [""]:
            part = CONTROL.sub("", part)
            for start in range(0, max(len(part), 1), LONGEST):
                yield stretch.line + index, part[start : start + LONGEST]


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return raw.decode("gb18030")
        except UnicodeDecodeError:
            return raw.decode("utf-8", "replace")


def _line(number: int, text: str, log: int, rank: int | None, gap: bool) -> Line:
    lane = "" if rank is None else f"rank{rank}"
    for _ in range(3):
        match = PREFIX.match(text, 0, PREFIX_WITHIN)
        if match is None:
            break
        lane += match[0].strip()
        if found := match["rank"] or match["mpi"]:
            rank = int(found)
        text = text[match.end() :]
    if rank is None and "ank" in text[:PREFIX_WITHIN] and (inside := RANK_INSIDE.search(text, 0, PREFIX_WITHIN)):
        rank = int(next(group for group in inside.groups() if group))
    elif rank is None and "RANK:" in text[:PREFIX_WITHIN] and (inside := RANK_INSIDE.search(text, 0, PREFIX_WITHIN)):
        rank = int(next(group for group in inside.groups() if group))
    return Line(number, text.rstrip(), log, lane, rank, level(text), gap)


def level(text: str) -> Level:
    """The level that the line's own format states; PLAIN when it states none."""
    match = LEVEL.search(text, 0, PREFIX_WITHIN)
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
