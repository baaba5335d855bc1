"""What is changed for ranks on a CPU: DeepSpeed's gathers are awaited, and nothing else is."""

import os
import subprocess
import sys

import pytest

from doctor.rehearse import cpu

BACKEND = """\
class Work:
    waited = 0
    def wait(self):
        self.waited += 1
class TorchBackend:
    def all_gather_into_tensor(self, output_tensor, input_tensor, group=None, async_op=False):
        return Work() if async_op else None
    def broadcast(self, tensor, src, async_op=False):
        return Work()
"""
ASK = """\
import sys
assert "torch" not in sys.modules
from deepspeed.comm.torch import TorchBackend
backend = TorchBackend()
print(backend.all_gather_into_tensor(1, 2, async_op=True).waited, backend.broadcast(1, 0, async_op=True).waited)
print(backend.all_gather_into_tensor(output_tensor=1, input_tensor=2))
"""


@pytest.fixture
def packages(tmp_path):
    """A folder with what DeepSpeed's module of that name has for us."""
    folder = tmp_path / "packages"
    module = folder / "deepspeed" / "comm" / "torch.py"
    module.parent.mkdir(parents=True)
    module.write_text(BACKEND)
    for package in (module.parent, module.parent.parent):
        (package / "__init__.py").write_text("")
    return folder


def python(code, environ):
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_each_gather_is_awaited_and_nothing_else(tmp_path, packages):
    plain = {"PYTHONPATH": str(packages)}
    assert python(ASK, plain) == ["0 0", "None"]
    changed = cpu.await_gathers(plain, tmp_path / "a folder")
    assert python(ASK, changed) == ["1 0", "None"]


def test_the_environments_own_sitecustomize_is_still_run(tmp_path, packages):
    (packages / "sitecustomize.py").write_text("print('its own')\n")
    changed = cpu.await_gathers({"PYTHONPATH": str(packages)}, tmp_path / "site")
    assert python(ASK, changed) == ["its own", "1 0", "None"]


def test_python_without_deepspeed_starts_as_ever(tmp_path):
    changed = cpu.await_gathers({"LANG": "C.UTF-8"}, tmp_path / "site")
    assert changed["LANG"] == "C.UTF-8"
    assert python("import importlib.util as u; print(u.find_spec('deepspeed'))", changed) == ["None"]


def test_another_backend_is_left_as_it_is(tmp_path, packages):
    (packages / "deepspeed/comm/torch.py").write_text("class Other: pass\n")
    changed = cpu.await_gathers({"PYTHONPATH": str(packages)}, tmp_path / "site")
    assert python("import deepspeed.comm.torch as m; print(m.Other.__name__)", changed) == ["Other"]


def test_a_folder_that_cannot_stand_on_the_path_changes_nothing(tmp_path):
    given = {"PYTHONPATH": "mine"}
    assert cpu.await_gathers(given, tmp_path / f"a{os.pathsep}b") == given
    assert list(tmp_path.iterdir()) == []
