"""Logs as they are: encodings, compressions, directories, damage; never an exception that is not UnreadableLog."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_reader import RESULT, run
from doctor.diagnose import UnreadableLog, diagnose
from doctor.diagnose.read import BLOCK, streams

FAILURE = "[rank3]: ValueError: Template qwen9 does not exist.\n"
WANTED = "tmpl-unknown"


def first(path: Path) -> str | None:
    result = diagnose([path])
    return result.findings[0].cause if result.findings else None


def text_of(path: Path) -> bytes:
    return b"".join(block for stream in streams(path) for block in stream.open())


@pytest.mark.parametrize(
    ("encoding", "prefix"),
    [("utf-8", b""), ("utf-8-sig", b""), ("utf-16", b""), ("utf-16-le", b""), ("utf-16-be", b""), ("gb18030", b"")],
)
def test_encodings(tmp_path: Path, encoding: str, prefix: bytes) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(prefix + ("开始训练，请稍候\n" + FAILURE).encode(encoding))
    assert first(log) == WANTED


def test_a_shell_that_speaks_gbk(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes("bash: llamafactory-cli: 未找到命令\n".encode("gbk"))
    assert first(log) == "cli-not-on-path"


@pytest.mark.parametrize(
    "text",
    [
        FAILURE.replace("\n", "\r\n"),
        "\x1b[31m[rank3]: ValueError\x1b[0m: \x1b[1mTemplate\x1b[0m qwen9 does not exist.\n",
        "  3%|▎   | 4/120 [00:01<00:40]\r  4%|▎   | 5/120 [00:01<00:40]\rValueError: Template qwen9 does not exist.\n",
        "\0" * 5000 + FAILURE,
        FAILURE.rstrip("\n"),
        "Value\0Error: Temp\0late qwen9 does not exist.\n",
    ],
    ids=["crlf", "colours", "carriage returns", "nul run", "no newline", "nul inside"],
)
def test_what_terminals_leave_behind(tmp_path: Path, text: str) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(text.encode())
    assert first(log) == WANTED


def test_gzip_and_a_gzip_cut_short(tmp_path: Path) -> None:
    whole = tmp_path / "a.log.gz"
    whole.write_bytes(gzip.compress(FAILURE.encode() + os.urandom(4000).hex().encode()))
    assert first(whole) == WANTED
    cut = tmp_path / "b.log.gz"
    cut.write_bytes(whole.read_bytes()[:-500])
    result = diagnose([cut])
    assert result.findings[0].cause == WANTED
    assert "ends early" in result.notes[0]


def test_zstd(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    log = tmp_path / "a.log.zst"
    log.write_bytes(zstandard.ZstdCompressor().compress(FAILURE.encode()))
    assert first(log) == WANTED


def test_zstd_without_the_package_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    log = tmp_path / "a.log.zst"
    log.write_bytes(b"\x28\xb5\x2f\xfd" + b"x" * 20)
    with pytest.raises(UnreadableLog, match="zstandard"):
        diagnose([log])


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FAILURE.encode())))
    assert diagnose(["-"]).findings[0].cause == WANTED


def test_a_torchrun_directory_gives_ranks_and_the_last_attempt(tmp_path: Path) -> None:
    for attempt, text in (("attempt_0", "bash: torchrun: command not found\n"), ("attempt_1", FAILURE[9:])):
        for rank in (0, 3):
            folder = tmp_path / "run_x" / attempt / str(rank)
            folder.mkdir(parents=True)
            (folder / "stdout.log").write_text("")
            (folder / "stderr.log").write_text(text if rank == 3 else "")
    result = diagnose([tmp_path])
    assert (result.findings[0].cause, result.findings[0].rank) == (WANTED, 3)
    assert result.findings[0].evidence[0].where == "run_x/attempt_1/3/stderr.log:1"
    assert any("attempt 1" in note for note in result.notes)


def test_of_several_ranks_the_one_that_failed_first_is_the_answer(tmp_path: Path) -> None:
    for rank, (clock, text) in enumerate(
        [("19:01:45", "OSError: [Errno 122] Disk quota exceeded"), ("19:01:41", FAILURE[9:].strip())]
    ):
        (tmp_path / f"rank{rank}.log").write_text(f"[2026-11-23 {clock},903] [INFO] step\n{text}\n")
    result = diagnose([tmp_path]).findings[0]
    assert (result.cause, result.rank) == (WANTED, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\x7fELF" + bytes(100), "ELF"), (b"PK\x03\x04" + bytes(100), "zip"), (bytes(range(256)) * 9, "binary data")],
    ids=["elf", "zip", "bytes"],
)
def test_what_is_no_text_is_refused_in_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(content)
    with pytest.raises(UnreadableLog, match=words) as refusal:
        diagnose([log])
    assert "\n" not in str(refusal.value)


def test_a_terminal_s_controls_and_a_damaged_start_are_no_binary_data(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(bytes(range(1, 32)) + b"\0" * 9000 + b"\x1b[31m\x07\x08" * 300 + FAILURE.encode())
    assert diagnose([log]).findings[0].cause == WANTED


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(UnreadableLog, match="no such file"):
        diagnose([tmp_path / "none.log"])
    with pytest.raises(UnreadableLog, match="holds no log"):
        diagnose([tmp_path])
    (tmp_path / "empty.log").write_bytes(b"")
    result = diagnose([tmp_path / "empty.log"])
    assert result.notes == ("empty.log: is empty.",)
    assert (result.findings, result.unrecognised) == ((), None)


def test_one_line_of_100_megabytes_in_bounded_memory(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("wb") as file:
        for _ in range(50):
            file.write(b"x" * 1_000_000)
        file.write(b" ValueError: Template qwen9 does not exist. ")
        for _ in range(50):
            file.write(b"y" * 1_000_000)
    diagnose([log])  # the index is loaded, and compiled after a change of the causes, once for all logs
    tracemalloc.start()
    result = diagnose([log])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.findings[0].cause == WANTED
    assert peak < 60_000_000


@pytest.mark.parametrize("place", [0, 3 * BLOCK - 20, 3 * BLOCK, 5 * BLOCK + 7], ids=str)
def test_a_word_is_found_wherever_blocks_end(tmp_path: Path, place: int) -> None:
    line = b"{'loss': 0.5, 'grad_norm': 1.5, 'learning_rate': 1e-05, 'epoch': 0.1}\n"
    before = (line * (place // len(line) + 1))[:place]
    log = tmp_path / "a.log"
    log.write_bytes(before + b"\n" + FAILURE.encode() + b"step\n" * 300_000)
    result = diagnose([log])
    assert result.findings[0].cause == WANTED
    assert result.findings[0].evidence[0].where == f"line {before.count(10) + 2}"


@settings(max_examples=60, deadline=5000)
@given(st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    log = tmp_path_factory.mktemp("any") / "a.log"
    log.write_bytes(content)
    with contextlib.suppress(UnreadableLog):
        assert isinstance(diagnose([log]).notes, tuple)


@settings(max_examples=60, deadline=5000)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=60),
            st.sampled_from(
                [
                    "Traceback (most recent call last):",
                    '  File "a.py", line 3, in main',
                    "During handling of the above exception, another exception occurred:",
                    "ValueError: Template x does not exist.",
                    "[rank1]: ",
                    "\x1b[31m",
                    "\r 3%|",
                    "Exception ignored in: <function f>",
                    "labels:",
                    "{'train_runtime': 3.1}",
                ]
            ),
        ),
        max_size=40,
    )
)
def test_any_lines_are_understood_somehow(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    log = tmp_path_factory.mktemp("any") / "a.log"
    log.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    for finding in diagnose([log]).findings:
        assert 0 < finding.confidence < 1
        assert finding.evidence


def test_a_sample_of_the_fuzzing() -> None:
    """benchmarks/fuzz_reader.py reads a million inputs; benchmarks/results/fuzz_reader.json is what came of it."""
    result = run(400, seed=int(os.environ.get("FUZZ_SEED", "7")), every=20)
    assert result["inputs"] == 400
    assert result["slowest seconds"] < 20
    recorded = json.loads(RESULT.read_text())
    assert recorded["inputs"] >= 1_000_000
    assert recorded["exceptions"] == 0
