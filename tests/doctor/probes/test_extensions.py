import shutil
import subprocess

import pytest

from doctor.facts import Facts
from doctor.probes import extensions
from tests.support.worlds import world

# c10::Error as a torch with the old C++ ABI has it, and with the new one.
OLD, NEW = "_ZN3c105ErrorC2ENS_14SourceLocationESs", "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringE"


def compiled(path, source):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler")
    path.parent.mkdir(parents=True, exist_ok=True)
    source_file = path.with_suffix(".c")
    source_file.write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(path), str(source_file)], check=True)


def found(tmp_path, asks, has, installed=True, **more):
    made = world(tmp_path)
    compiled(made.site[0] / "torch/lib/libc10.so", f"int {has}(void) {{ return 1; }}")
    module = made.site[0] / "flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so"
    compiled(module, f'#include <stdio.h>\nextern int {asks}(void); int go(void) {{ return puts("x") + {asks}(); }}')
    known = Facts({"packages.versions": {"torch": "2.6.0"} | ({"flash-attn": "2.7.4"} if installed else {})})
    facts = known.merged(extensions.collect(made, known)).merged(more)
    return [(f.cause, f.evidence[0].what) for rule in extensions.JUDGEMENTS for f in rule(facts)]


def test_built_for_another_torch(tmp_path):
    ((cause, what),) = found(tmp_path, OLD, NEW)
    assert cause == "pkg-flash-attn-abi"
    assert OLD in what


def test_built_for_this_torch(tmp_path):
    assert found(tmp_path, NEW, NEW) == []


def test_what_is_not_installed_is_not_imported(tmp_path):
    assert found(tmp_path, OLD, NEW, installed=False) == []


def test_a_libc_that_is_older(tmp_path):
    ((cause, what),) = found(tmp_path, NEW, NEW, **{"extensions.glibc": "2.1"})
    assert cause == "env-glibc-too-old"
    assert "GLIBC_2." in what


def test_a_libstdcxx_that_is_older(tmp_path):
    facts = Facts(
        {
            "extensions.found": [{"package": "flash-attn", "file": "f.so", "glibc": "2.17", "glibcxx": "3.4.29"}],
            "extensions.glibc": "2.31",
            "extensions.libstdcxx": "3.4.28",
        }
    )
    (finding,) = extensions.libraries_new_enough(facts)
    assert (finding.cause, finding.details["needed"]) == ("env-libstdcxx-too-old", "GLIBCXX_3.4.29")
    assert list(extensions.libraries_new_enough(facts.merged({"extensions.libstdcxx": "3.4.30"}))) == []


def test_without_a_torch_nothing_can_be_said(tmp_path):
    made = world(tmp_path)
    (made.site[0] / "flash_attn_2_cuda.so").write_bytes(b"no library")
    known = Facts({"packages.versions": {"flash-attn": "2.7.4"}})
    assert extensions.collect(made, known)["extensions.found"] == []
