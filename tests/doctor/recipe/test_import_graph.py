import pytest

from doctor.recipe import import_graph


@pytest.fixture
def site(tmp_path):
    """`mine` imports `yours` at its top, under a condition, and through a module of its own."""
    files = {
        "mine/__init__.py": "from .core import run\n",
        "mine/core.py": "import os\nfrom yours import Old, Kept\nfrom .deeper.part import thing\n"
        "try:\n    from yours import Optional\nexcept ImportError:\n    Optional = None\n"
        "def late():\n    from yours import Later\n",
        "mine/deeper/__init__.py": "",
        "mine/deeper/part.py": "from yours.sub import gone, here\nfrom yours.nowhere import x\nfrom others import y\n",
        "mine/unused.py": "from yours import Never\n",
        "yours/__init__.py": "from .sub import *\nclass Kept: ...\n",
        "yours/sub.py": "def here(): ...\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def lacking(site):
    needs = import_graph.asked(site / "mine", "__init__.py", ("yours",))
    return {f"{need.module}.{need.name}" for need in import_graph.lacking(needs, [site])}


def test_names_that_the_import_asks_for_and_does_not_find(site):
    assert lacking(site) == {"yours.Old", "yours.sub.gone", "yours.nowhere.x"}


def test_a_lazy_module_may_have_it_anywhere(site):
    (site / "yours/far").mkdir()
    (site / "yours/far/away.py").write_text("Old = 1\n")
    assert "yours.Old" not in lacking(site)


def test_where_it_stands(site):
    (first, *_) = import_graph.asked(site / "mine", "__init__.py", ("yours",))
    assert (first.file, first.line) == ("mine/core.py", 2)


def test_a_package_that_is_not_there_is_another_matter(site):
    for path in (site / "yours").glob("*.py"):
        path.unlink()
    (site / "yours").rmdir()
    assert lacking(site) == set()
