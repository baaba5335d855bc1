"""Runs in the target's interpreter: `python token_child.py FILE ...` — the lowest and highest id in tokenised Arrow files.

Prints a line of JSON behind each batch: {column: [lowest, highest]} of all that was read so far; a time that is up loses
no more than the rest. Imports nothing of the doctor.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

ENDS = ("input_ids", "labels")
IGNORED = -100  # IGNORE_INDEX of LLaMA-Factory, for which no loss is computed


def batches(path: str) -> "Iterator[Any]":
    import pyarrow

    with pyarrow.memory_map(path) as file:
        yield from pyarrow.ipc.open_stream(file)


def main() -> None:
    import pyarrow.compute

    widest: dict[str, list[int]] = {}
    for path in sys.argv[1:]:
        for batch in batches(path):
            for name in batch.schema.names:
                if not name.endswith(ENDS) or not hasattr(batch.schema.field(name).type, "value_type"):
                    continue
                ids = batch.column(batch.schema.get_field_index(name)).flatten()
                ids = ids.filter(pyarrow.compute.not_equal(ids, IGNORED)) if name.endswith("labels") else ids
                ends = pyarrow.compute.min_max(ids).as_py()
                if ends["min"] is not None:
                    low, high = widest.setdefault(name, [ends["min"], ends["max"]])
                    widest[name] = [min(low, ends["min"]), max(high, ends["max"])]
            print(json.dumps(widest), flush=True)


if __name__ == "__main__":
    main()
