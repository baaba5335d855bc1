"""An environment whose starts of Python are forks of one process: for many rehearsals in little time."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from doctor.rehearse import cpu
from doctor.target import Target
from tests.stack.environments import Environment

SERVE, CLIENT = (Path(__file__).with_name(name) for name in ("serve.py", "client.py"))
START_SECONDS = 300.0  # of the imports, on a busy machine


class Served:
    """Commands `python` and `llamafactory-cli` of an environment, served; ends with `close`."""

    def __init__(self, environment: Environment) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="served-"))
        socket = self.folder / "socket"
        for name in ("python", "llamafactory-cli"):
            script = self.folder / "bin" / name
            script.parent.mkdir(exist_ok=True)
            text = CLIENT.read_text(encoding="utf-8").replace("@SOCKET@", str(socket))
            script.write_text(f"#!{sys.executable} -IS\n{text}", encoding="utf-8")
            script.chmod(0o755)
        # DeepSpeed is imported here, once for all: what a rehearsal adds to its ranks has to be there before.
        environ = cpu.await_gathers({**environment.environ, "OMP_NUM_THREADS": "1"}, self.folder / "site")
        self.log = self.folder / "server.log"
        with self.log.open("wb") as log:
            argv = [str(environment.python), str(SERVE), str(socket)]
            self.process = subprocess.Popen(argv, env=environ, cwd=self.folder, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while not socket.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(
                    f"LLaMA-Factory of {environment.root} cannot be served: {self.log.read_text()[-800:]}"
                )
            time.sleep(0.2)

    def target(self, real: Target) -> Target:
        """The target with these commands in place of its own; its packages are judged as ever."""
        scripts = self.folder / "bin"
        interpreter = msgspec.structs.replace(real.interpreter, scripts=str(scripts))
        return msgspec.structs.replace(real, python=scripts / "python", interpreter=interpreter)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
