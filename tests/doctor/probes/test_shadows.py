import pytest

from doctor.facts import Facts
from doctor.probes import shadows
from tests.support.targets import make_target


def found(tmp_path, *names, path="work"):
    target = make_target(tmp_path, environ={"PYTHONPATH": str(tmp_path / path)})
    for name in names:
        (tmp_path / "work" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "work" / name).write_text("")
    return list(shadows.shadowed(Facts(shadows.collect(target, Facts()))))


@pytest.mark.parametrize(
    ("name", "severity"), [("random.py", None), ("datasets.py", None), ("deepspeed/__init__.py", None)]
)
def test_a_file_of_a_known_name_on_pythonpath(tmp_path, name, severity):
    (shadow,) = found(tmp_path, name)
    assert shadow.cause == "pkg-shadowed-module"
    assert (shadow.severity and shadow.severity.value) == severity


def test_a_folder_that_may_be_a_clone_is_a_warning(tmp_path):
    files = ["deepspeed/__init__.py", "deepspeed/comm.py", "deepspeed/env_report.py"]
    assert [shadow.severity.value for shadow in found(tmp_path, *files)] == ["warning"]


@pytest.mark.parametrize("name", ["train.py", "data/random.py", "datasets/rows.txt", "random.txt"])
def test_what_shadows_nothing(tmp_path, name):
    assert found(tmp_path, name) == []


def test_a_folder_that_is_not_on_pythonpath_or_not_there(tmp_path):
    assert found(tmp_path, "random.py", path="elsewhere") == []


def test_an_empty_name_is_the_working_directory(tmp_path):
    target = make_target(tmp_path, environ={"PYTHONPATH": f":{tmp_path}"})
    (tmp_path / "work" / "typing.py").write_text("")
    assert [shadow["name"] for shadow in shadows.collect(target, Facts())["shadows.found"]] == ["typing"]
    assert shadows.collect(make_target(tmp_path, environ={"PYTHONPATH": ""}), Facts())["shadows.found"] == []
