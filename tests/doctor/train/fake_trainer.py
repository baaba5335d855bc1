"""A trainer of real processes and real lines, without torch: `llamafactory-cli train RECIPE` of the tests.

It starts two ranks with sessions and RANK of their own, as torchrun does. Each step is a handshake between them, so that a
rank that stops stops the other. Lines are those of transformers 4.46, checkpoints have the files that transformers writes.
The recipe says: steps, step_seconds, save_steps, output_dir, resume_from_checkpoint, die_at (once, until the file `died`
exists beside the recipe's output), exit_code, loss (a list of odd losses by step).
"""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path


def recipe(path):
    values = {}
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(": ")
        values[key] = json.loads(value) if value[:1] in '"[{0123456789tf' else value
    return values


def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def save(folder, step):
    folder.mkdir(parents=True, exist_ok=True)
    say(f"[INFO|trainer.py:3801] 2026-11-23 19:01:41,869 >> Saving model checkpoint to {folder}\n")
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\0\0")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth"):
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr("archive/data.pkl", "state")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))


def rank_zero(values, peer):
    total, output = values["steps"], Path(values["output_dir"])
    begin = 0
    if resumed := values.get("resume_from_checkpoint"):
        begin = json.loads((Path(resumed) / "trainer_state.json").read_text())["global_step"]
    say("[INFO|trainer.py:2314] 2026-11-23 19:01:38,869 >> ***** Running training *****\n")
    say("[INFO|trainer.py:2315] 2026-11-23 19:01:38,869 >>   Num examples = 96\n")
    say("[INFO|trainer.py:2319] >>   Total train batch size (w. parallel, distributed & accumulation) = 8\n")
    say(f"[INFO|trainer.py:2322] 2026-11-23 19:01:38,869 >>   Total optimization steps = {total:,}\n")
    if begin:
        say(f"[INFO|trainer.py:2345] >>   Continuing training from global step {begin}\n")
    odd = values.get("loss", {})
    asked = []
    if values.get("enable_jit_checkpoint"):
        signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    for step in range(begin + 1, total + 1):
        time.sleep(values["step_seconds"])
        peer.stdin.write(b".")
        peer.stdin.flush()
        if peer.stdout.read(1) != b".":
            say(
                "[rank0]: RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer\n"
            )
            return 1
        loss = odd.get(str(step), round(3 - 2 * step / total, 4))
        values_logged = f"'loss': {loss}, 'grad_norm': 1.25, 'learning_rate': 1e-05, 'epoch': {step / total:.2f}"
        bar = f"{step * 100 // total:3d}%|####      | {step}/{total} [00:{step:02d}<00:02,  1.29it/s]"
        say(f"\r{bar}\r                 \r{{{values_logged}}}\n\r{bar}")
        if step % values.get("save_steps", 1000) == 0:
            save(output / f"checkpoint-{step}", step)
        if asked:
            save(output / f"checkpoint-{step}", step)
            return 0
        if step == values.get("die_at") and not (output.parent / "died").exists():
            (output.parent / "died").touch()
            os.kill(peer.pid, signal.SIGKILL)
    say("\n{'train_runtime': 3.5, 'train_samples_per_second': 8.9, 'train_loss': 2.0, 'epoch': 1.0}\n")
    say("***** train metrics *****\n")
    (output / "final").write_text(str(total))
    return 0


def rank_one():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while piece := os.read(0, 1):
        os.write(1, piece)


def launch(path):
    """torchrun's part: both ranks, and the end of one when the other dies."""
    values = recipe(path)
    if "exit_code" in values:
        say(f"ValueError: {values.get('message', 'odd')}\n")
        return values["exit_code"]
    Path(values["output_dir"]).mkdir(parents=True, exist_ok=True)
    ranks = subprocess.Popen(
        [sys.executable, __file__, "rank", path], env={**os.environ, "RANK": "0"}, start_new_session=True
    )

    def forward(number, frame):
        ranks.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    code = ranks.wait()
    if code:
        say("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n")
        say("Root Cause (first observed failure):\n[0]:\n  rank      : 1 (local_rank: 1)\n")
        say(f"  exitcode  : {values.get('tell', -9)} (pid: 13607)\n")
    return 1 if code else 0


if __name__ == "__main__":
    if sys.argv[1] == "rank":
        other = subprocess.Popen(
            [sys.executable, __file__, "peer"],
            env={**os.environ, "RANK": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        sys.exit(rank_zero(recipe(sys.argv[2]), other))
    elif sys.argv[1] == "peer":
        rank_one()
    else:
        sys.exit(launch(sys.argv[2]))
