"""A Slurm cluster on this machine: munged, slurmctld and several slurmd, all under one folder, none of it installed.

    sudo apt-get install slurm-wlm munge
    python -m tests.cluster.slurm FOLDER [NODES]      # starts it, prints the variable to export, ends it on Enter

Needs root (munge and job steps). Nodes are called node1, node2, …; each slurmd has its own port and spool folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol")
READY_SECONDS = 40.0
_CONF = """\
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/%n.log
SlurmctldPort={port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdTimeout=20
MessageTimeout=5
KillWait=10
InactiveLimit=0
MinJobAge=600
OverTimeLimit=0
BatchStartTimeout=10
JobRequeue=1
SlurmdParameters=config_overrides
SwitchType=switch/none
NodeName=DEFAULT CPUs=4 RealMemory=1000 State=UNKNOWN
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None and not Path("/usr/sbin", name).exists()]


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in held]
    for server in held:
        server.close()
    return ports


class Cluster:
    """`with Cluster(folder, 3) as cluster: subprocess.run([...], env=cluster.environ)`."""

    def __init__(self, root: Path, nodes: int = 3) -> None:
        self.root = root
        self.names = [f"node{number}" for number in range(1, nodes + 1)]
        self.environ = {**os.environ, "SLURM_CONF": str(root / "slurm.conf")}
        self.environ["PATH"] += os.pathsep + "/usr/sbin"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        for folder in ("state", *(f"spool/{name}" for name in self.names)):
            (self.root / folder).mkdir(parents=True)
        self.root.chmod(0o755)
        host = socket.gethostname().partition(".")[0]
        port, *ports = _free_ports(1 + len(self.names))
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={its}"
            for name, its in zip(self.names, ports, strict=True)
        )
        text = _CONF.format(host=host, root=self.root, port=port, nodes=nodes)
        (self.root / "slurm.conf").write_text(text)
        key = self.root / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.root}/munge.socket"]
        munged += [f"--{what}-file={self.root}/munge.{what}" for what in ("log", "pid", "seed")]
        self._run("munged", munged)
        self._until(lambda: (self.root / "munge.socket").exists(), "munged did not start")
        self._run("slurmctld", ["slurmctld", "-D", "-c"])
        for name in self.names:
            self.start_node(name)
        self._until(lambda: self.states().count("idle") == len(self.names), "the nodes did not become idle")

    def start_node(self, name: str) -> None:
        self._run(name, ["slurmd", "-D", "-N", name])

    def end_node(self, name: str) -> None:
        """As a power cut does: the daemon and its steps are gone without a word."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def freeze_node(self, name: str, frozen: bool = True) -> None:
        """A node that hangs: its daemon accepts connections and never answers. Thawed, Slurm takes it back after a while."""
        self._processes[name].send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)
        if not frozen:
            self._until(lambda: self._back(name), f"{name} did not come back")

    def _run(self, name: str, argv: list[str]) -> None:
        with (self.root / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                argv, env=self.environ, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd="/"
            )

    def _back(self, name: str) -> bool:
        """Slurm may have set it down meanwhile, and then waits for an administrator's word."""
        states = self.states()
        if any(state.startswith("down") for state in states):
            command = ["scontrol", "update", f"NodeName={name}", "State=RESUME"]
            subprocess.run(command, env=self.environ, capture_output=True, timeout=20, check=False)
        return states.count("idle") == len(self.names)

    def states(self) -> list[str]:
        answer = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%T"], env=self.environ, capture_output=True, text=True, timeout=20, check=False
        )
        return answer.stdout.split()

    def _until(self, true: object, failure: str) -> None:
        end = time.monotonic() + READY_SECONDS
        while not true():  # type: ignore[operator]
            if time.monotonic() > end:
                logs = "\n".join(p.read_text(errors="replace")[-500:] for p in self.root.glob("*.out"))
                raise RuntimeError(f"{failure}: {self.states()}\n{logs}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End what was started here, by its process id."""
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()


if __name__ == "__main__":
    with Cluster(Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 3) as started:
        print(f"export SLURM_CONF={started.environ['SLURM_CONF']}", flush=True)
        sys.stdin.readline()
