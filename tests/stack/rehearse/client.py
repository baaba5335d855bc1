"""Stands for `python` and `llamafactory-cli` of a served environment: hands the command to serve.py, takes its code.

Written as a script into a folder of commands by served.py, which puts the socket's path in place of SOCKET.
"""

import array
import json
import os
import socket
import sys

SOCKET = "@SOCKET@"


def main():
    name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
    kind = "train" if name == "llamafactory-cli" else "script"
    argv = ["llamafactory-cli", *arguments[1:]] if kind == "train" else arguments
    job = {"kind": kind, "argv": argv, "cwd": os.getcwd(), "environ": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(SOCKET)
        data = json.dumps(job).encode() + b"\n"
        fds = array.array("i", [1, 2])
        sent = server.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        server.sendall(data[sent:])
        answer = server.makefile().readline()
    code = json.loads(answer)["code"] if answer else 1
    if code < 0:  # ended by a signal: end the same way
        os.kill(os.getpid(), -code)
    sys.exit(code)


main()
