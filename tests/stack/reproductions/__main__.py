"""`python -m tests.stack.reproductions [ID ...]`: run reproductions, record what they showed.

--environment STACK=DIR   use an installed environment instead of making one (its packages are put back)
--keep-logs               keep rightly diagnosed logs as the positive logs of their causes
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.stack.reproductions import record
from tests.stack.reproductions.catalogue import CASES
from tests.stack.reproductions.run import faults, reproduce
from tests.stack.reproductions.stacks import Stacks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*")
    parser.add_argument("--environment", action="append", default=[])
    parser.add_argument("--keep-logs", action="store_true")
    chosen = parser.parse_args()
    given = {stack: Path(folder) for stack, folder in (text.split("=", 1) for text in chosen.environment)}
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="reproduce-") as scratch:
        stacks = Stacks(Path(scratch) / "environments", given)
        for case in CASES:
            if chosen.ids and not {case.id, case.cause, case.stack} & set(chosen.ids):
                continue
            with stacks.lent(case) as environment:
                seen = reproduce(case, environment, Path(scratch) / case.id)
            said = faults(case, seen)
            wrong += bool(said)
            print(
                f"{'ok  ' if not said else 'FAIL'} {case.id} {seen.seconds} s, fix {seen.fix}: {'; '.join(said)}",
                flush=True,
            )
            if said:
                print(seen.notes, seen.log[-1500:], sep="\n--- log\n", flush=True)
            record.result(case, seen, said)
            if chosen.keep_logs and seen.diagnosed[:1] == [case.cause]:
                record.keep_log(case, seen)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
