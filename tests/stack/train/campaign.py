"""Real runs disturbed on purpose, and what the doctor made of each: `python -m tests.stack.train.campaign FOLDER [CASE …]`.

Every case starts `skyt1-doctor train` on real LLaMA-Factory with two CPU ranks, plants one disturbance, and returns what
was to be seen. Cases sleep most of the time, so they run side by side. The answers are kept in results.json.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from tests.stack.train.place import Place, environment, install, wait

RESULTS = Path(__file__).parent / "results.json"
AT_ONCE = 3
FIRST_PORT = 29640
LIMIT = 1200.0  # seconds for one case
NAMED_WITHIN = 60.0  # seconds: what a hang may take to be named at a step time of one second

Case = Callable[[Path, Path, int], dict[str, Any]]


def undisturbed(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """What the healed runs are compared with."""
    return _plain(Place(root, prefix, port, deepspeed=True, dataloader_num_workers=1))


def undisturbed_ddp(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """Without DeepSpeed."""
    return _plain(Place(root, prefix, port, dataloader_num_workers=1))


def undisturbed_accumulated(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """With gradient accumulation, which DeepSpeed 0.16 does not go with."""
    return _plain(Place(root, prefix, port, deepspeed=True, gradient_accumulation_steps=2))


def deepspeed_swapped(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """Somebody upgrades DeepSpeed while the run goes on, then a rank dies: the resumed run fails, is mended, goes on."""
    own = environment(root / "env", own=True)
    place = Place(root, own, port, deepspeed=True, gradient_accumulation_steps=2)
    doctor = place.start("--heal", "3", step_seconds=4.0)  # steps are left when the installation has ended
    place.wait_for_step(12)
    install(own, "deepspeed==0.16.2")
    os.kill(place.ranks()[1], signal.SIGKILL)
    return _healed(place, doctor.wait(LIMIT))


def _plain(place: Place) -> dict[str, Any]:
    code = place.start().wait()
    return {"code": code, **place.final(), "checkpoints": len(place.events("checkpoint"))}


def _kinds(place: Place) -> list[str]:
    return [event["kind"] for event in place.rows("events")]


def _healed(place: Place, code: int) -> dict[str, Any]:
    """What is told of a run that was resumed."""
    resumes = [event["text"]["en"] for event in place.events("resume")]
    heals = [event["text"]["en"] for event in place.events("heal")]
    causes = [event.get("finding", {}).get("cause") for event in place.events("diagnosis")]
    found = place.final() if code == 0 else {}
    return {"code": code, **found, "resumes": resumes, "heals": heals, "diagnoses": causes, "events": _kinds(place)}


def _no_orphans(place: Place, seconds: float = 60.0) -> float:
    """Seconds until no process of the run is left."""
    return round(wait(lambda: not place.processes(), seconds, "the ranks to end"), 1)


def _hang(place: Place, since: float) -> dict[str, Any]:
    """The first hang alarm after `since`."""
    wait(lambda: _hangs(place, since), 120, "the hang to be named")
    event = _hangs(place, since)[0]
    finding = event["finding"]
    return {
        "named_after_seconds": round(event["time"] - since, 1),
        "rank": finding["rank"],
        "said": event["text"]["en"],
        "evidence": [item["what"][:300] for item in finding["evidence"]],
    }


def _hangs(place: Place, since: float) -> list[dict[str, Any]]:
    return [e for e in place.events("alarm") if e.get("finding", {}).get("cause") == "train-hang" and e["time"] > since]


def stopped_rank(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """SIGSTOP of rank 1 is named; after SIGCONT the run goes on; Ctrl-C ends it and leaves nothing."""
    place = Place(root, prefix, port, save_strategy="no", max_steps=400)
    doctor = place.start(step_seconds=1.0)
    place.wait_for_step(8)
    victim = place.ranks()[1]
    os.kill(victim, signal.SIGSTOP)
    told = _hang(place, time.time())
    told["names_the_process"] = f"process {victim}" in told["said"]
    os.kill(victim, signal.SIGCONT)
    step = place.step()
    place.wait_for_step(step + 3)
    doctor.send_signal(signal.SIGINT)
    code = doctor.wait(90)
    return {**told, "goes_on_after_cont": True, "ctrl_c_code": code, "orphans_gone_after": _no_orphans(place)}


def stuck_worker(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """A data worker of rank 1 that sticks is named with its stack; SIGTERM, as Slurm sends it, ends the run."""
    place = Place(root, prefix, port, save_strategy="no", max_steps=400, dataloader_num_workers=1)
    stuck = root / "stuck"
    doctor = place.start(step_seconds=1.0, TEST_STUCK=str(stuck))
    place.wait_for_step(8)
    stuck.touch()
    told = _hang(place, time.time())
    doctor.send_signal(signal.SIGTERM)
    code = doctor.wait(90)
    return {**told, "sigterm_code": code, "orphans_gone_after": _no_orphans(place)}


def slow_rank(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """Rank 1 computes four times as long from step 45 on: the fall of throughput is told, and whose it is."""
    place = Place(root, prefix, port, save_strategy="no", max_steps=400)
    slow = root / "slow"
    doctor = place.start(step_seconds=0.5, TEST_SLOW=str(slow))
    place.wait_for_step(45)
    slow.touch()
    since, step = time.time(), place.step()
    told = lambda: [e for e in place.events("alarm") if e.get("finding", {}).get("cause") == "train-slow"]  # noqa: E731
    wait(lambda: [e for e in told() if e["time"] > since], 120, "the slow rank to be named")
    event = next(e for e in told() if e["time"] > since)
    doctor.send_signal(signal.SIGINT)
    code = doctor.wait(90)
    return {
        "told_after_seconds": round(event["time"] - since, 1),
        "told_after_steps": place.step() - step,
        "rank": event["finding"]["rank"],
        "said": event["text"]["en"],
        "evidence": [item["what"] for item in event["finding"]["evidence"]],
        "false_alarms_before": len([e for e in told() if e["time"] <= since]),
        "ctrl_c_code": code,
        "orphans_gone_after": _no_orphans(place),
    }


def killed_rank(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """kill -9 of rank 1 half way."""
    place = Place(root, prefix, port, deepspeed=True, dataloader_num_workers=1)
    doctor = place.start("--heal", "1", step_seconds=0.3)
    place.wait_for_step(15)
    os.kill(place.ranks()[1], signal.SIGKILL)
    return _healed(place, doctor.wait(LIMIT))


def killed_worker(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """kill -9 of a data worker half way."""
    place = Place(root, prefix, port, deepspeed=True, dataloader_num_workers=1)
    doctor = place.start("--heal", "1", step_seconds=0.3)
    place.wait_for_step(15)
    rank = psutil.Process(place.ranks()[1])
    worker = next(child for child in rank.children() if "RANK" in child.environ())
    worker.kill()
    return _healed(place, doctor.wait(LIMIT))


def truncated_checkpoint(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """The newest checkpoint is cut off, then a rank dies: the one before it is used."""
    place = Place(root, prefix, port, deepspeed=True, dataloader_num_workers=1)
    doctor = place.start("--heal", "1", step_seconds=1.0)
    place.wait_for_step(11)
    victim = place.ranks()[0]  # now: on a busy machine the search takes seconds
    place.wait_for_step(22)
    shard = next((place.root / "saves/toy/checkpoint-20").glob("global_step20/*optim_states.pt"))
    os.truncate(shard, shard.stat().st_size // 2)
    os.kill(victim, signal.SIGKILL)
    return _healed(place, doctor.wait(LIMIT))


def port_taken(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """Somebody listens on MASTER_PORT at the launch."""
    place = Place(root, prefix, port, dataloader_num_workers=1)
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("0.0.0.0", port))
        held.listen()
        return _healed(place, place.start("--heal", "1").wait(LIMIT))


def disk_full(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """The disk holds one checkpoint and not the next; it is said before that, and there is room again after it failed."""
    place = Place(root, prefix, port, deepspeed=True, dataloader_num_workers=1)
    saves = place.root / "saves"
    saves.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(saves)], check=True)
    try:
        doctor = place.start("--heal", "1", step_seconds=1.0)
        wait(lambda: "failure" in _kinds(place), LIMIT, "the failure")
        step_of_warning = next(
            (e["text"]["en"] for e in place.events("alarm") if e["finding"]["cause"] == "disk-full"), None
        )
        subprocess.run(["mount", "-o", "remount,size=200m", str(saves)], check=True)
        found = _healed(place, doctor.wait(LIMIT))
        before = [e["time"] for e in place.events("alarm") if e["finding"]["cause"] == "disk-full"]
        failed = place.events("failure")[0]["time"]
        early = round(failed - before[0], 1) if before else None
        return {**found, "warned": step_of_warning, "warned_seconds_before_failure": early}
    finally:
        subprocess.run(["umount", "-l", str(saves)], check=False)


def hang_healed(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """A stopped rank that nobody wakes: with --heal the ranks are ended and the run goes on from its checkpoint."""
    place = Place(root, prefix, port, deepspeed=True, dataloader_num_workers=1)
    doctor = place.start("--heal", "1", step_seconds=0.3)
    place.wait_for_step(15)
    os.kill(place.ranks()[1], signal.SIGSTOP)
    return _healed(place, doctor.wait(LIMIT))


def broken_for_good(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """A failure that no safe fix heals ends with its diagnosis, without a second attempt."""
    place = Place(root, prefix, port, template="no_such_template")
    found = _healed(place, place.start("--heal", "3").wait(LIMIT))
    return {**found, "launches": len(place.events("launch"))}


def doctor_killed(root: Path, prefix: Path, port: int) -> dict[str, Any]:
    """kill -9 of the doctor itself: the ranks end, the log is whole, the record says so."""
    place = Place(root, prefix, port, save_strategy="no", max_steps=400)
    doctor = place.start(step_seconds=1.0)
    place.wait_for_step(4)
    doctor.kill()
    doctor.wait()
    gone = _no_orphans(place)
    wait(lambda: place.events("end"), 30, "the keeper's last word")
    log = (place.run_directory() / "train.log").read_text()
    end = [event["text"]["en"] for event in place.events("end")]
    return {"orphans_gone_after": gone, "end": end, "log_has_the_shutdown": "SIGTERM" in log, "log_bytes": len(log)}


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        undisturbed, undisturbed_ddp, killed_rank, killed_worker, truncated_checkpoint, port_taken, disk_full,
        undisturbed_accumulated, deepspeed_swapped, stopped_rank, stuck_worker, slow_rank,
        doctor_killed, broken_for_good, hang_healed,
    )
}  # fmt: skip


def run(folder: Path, names: list[str]) -> dict[str, Any]:
    """Run the cases, AT_ONCE at a time; an exception becomes that case's answer."""
    prefix = environment(folder / "env")

    def one(number: int, name: str) -> dict[str, Any]:
        started = time.monotonic()
        try:
            found = CASES[name](folder / name, prefix, FIRST_PORT + number)
        except Exception:  # noqa: BLE001 - the others go on, and what went wrong is in the results
            found = {"error": traceback.format_exc(limit=3)}
        return {**found, "seconds": round(time.monotonic() - started, 1)}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = {name: pool.submit(one, number, name) for number, name in enumerate(names)}
        return {name: answer.result() for name, answer in asked.items()}


if __name__ == "__main__":
    place = Path(sys.argv[1]).absolute()
    place.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[2:] or list(CASES)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known.update(run(place, wanted))
    RESULTS.write_text(
        json.dumps({name: known[name] for name in CASES if name in known}, ensure_ascii=False, indent=1) + "\n"
    )
    print(json.dumps({name: known[name] for name in wanted}, indent=1))
