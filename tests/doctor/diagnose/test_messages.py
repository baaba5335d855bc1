"""What transformers, trl, torch, NCCL and their like print when they refuse: one line of `messages.tsv` each.

The lines were read in the sources. Each is diagnosed as a run of torchrun shows it: a traceback whose last frame raised
the message, and torchrun's own account behind it.
"""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from doctor.diagnose import diagnose
from knowledge_base.index import index

SITE = "/opt/env/lib/python3.10/site-packages/"
HEAD = """Traceback (most recent call last):
  File "/home/user/LLaMA-Factory/src/llamafactory/launcher.py", line 23, in <module>
    launch()
  File "/home/user/LLaMA-Factory/src/llamafactory/train/tuner.py", line 110, in run_exp
    _training_function(config={"args": args, "callbacks": callbacks})
"""
WRAPPER = """E0301 10:00:00.000000 140000000000000 torch/distributed/elastic/multiprocessing/api.py:869] failed \
(exitcode: 1) local_rank: 0 (pid: 4242) of binary: /opt/env/bin/python3.10
Traceback (most recent call last):
  File "/opt/env/bin/torchrun", line 8, in <module>
    sys.exit(main())
  File "/opt/env/lib/python3.10/site-packages/torch/distributed/launcher/api.py", line 269, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
/home/user/LLaMA-Factory/src/llamafactory/launcher.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2025-03-01_10:00:00
  host      : node1
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 4242)
  error_file: <N/A>
============================================================
"""


def messages() -> dict[str, list[tuple[str, str]]]:
    """cause: (frame, message) of each line; no frame where the line is none of Python's."""
    found = collections.defaultdict(list)
    for line in (Path(__file__).parent / "messages.tsv").read_text(encoding="utf-8").splitlines():
        cause, frame, message = line.split("\t")
        found[cause].append((frame, message.replace("\\n", "\n")))
    return found


def log_of(frame: str, message: str) -> str:
    if not frame:
        return f"{message}\n{WRAPPER}"
    path, _, function = frame.partition(" ")
    return f'{HEAD}  File "{SITE}{path}", line 123, in {function}\n    raise\n{message}\n{WRAPPER}'


@pytest.mark.parametrize("cause", sorted(messages()))
def test_a_message_is_answered_with_its_cause(cause: str, tmp_path: Path) -> None:
    assert cause in index().summaries
    log = tmp_path / "train.log"
    for frame, message in messages()[cause]:
        log.write_text(log_of(frame, message), encoding="utf-8")
        assert [finding.cause for finding in diagnose([log]).findings][:1] == [cause], message
