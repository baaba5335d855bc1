import contextlib
import shutil
import subprocess

import pytest

from doctor.machine import elf

SOURCE = r"""
#include <stdio.h>
extern "C" int of_another_library(int);
extern "C" __attribute__((weak)) int perhaps(int);
extern "C" int made_here(int n) { if (perhaps) perhaps(n); return printf("%d", of_another_library(n)); }
"""


@pytest.fixture
def library(tmp_path):
    """A shared library that the compiler of this machine makes."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if not compiler:
        pytest.skip("no C++ compiler")
    (tmp_path / "made.cpp").write_text(SOURCE)
    made = tmp_path / "libmade.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(made), str(tmp_path / "made.cpp")], check=True)
    return made


def test_what_it_defines_and_what_it_asks_for(library):
    defined, undefined = elf.symbols(library)
    assert b"made_here" in defined
    assert b"of_another_library" in undefined
    assert b"perhaps" not in defined | undefined  # weak: it may be missing


def test_the_versions_it_needs(library):
    assert any(name.startswith("GLIBC_2.") for name in elf.wanted_versions(library))


@pytest.mark.parametrize("kept", [0, 5, 64, 300])
def test_a_file_that_is_cut_off_is_none(library, kept):
    library.write_bytes(library.read_bytes()[:kept])
    with pytest.raises(elf.NotElf):
        elf.symbols(library)


def test_tables_that_lead_nowhere_end_in_no_exception_of_their_own(library):
    whole = library.read_bytes()
    for at in range(40, len(whole), max(1, len(whole) // 400)):
        library.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        for read in (elf.symbols, elf.wanted_versions):
            with contextlib.suppress(elf.NotElf):
                read(library)
