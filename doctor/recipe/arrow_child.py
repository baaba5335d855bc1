"""Runs in the target's interpreter: `python arrow_child.py FILE parquet|arrow` — the records of FILE as lines of JSON.

Each line is a list of records; the last is {"rows": number} or {"broken": why pyarrow cannot read on}. Imports nothing of
the doctor.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

ROWS = 500  # of one line


def batches(path: str, kind: str) -> "Iterator[Any]":
    import pyarrow

    if kind == "parquet":
        import pyarrow.parquet

        yield from pyarrow.parquet.ParquetFile(path).iter_batches(ROWS)
        return
    with pyarrow.memory_map(path) as file:  # as `datasets` opens it: a stream first, then a file
        try:
            yield from pyarrow.ipc.open_stream(file)
        except pyarrow.lib.ArrowInvalid:
            reader = pyarrow.ipc.open_file(path)
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))


def main() -> None:
    path, kind = sys.argv[1:3]
    try:
        import pyarrow  # noqa: F401 - that it is missing is no fault of the file
    except Exception as error:  # noqa: BLE001 - whatever ends its import, nobody could look
        sys.exit(f"pyarrow cannot be imported ({error})")
    rows = 0
    try:
        for batch in batches(path, kind):
            for start in range(0, batch.num_rows, ROWS):
                records = batch.slice(start, ROWS).to_pylist()
                rows += len(records)
                print(json.dumps(records, default=lambda value: {"binary": str(type(value).__name__)}), flush=True)
    except Exception as error:  # noqa: BLE001 - pyarrow has many ways to refuse a file
        print(json.dumps({"broken": f"{type(error).__name__}: {error}"[:200]}), flush=True)
        return
    print(json.dumps({"rows": rows}), flush=True)


if __name__ == "__main__":
    main()
