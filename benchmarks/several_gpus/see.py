"""What `check` and `check --deep` say of all GPUs: how many, how linked, whether they meet; one hidden, one stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import place
from rows import Done, Out, causes, end, limit


def run(out: Out, doctor: Path, new: Path, root: Path, ranks: int, cpu: bool) -> None:
    shape = place.TINY[0] if cpu else "0.5B"
    place.write_models(new, root / "models", [shape])
    more: dict[str, Any] = {} if cpu else {"bf16": True}
    work = place.Workspace(root / "see", root / "models" / shape, None if cpu else place.zero(3), **more)
    out.row("machine", ranks=ranks, versions=place.versions(new), topology=_topology(out, cpu))
    _check(out, doctor, new, work, ranks, cpu, "check")
    _check(out, doctor, new, work, ranks, cpu, "check --deep", "--deep")
    if not cpu:
        for name, shown in _hidden(ranks).items():
            _check(out, doctor, new, work, ranks, cpu, f"check, CUDA_VISIBLE_DEVICES={shown}", given=shown)
            if name == "last":
                _check(out, doctor, new, work, ranks - 1, cpu, f"check --deep, CUDA_VISIBLE_DEVICES={shown}", "--deep",
                       given=shown)  # fmt: skip
    for number in (signal.SIGSTOP, signal.SIGKILL):
        _disturbed(out, doctor, new, work, ranks, cpu, number)
    _estimate(out, doctor, new, work, ranks, cpu)


def _hidden(ranks: int) -> dict[str, str]:
    """The last one hidden, and a name that no GPU has."""
    most = ",".join(map(str, range(ranks - 1)))
    return {"last": most, "none there": f"{most},{ranks + 7}"}


def _topology(out: Out, cpu: bool) -> str | None:
    if cpu:
        return None
    with suppress(OSError):
        said = subprocess.run(["nvidia-smi", "topo", "-m"], capture_output=True, text=True, check=False)
        return out.keep("topology.txt", said.stdout + said.stderr)
    return None


def _arguments(new: Path, work: place.Workspace, *more: str) -> list[str]:
    return [work.RECIPE, "--python", str(new), "--offline", "--format", "json", *more]


def _check(
    out: Out, doctor: Path, new: Path, work: place.Workspace, ranks: int, cpu: bool, what: str, *more: str,
    given: str | None = None,
) -> None:  # fmt: skip
    environ = place.environ_of(new, ranks, cpu)
    if given is not None:
        environ["CUDA_VISIBLE_DEVICES"] = given
    done = Done(place.doctor(doctor, "check", *_arguments(new, work, *more)), work.root, environ, 180)
    document = done.document()
    facts = document.get("facts", {})
    name = "".join(c if c.isalnum() else "-" for c in what).strip("-") + ".json"
    out.row(
        what,
        code=done.code,
        seconds=done.seconds,
        findings=causes(document),
        gpus=facts.get("gpu.count"),
        visible=facts.get("gpu.visible"),
        ranks=facts.get("collective.ranks"),
        collective_seconds=facts.get("collective.seconds"),
        probes={
            p["id"]: p["seconds"] for p in document.get("probes", ()) if p["id"] in ("gpu", "collective", "memory")
        },
        document=out.keep(name, json.dumps(document, ensure_ascii=False, indent=1)),
        stderr=done.err[-500:],
    )


def _disturbed(
    out: Out, doctor: Path, new: Path, work: place.Workspace, ranks: int, cpu: bool, number: signal.Signals
) -> None:
    """`check --deep` while its last rank is stopped or killed: whether that rank is named, and after how long."""
    argv = place.doctor(doctor, "check", *_arguments(new, work, "--deep", "--only", "nccl-timeout,nccl-peer-exited"))
    process = subprocess.Popen(
        argv, cwd=work.root, env=place.environ_of(new, ranks, cpu), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    begun, sent = time.monotonic(), None
    while process.poll() is None and sent is None and time.monotonic() - begun < limit(120):
        for child in place.children(process.pid):
            with suppress(OSError):
                forked = sorted(place.children(child)) if b"ranks_child" in _command(child) else []
                if len(forked) == ranks:
                    time.sleep(0.2)  # so that it has begun
                    os.kill(forked[-1], number)
                    sent = time.monotonic()
    try:
        said, _ = process.communicate(timeout=limit(180))
    except subprocess.TimeoutExpired:
        end(process)
        said, _ = process.communicate()
    document = json.loads(said) if said.startswith("{") else {}
    evidence = [item["what"] for found in document.get("findings", ()) for item in found["evidence"]]
    after = None if sent is None else round(time.monotonic() - sent, 1)
    out.row(
        f"check --deep, last rank {number.name}", answered_after=after, findings=causes(document), evidence=evidence
    )


def _command(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()


def _estimate(out: Out, doctor: Path, new: Path, work: place.Workspace, ranks: int, cpu: bool) -> None:
    done = Done(
        place.doctor(doctor, "estimate", *_arguments(new, work)), work.root, place.environ_of(new, ranks, cpu), 60
    )
    out.row("estimate", code=done.code, seconds=done.seconds, document=done.document().get("estimate"))
