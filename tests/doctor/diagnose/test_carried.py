"""Logs out of containers, pages, reports and terminals: read as the run wrote them, and others left as they are."""

from __future__ import annotations

import gzip
import html
import json
from pathlib import Path

import pytest

from doctor.diagnose import carried, diagnose

LOGS = Path(__file__).parents[2] / "logs"
LOG = (LOGS / "ds-no-sync-zero" / "positive-1.log").read_text()
LINE = next(number for number, line in enumerate(LOG.split("\n"), 1) if "AssertionError: no_sync context" in line)


def written(log: bytes, size: int = 1 << 20) -> tuple[str, list[str]]:
    notes: list[str] = []
    pieces = (log[at : at + size] for at in range(0, len(log), size))
    return b"".join(carried.as_written(pieces, notes, "a.log")).decode("utf-8", "surrogateescape"), notes


def in_docker(log: str, **more: str) -> bytes:
    return "".join(json.dumps({"log": line + "\n", **more}) + "\n" for line in log.split("\n")).encode()


def broken_at(width: int, log: str) -> str:
    lines = log.split("\n")
    return "\n".join(line[at : at + width] for line in lines for at in range(0, max(1, len(line)), width))


@pytest.mark.parametrize(
    "log",
    [
        in_docker(LOG, stream="stderr", time="2026-01-02T03:04:05Z"),
        json.dumps(LOG).encode(),
        json.dumps({"error": json.dumps({"traceback": LOG})}).encode(),
        html.escape(LOG).encode(),
        LOG.replace("'", "’").replace('"', "”").encode(),
        broken_at(80, LOG).encode(),
        broken_at(131, LOG).encode(),
        "".join(f"> {line}\n" for line in LOG.split("\n")).encode(),
        gzip.compress(in_docker(LOG)),
    ],
    ids=["docker", "string", "string-in-string", "page", "curly", "80", "131", "quoted", "gz"],
)
def test_the_answer_is_that_of_the_log_itself(tmp_path: Path, log: bytes) -> None:
    (tmp_path / "a.log").write_bytes(log)
    (found,) = diagnose([tmp_path / "a.log"]).findings[:1]
    assert found.cause == "ds-no-sync-zero"


def test_a_line_out_of_a_container_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(in_docker(LOG))
    assert diagnose([tmp_path / "a.log"]).findings[0].evidence[0].where == f"line {LINE}"


def test_a_container_s_lines_of_any_length_of_any_file(tmp_path: Path) -> None:
    long = "x" * 40_000
    parts = [long[at : at + 16_384] for at in range(0, len(long), 16_384)]
    parts[-1] += "\n"
    log = b"".join(json.dumps({"log": part}).encode() + b"\n" for part in parts)
    text, _ = written(in_docker("begin") * 30 + log + b'{"log": "end\\n"}\nno json\n', size=1000)
    assert f"\nbegin\n{long}\nend\nno json\n" in text
    text, _ = written(in_docker("begin") * 30 + b"{" * 9_000_000 + b"\nno json\n", size=1 << 16)
    assert text.count("{") == 9_000_000
    assert text.endswith("{\nno json\n")


def test_broken_lines_are_whole_and_the_others_keep_their_numbers() -> None:
    whole = ["word" * 50, "short", "wordy" * 40, "another " * 30 + "end", "last"]
    text, notes = written(broken_at(80, "\n".join(whole)).encode())
    lines = text.split("\n")
    assert [line for line in lines if line] == whole
    assert lines.index("short") == 3  # behind three lines
    assert lines.index("last") == len(lines) - 1
    assert notes == []


def test_an_escaped_traceback_is_told_in_a_note_and_halves_of_a_pair_are_one_character() -> None:
    text, notes = written(
        rb'{"e": "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\nE: \ud83d\ude00 \ud83d"}'
    )
    assert '\n  File "a.py", line 1, in f\nE: 😀 \ufffd' in text
    assert len(notes) == 1
    assert notes[0].startswith("a.log: a traceback stands in it as one line")


@pytest.mark.parametrize(
    "log",
    [
        LOG,
        '{"loss": 0.5, "epoch": 1.0}\n' * 30,
        '{"messages": [{"role": "user", "content": "Traceback (most recent call last):"}]}\n' * 30,
        "".join(
            f"[rank{rank}]: warning of one and the same length, on every rank of the node, so wide\n"
            for rank in range(8)
        ),
        "=" * 80 + "\nnext\n" + "=" * 80 + "\nnext\n",
        "„Zitat“ and a 'straight' mark\n",
        "",
        "\n\n",
        "<>&amp; only an ampersand\n",
    ],
)
def test_what_was_not_carried_stays_byte_for_byte(log: str) -> None:
    for size in (7, 1 << 20):
        assert written(log.encode(), size) == (log, [])


def test_bytes_of_no_encoding_and_long_logs_pass() -> None:
    log = b"\xff\xfe\x80 not utf-8 \xa4\xe9\n" * 30_000  # more than decides
    assert b"".join(carried.as_written(iter([log]), [], "a.log")) == log
    assert b"".join(carried.as_written(iter([log[:100]]), [], "a.log")) == log[:100]
