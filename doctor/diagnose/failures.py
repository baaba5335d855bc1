"""Lines → failures: Python tracebacks with their chains, native aborts, build and shell errors, exit codes.

The parser expects what logs really hold: several ranks writing through each other, indentation lost in a chat, a
traceback on one line, the beginning or the end cut off. It never fails; what it cannot read it leaves out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from doctor.diagnose.corpus import Corpus
from doctor.diagnose.events import ECHOES, FORMATS, NOISE_HEADER, TRIGGERS, WRAPPER_MESSAGES, WRAPPERS, Kind
from doctor.diagnose.lines import TIME, Level, Line

READ = 4000  # characters of a line that are looked at
MESSAGE_LINES = 40  # a message is read on over this many lines at most
HEADER = re.compile(r"Traceback \(most recent call last\)")
FRAME = re.compile(r'File "(?P<file>[^"\n]{1,300})", line (?P<line>\d+)(?:, in (?P<function>[\w<>.]+))?')
RICH_FRAME = re.compile(r"│? ?(?P<file>/[^\s:│]{1,300}):(?P<line>\d+) in (?P<function>[\w<>.]+)")
NAME = (
    r"(?:[A-Za-z_]\w*\.){0,8}(?:[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Timeout|Fault|Invalid|Enabled|NotFound"
    r"|ExceptionGroup|Failed|OutOfResources|error)|Exception|KeyboardInterrupt|StopIteration|error)"
)
EXCEPTION = re.compile(
    rf"^(?P<before>.{{0,160}}?)(?<![\w.'\"`/-])(?P<type>{NAME})(?:: (?P<message>.*)|(?P<bare>:?)\s*)$"
)
CAPITAL = re.compile(r"^[a-z]+(?:error|exception): ")  # a log that was typed in small letters
PLAIN_NAME = re.compile(r"^(?P<type>(?:[A-Za-z_]\w*\.){1,8}\w+(?=: )|(?:\w+\.){0,8}[A-Z]\w+)(?:: (?P<message>.*))?$")
CHAIN = re.compile(r"The above exception was the direct cause of|During handling of the above exception, another")
GOES_ON = re.compile(r":\s*$|\(Request ID: [^)]*\)\.?\s*$")  # the message, or more of it, stands behind an empty line
NPU_CODE = re.compile(r"^\[ERROR\] \S+ \(PID:\d+, Device:-?\d+, RankID:-?\d+\) ERR\d+")  # torch_npu, in its messages
GROUP_BORDER = re.compile(r"^\s*(?:\| |\+-\+?-*(?: \d+)? -*|\+-+)")
NOT_BEFORE = re.compile(r"\b(?:except|raise|import|class|isinstance|from|catch|isn't|warn\w*)\b|Warning|[=({\[]\s*$|#")
WHAT = re.compile(r"\s*what\(\):")
TERMINATED_WITHIN = 6  # lines between `terminate called` and `what():`, which other ranks write into
PROGRESS = re.compile(r"\d+%\||\d+/\d+ \[")
OURS = re.compile(r"site-packages|dist-packages|/lib/python3|<frozen|<string>|<stdin>|/torch/|/transformers/|importlib")


@dataclass(frozen=True)
class Frame:
    file: str
    line: int
    function: str


@dataclass
class Failure:
    """One failure. `start` and `end` (behind the last) index the list of lines; `chain` is shared by the exceptions of
    one chained traceback, innermost first; the message stands at `at`."""

    kind: Kind
    start: int
    at: int
    end: int
    log: int
    lane: str
    rank: int | None
    exception: str
    message: str
    frames: list[Frame] = field(default_factory=list)
    chain: int = 0
    time: tuple[int, ...] | None = None
    code: int | None = None
    level: Level = Level.PLAIN

    @property
    def wraps(self) -> bool:
        """Only passes on that something else failed."""
        return (
            self.kind is Kind.EXIT
            or WRAPPERS.search(self.exception) is not None
            or WRAPPER_MESSAGES.search(self.message) is not None
        )

    @property
    def echoes(self) -> bool:
        """What a healthy rank writes when its peer has died."""
        return ECHOES.search(self.message) is not None

    @property
    def hard(self) -> bool:
        """Somebody's own failure: no noise, no echo, nothing that was merely logged as a warning."""
        return self.kind is not Kind.NOISE and not self.wraps and not self.echoes and self.level is not Level.INFO

    @property
    def ended_its_process(self) -> bool:
        """A traceback that nothing went on after (doctor.diagnose.engine leaves out the others), be it an echo."""
        return self.kind is Kind.PYTHON and bool(self.frames) and self.level is Level.ERROR

    @property
    def died_of(self) -> bool:
        """Tells of a signal that nobody sends to stop a healthy process: killed, crashed, aborted."""
        return self.code is not None and self.code < 0 and self.code not in (-2, -15)

    @property
    def user_frames(self) -> list[Frame]:
        return [frame for frame in self.frames if not OURS.search(frame.file)]


