"""Starts of Python without their imports: `python serve.py SOCKET`, in the interpreter of a training environment.

LLaMA-Factory is imported once; every command that a client (client.py) asks for is a fork of this process, with the
client's directory, variables and output. A rehearsal of the campaign starts Python a dozen times, of which each costs
half a minute of imports; all that comes after them is the real thing. `train` with several processes forks that many
ranks with the variables that torchrun sets, and ends the others when one fails, as torchrun does.
"""

import json
import os
import runpy
import select
import signal
import socket
import sys
import time
import traceback

import deepspeed  # noqa: F401
import peft  # noqa: F401
from llamafactory.train.tuner import run_exp


def start(job, more):
    """Fork one process of a job; its id."""
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update({**job["environ"], **more})
    sys.argv = job["argv"]
    sys.path[0] = os.path.dirname(job["argv"][0])
    code = 1
    try:
        if job["kind"] == "train":
            run_exp()
        else:
            runpy.run_path(job["argv"][0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter itself does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ranks(job):
    """What torchrun would add to the environment of each rank; one empty addition for a run without it."""
    environ = job["environ"]
    count = int(environ.get("NPROC_PER_NODE") or 1)
    if job["kind"] != "train" or environ.get("FORCE_TORCHRUN", "0").lower() not in ("1", "true"):
        return [{}]
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "TORCHELASTIC_RUN_ID": "none"}
    shared |= {"OMP_NUM_THREADS": "1"} if count > 1 else {}
    return [{**shared, "RANK": str(n), "LOCAL_RANK": str(n), "GROUP_RANK": "0"} for n in range(count)]


def handle(connection):
    """One job from its request to its exit code, in a process of its own."""
    os.setsid()
    data, fds, _, _ = socket.recv_fds(connection, 1 << 20, 2)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 20)
    job = json.loads(data)
    for number, fd in zip((1, 2), fds, strict=True):
        os.dup2(fd, number)
        os.close(fd)
    running = [start(job, more) for more in ranks(job)]
    code, failed_at = 0, None
    while running:
        gone = select.select([connection], [], [], 0.05)[0]  # the client was killed
        late = failed_at is not None and time.monotonic() - failed_at > 5.0
        for pid in list(running):
            if gone or late:
                os.killpg(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            running.remove(pid)
            ended = os.waitstatus_to_exitcode(status)
            if ended and not code:
                code, failed_at = ended, time.monotonic()
                if job["kind"] == "train":
                    rank = ranks(job)[0].get("RANK")
                    if rank is not None:
                        print(f"failed (exitcode: {ended}) local_rank: 0 (pid: {pid}) of binary", file=sys.stderr)
                for other in running:
                    os.killpg(other, signal.SIGTERM)
    connection.sendall(json.dumps({"code": code}).encode() + b"\n")
    os._exit(0)


def main():
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[1])
    server.listen(8)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    while os.getppid() == parent:
        if not select.select([server], [], [], 1.0)[0]:
            continue
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            handle(connection)
        connection.close()


if __name__ == "__main__":
    main()
