"""How a run ended: what stood before a good end is over with, unless another writer's failure outlived it.

Rank 0 prints the figures of a training when it is done with it, however its peers fare. So a good end speaks for what the
same rank wrote before it, and for the whole run only where nobody else died: a launcher that then tells of a dead
child, a traceback of another rank, or the log of another rank is not undone by it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable

from doctor.diagnose.failures import Failure
from doctor.diagnose.lines import Level, Line


class Ends:
    """The good ends of a run (their positions in `lines`) among its failures."""

    def __init__(self, lines: list[Line], good: Iterable[int], failures: list[Failure]) -> None:
        self.lines = lines
        self.last: dict[int, int] = {}  # log -> its last good end
        for position in good:
            log = lines[position].log
            self.last[log] = max(position, self.last.get(log, -1))
        self.exits: dict[int, list[int]] = defaultdict(list)  # log -> where it tells that a process died
        for failure in failures:
            if failure.code:
                self.exits[failure.log].append(failure.at)
        self.undone = {log for log, end in self.last.items() if self._dies_of_what_came_before(log, end, failures)}
        self.well_ranks = {lines[end].rank for end in self.last.values()} - {None}
        self.info: dict[int, int] = {}  # log -> its last INFO line
        if len({line.log for line in lines}) > 1:
            self.info = {line.log: at for at, line in enumerate(lines) if line.level is Level.INFO}

    def over(self, position: int) -> bool:
        """Whether what stands there came before a good end that speaks for it."""
        line = self.lines[position]
        end = self.last.get(line.log)
        if end is None:
            # The other stream of a rank that ended well: a log that went on after the failure has left it behind.
            return line.rank in self.well_ranks and self.info.get(line.log, -1) > position
        if position > end:
            return False
        exits = self.exits[line.log]
        a_launch_ended_between = bisect_right(exits, end) > bisect_left(exits, position)
        if a_launch_ended_between:
            return True
        writer = self.lines[end].rank or 0
        return line.log not in self.undone and (line.rank is None or line.rank == writer)

    def well(self, failures: list[Failure]) -> bool:
        """Whether the run ended well: somebody said so, and no failure is left that it does not speak for."""
        return bool(self.last) and not any((f.hard or f.code) and not self.over(f.at) for f in failures)

    @staticmethod
    def _dies_of_what_came_before(log: int, end: int, failures: list[Failure]) -> bool:
        """Whether a process is told dead after the good end, and nothing in between says of what."""
        after = [failure for failure in failures if failure.log == log and failure.at > end]
        return any(failure.code for failure in after) and not any(failure.hard for failure in after)