@dataclass
class _Open:
    """A traceback that is being read in one lane."""

    start: int
    noise: bool
    chain: int
    indent: int
    frames: list[Frame] = field(default_factory=list)
    last: int = 0


def failures(lines: list[Line]) -> list[Failure]:
    """All failures in the order in which their messages stand."""
    return _Reader(lines).read()


class _Reader:
    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        self.found: list[Failure] = []
        self.open: dict[tuple[int, str], _Open] = {}
        self.chained: dict[tuple[int, str], int] = {}  # lane -> chain that its next traceback belongs to
        self.noise_until: dict[tuple[int, str], int] = {}
        self.chains = 0

    def read(self) -> list[Failure]:
        worth_reading = set(Corpus([line.text for line in self.lines]).lines_matching(TRIGGERS))
        for index, line in enumerate(self.lines):
            if line.gap:
                self.open.clear()
            if line.text and (index in worth_reading or (line.log, line.lane) in self.open):
                self._line(index, line)
        return self.found

    def _clock(self, index: int) -> tuple[int, ...] | None:
        """Month, day, hour, minute, second of the last time printed before."""
        for line in reversed(self.lines[max(0, index - 60) : index + 1]):
            if match := TIME.search(line.text, 0, 160):
                return tuple(int(group) for group in match.groups() if group is not None)[-5:]
        return None

    def _line(self, index: int, line: Line) -> None:
        lane = (line.log, line.lane)
        text = GROUP_BORDER.sub("", line.text[:READ])
        if NOISE_HEADER.search(text):
            self.noise_until[lane] = index + 60
        if header := HEADER.search(text):
            self._begin(index, lane, len(text) - len(text.lstrip()))
            text = text[header.end() :].lstrip(": ─╮-")
            if not text:
                return
        if CHAIN.search(text):
            self.chained[lane] = self.found[-1].chain if self.found else self._new_chain()
            return
        traceback = self.open.get(lane)
        frames = [*FRAME.finditer(text)] or ([*RICH_FRAME.finditer(text)] if "│" in text else [])
        for frame in frames:
            if traceback is None:
                traceback = self._begin(index, lane, len(text) - len(text.lstrip()) - 2)
            traceback.frames.append(Frame(frame["file"], int(frame["line"]), frame["function"] or ""))
            traceback.last = index
        if frames:
            text = text[frames[-1].end() :]  # on one line: what follows the last frame may hold the exception
        if self._exception(index, line, lane, text, traceback):
            return
        if traceback is not None and index - traceback.last > 60:
            del self.open[lane]
        if traceback is None or line.level is Level.ERROR:
            self._format(index, line, text)

    def _begin(self, index: int, lane: tuple[int, str], indent: int) -> _Open:
        noise = self.noise_until.pop(lane, 0) > index
        chain = self.chained.pop(lane, 0) or self._new_chain()
        self.open[lane] = _Open(index, noise, chain, max(indent, 0), last=index)
        return self.open[lane]

    def _new_chain(self) -> int:
        self.chains += 1
        return self.chains

    def _exception(self, index: int, line: Line, lane: tuple[int, str], text: str, traceback: _Open | None) -> bool:
        """Whether the line states an exception; then the failure is added and the lane's traceback closed."""
        stripped = text.strip().lstrip("│ ").rstrip("│ ")
        match = EXCEPTION.match(stripped)
        if match and (NOT_BEFORE.search(match["before"]) or (match["bare"] is not None and match["before"].strip())):
            match = None
        if match is None and traceback is not None and traceback.frames and not text[:1].isspace():
            match = PLAIN_NAME.match(stripped)
        if match is None and (traceback is None or traceback.frames) and CAPITAL.match(stripped):
            match = re.match(r"(?P<type>\w+): (?P<message>.*)", stripped)
        if match is None or match["type"].endswith("Warning"):
            return False
        if match["type"] in ("error", "Exception") and traceback is None and match["before"].strip():
            return False
        if traceback is None and match["message"] is None and line.text[:1].isspace():
            return False
        end = self._message_end(index, lane)
        more = (line.text.strip() for line in self._of_lane(index + 1, end, lane))
        message = "\n".join([(match["message"] or "").strip(), *more])
        noise = traceback.noise if traceback else self.noise_until.pop(lane, 0) > index
        self.found.append(
            Failure(
                Kind.NOISE if noise else Kind.PYTHON,
                traceback.start if traceback else index,
                index,
                end,
                line.log,
                line.lane,
                line.rank,
                match["type"],
                message.strip(),
                traceback.frames if traceback else [],
                traceback.chain if traceback else self.chained.pop(lane, 0) or self._new_chain(),
                self._clock(index),
                level=line.level if traceback is None else Level.ERROR,
            )
        )
        self.open.pop(lane, None)
        return True

    def _of_lane(self, start: int, end: int, lane: tuple[int, str]) -> list[Line]:
        return [line for line in self.lines[start:end] if (line.log, line.lane) == lane]

    def _message_end(self, index: int, lane: tuple[int, str]) -> int:
        """Behind the last line of the message that begins at `index`. An empty line ends it, but where nothing is said
        yet: huggingface_hub's messages begin with one, or have the request before it."""
        goes_on = GOES_ON.search(self.lines[index].text)
        for position in range(index + 1, min(index + MESSAGE_LINES, len(self.lines))):
            line = self.lines[position]
            if (line.log, line.lane) != lane:
                continue
            text = line.text[:READ]
            if (not text.strip() and goes_on and position <= index + 3) or NPU_CODE.match(text):
                continue
            goes_on = GOES_ON.search(text)
            if (
                not text.strip()
                or line.gap
                or line.level is not Level.PLAIN
                or HEADER.search(text)
                or CHAIN.search(text)
                or FRAME.search(text)
                or PROGRESS.search(text)
                or text.lstrip(" |").startswith("+-")
                or text.startswith(("=====", "-----", '"""', "[", "$ ", "{'"))
                or ((match := EXCEPTION.match(text.strip())) and not match["before"])
            ):
                return position
        return min(index + MESSAGE_LINES, len(self.lines))

    def _format(self, index: int, line: Line, text: str) -> None:
        if line.level is Level.INFO and "NCCL WARN" not in text:
            return
        for kind, pattern in FORMATS:
            match = pattern.search(text)
            if match is None:
                continue
            groups = match.groupdict()
            rank = int(groups["rank"]) if groups.get("rank") else line.rank
            code = int(groups["code"]) if groups.get("code") else None
            name = groups.get("type") or (f"exit code {code}" if code is not None else kind.value)
            if WHAT.match(text) and self._says_more(index, line, match["message"]):
                return
            self.found.append(
                Failure(
                    kind, index, index, index + 1, line.log, line.lane, rank, name,
                    (groups["message"] or match[0]).strip(), [], self._new_chain(), self._clock(index), code, line.level,
                )
            )  # fmt: skip
            return

    def _says_more(self, index: int, line: Line, message: str) -> bool:
        """Whether the line is what C++ says behind `terminate called`; then it is the message of that failure."""
        for failure in reversed(self.found[-8:]):
            near = (failure.log, failure.lane) == (line.log, line.lane) and index - failure.at <= TERMINATED_WITHIN
            if near and failure.message.startswith("terminate called"):
                failure.at, failure.end, failure.message = index, index + 1, message.strip()
                return True
        return False
