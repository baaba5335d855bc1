"""Runs `llamafactory-cli train` many times after one start: `python serve.py` in the target's interpreter.

Reads one JSON object per line: {"cwd": dir, "argv": [recipe], "environ": {...}, "log": file, "seconds": limit}; answers
each with {"code": exit code or null when it was ended at the limit, "seconds": float}. Each run is a fork of the process
that has imported LLaMA-Factory, in a session of its own, so that nothing of one run reaches the next.
"""

import json
import os
import signal
import sys
import time
import traceback

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever the packages print, from their import on, is not an answer

from llamafactory.train.tuner import run_exp  # noqa: E402


def run(job):
    """In the fork: become the trainer. Exits as the interpreter would."""
    os.setsid()
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environ"])
    sys.argv = ["llamafactory-cli", *job["argv"]]
    code = 1
    try:
        run_exp()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter itself does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid, seconds):
    """The exit code of the fork; None when it had to be ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def main():
    print(json.dumps({"ready": True}), file=ANSWERS, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        begun = time.monotonic()
        pid = os.fork()
        if pid == 0:
            run(job)
        code = wait(pid, job["seconds"])
        print(json.dumps({"code": code, "seconds": round(time.monotonic() - begun, 1)}), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
