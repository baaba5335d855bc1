"""LLaMA-Factory's own truth, read from its files: plain, editable and forked installations."""

from doctor.recipe import source_tree
from tests.support.targets import add_files

MISC = """
def check_dependencies():
    require_version("transformers>=4.41.2,<=4.46.1", "To fix: pip install transformers>=4.41.2,<=4.46.1")
    check_version("trl>=0.8.6,<=0.9.6")

def other():
    require_version("unrelated>=1", "")
"""


def test_a_plain_installation(tmp_path):
    add_files(tmp_path, {"llamafactory/__init__.py": ""})
    assert source_tree.package_root("llamafactory", [tmp_path]) == tmp_path / "llamafactory"


def test_python_path_comes_first(tmp_path):
    add_files(tmp_path, {"site/llamafactory/__init__.py": "", "fork/llamafactory/__init__.py": ""})
    found = source_tree.package_root("llamafactory", [tmp_path / "site"], [tmp_path / "fork"])
    assert found == tmp_path / "fork/llamafactory"


def test_editable_by_pth_line(tmp_path):
    add_files(
        tmp_path,
        {"tree/src/llamafactory/__init__.py": "", "site/_llamafactory.pth": f"{tmp_path}/tree/src\nimport x\n"},
    )
    assert source_tree.package_root("llamafactory", [tmp_path / "site"]) == tmp_path / "tree/src/llamafactory"


def test_editable_by_setuptools_finder(tmp_path):
    finder = f"MAPPING: dict[str, str] = {{'llamafactory': '{tmp_path}/tree/llamafactory'}}\nNAMESPACES = {{}}\n"
    add_files(tmp_path, {"tree/llamafactory/__init__.py": "", "site/__editable___llamafactory_0_9_1_finder.py": finder})
    assert source_tree.package_root("llamafactory", [tmp_path / "site"]) == tmp_path / "tree/llamafactory"


def test_nothing_installed(tmp_path):
    assert source_tree.package_root("llamafactory", [tmp_path]) is None


def test_required_versions_are_those_of_the_check_alone(tmp_path):
    add_files(tmp_path, {"extras/misc.py": MISC})
    expected = {"transformers": ">=4.41.2,<=4.46.1", "trl": ">=0.8.6,<=0.9.6"}
    assert source_tree.required_versions(tmp_path) == expected


def test_the_version_that_the_package_prints(tmp_path):
    add_files(tmp_path, {"extras/env.py": 'VERSION = "0.9.1.dev0"\n'})
    assert source_tree.own_version(tmp_path) == "0.9.1.dev0"
    assert source_tree.own_version(tmp_path / "missing") is None
