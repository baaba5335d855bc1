"""Where a log prints examples of the data: words in them say nothing about the run.

LLaMA-Factory prints the first example of a data set: `training example:`, then `input_ids:`, `inputs:`, `label_ids:` and
`labels:`, each followed by its value, which may be any text, a traceback too.
"""

from __future__ import annotations

import re
from itertools import pairwise

from doctor.diagnose.lines import Level, Line

HEADING = re.compile(
    r"^(?:(?:training|eval) example|inputs|labels|label_ids|input_ids|(?:chosen|rejected)_(?:inputs|input_ids|label_ids"
    r"|labels)|prompt):?\s*"
)
LONGEST = 400  # lines of one value


def samples(lines: list[Line]) -> set[int]:
    """Indexes of the lines that belong to printed examples."""
    inside: set[int] = set()
    headings = [position for position, line in enumerate(lines) if HEADING.match(line.text)]
    for heading, following in pairwise([*headings, len(lines)]):
        last = following == len(lines) or following - heading > LONGEST
        for position in range(heading, min(following, heading + LONGEST)):
            line = lines[position]
            if position > heading and (
                line.level is Level.INFO
                or (last and (line.level is not Level.PLAIN or line.text.startswith("Traceback (")))
            ):
                break
            inside.add(position)
    return inside
