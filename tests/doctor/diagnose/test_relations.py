"""What figures of a message mean is compared, not guessed from how many digits they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor.diagnose import diagnose
from doctor.diagnose.relations import holds, names, parsed, quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        ("1.5", 1.5),
        ("2 KiB", 2048),
        ("1.5 GiB", 1.5 * 2**30),
        ("3 GB", 3 * 2**30),
        ("0 bytes", 0),
        (" 7 B ", 7),
    ],
)
def test_numbers_and_sizes_as_programs_print_them(text: str, number: float) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize("text", ["", "many", "1,024", "-3", "1.2.3", "5 parsecs"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError):
        quantity(text)
    assert not holds("a > 0", {"a": text})


@pytest.mark.parametrize(
    ("relation", "groups", "true"),
    [
        ("tokens < features", {"tokens": "180", "features": "225"}, True),
        ("tokens < features", {"tokens": "225", "features": "225"}, False),
        ("total - used - free > 0.3 * total", {"total": "10 GiB", "used": "6 GiB", "free": "512 MiB"}, True),
        ("total - used - free > 0.3 * total", {"total": "10 GiB", "used": "7 GiB", "free": "512 MiB"}, False),
        ("tokens = 2 * features", {"tokens": "720", "features": "360"}, True),
        ("a * b + 1 > 6", {"a": "2", "b": "3"}, True),
        ("a > b", {"a": "1"}, False),  # the part of the message that names b is not there
    ],
)
def test_relations(relation: str, groups: dict[str, str], true: bool) -> None:
    assert holds(relation, groups) == true


def test_names() -> None:
    assert names("total - used > 0.3 * total") == {"total", "used"}


@pytest.mark.parametrize(
    "relation", ["", "a", "a > b > c", "a > ", "a b > c", "a - > b", "a > __import__('os')", "a / b > 1"]
)
def test_what_is_no_relation(relation: str) -> None:
    with pytest.raises(ValueError):
        parsed(relation)


OLD = (
    "(GPU 0; {total} GiB total capacity; {allocated} GiB already allocated; {free} MiB free; "
    "{reserved} GiB reserved in total by PyTorch)"
)


@pytest.mark.parametrize(
    ("said", "causes"),
    [
        (OLD.format(total=44.56, allocated=17.91, free=565.31, reserved=17.93), ["gpu-busy", "cuda-oom"]),
        # 16 GiB belong to another process, 28 to this one
        (OLD.format(total=44.56, allocated=27.91, free=565.31, reserved=27.93), ["cuda-oom", "gpu-busy"]),
        (OLD.format(total=23.69, allocated=22.5, free=44.69, reserved=22.8), ["cuda-oom"]),
        # little is allocated, but the rest is this process's own: fragmentation
        (OLD.format(total=23.69, allocated=4.5, free=44.69, reserved=22.8), ["cuda-oom"]),
        # a card of 8 GiB: context and display take 1.1
        (OLD.format(total=8.0, allocated=6.1, free=20.0, reserved=6.85), ["cuda-oom"]),
        (
            "(GPU 0; 10.92 GiB total capacity; 9.76 GiB already allocated; 11.62 MiB free; 443.12 MiB cached)",
            ["cuda-oom"],
        ),
        (
            # one H100, torch 2.11
            "GPU 0 has a total capacity of 79.18 GiB of which 156.62 MiB is free. Process 851 has 20.51 GiB memory in use. "
            "Including non-PyTorch memory, this process has 58.51 GiB memory in use.",
            ["cuda-oom", "gpu-busy"],
        ),
    ],
)
def test_memory_that_is_neither_ours_nor_free(said: str, causes: list[str], tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(f"torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.63 GiB. {said}\n")
    told = [finding.cause for finding in diagnose([log]).findings]
    assert [cause for cause in told if cause in ("cuda-oom", "gpu-busy")] == causes


@pytest.mark.parametrize(
    ("wanted", "found", "cause"),
    [
        ("1.13.1+cu117", "2.0.0, 2.0.0+cu117", "env-wrong-python-version"),
        ("2.3.1", "2.6.0+cu118", "env-wrong-python-version"),
        ("2.10.0", "2.9.0, 2.9.1", "pkg-index-mirror-stale"),  # 2.10 is the newer one
    ],
)
def test_a_release_older_than_all_that_pip_finds(wanted: str, found: str, cause: str, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(
        f"ERROR: Could not find a version that satisfies the requirement torch=={wanted} (from versions: {found})\n"
    )
    assert diagnose([log]).findings[0].cause == cause
