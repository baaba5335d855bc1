"""Packages that cannot live together are seen from files alone; healthy sets yield nothing."""

import msgspec
import pytest

from doctor.facts import Facts
from doctor.findings import Severity
from doctor.probes import packages
from tests.support.targets import add_distribution, add_files, make_target

NUMPY_2_HEADER = "#define NPY_TARGET_VERSION NPY_2_0_API_VERSION\n"
BASE = {
    "recipe.values": {},
    "llamafactory.required": {},
    "llamafactory.version": "0.9.1",
    "deepspeed.config_path": None,
}


def collected(tmp_path, distributions, files=None, **more):
    target = make_target(tmp_path)
    for name, version, *requires in distributions:
        add_distribution(target.site[0], name, version, tuple(requires))
    add_files(target.site[0], files or {})
    return Facts({**BASE, **packages.collect(target, Facts()), **more})


def findings(judgement, facts):
    return list(judgement(facts))


def test_pyarrow_for_numpy_2_beside_numpy_1(tmp_path):
    files = {"pyarrow/include/arrow/python/numpy_interop.h": NUMPY_2_HEADER}
    facts = collected(tmp_path, [("numpy", "1.26.4"), ("pyarrow", "26.0.1")], files)
    (found,) = findings(packages.numpy_abi, facts)
    assert found.cause == "pkg-numpy-abi"
    assert "pyarrow 26.0.1" in found.evidence[0].what
    assert found.details["pyarrow_needs_numpy2"] is True


@pytest.mark.parametrize(
    ("numpy", "pyarrow", "header"),
    [
        ("1.26.4", "23.0.0", ""),
        ("2.4.6", "26.0.1", NUMPY_2_HEADER),
        ("1.26.4", "23.0.0", "#define NPY_TARGET_VERSION NPY_1_22_API"),
    ],
)
def test_numpy_and_pyarrow_that_fit(tmp_path, numpy, pyarrow, header):
    files = {"pyarrow/include/arrow/python/numpy_interop.h": header}
    assert findings(packages.numpy_abi, collected(tmp_path, [("numpy", numpy), ("pyarrow", pyarrow)], files)) == []


def test_packages_compiled_for_numpy_1_beside_numpy_2(tmp_path):
    facts = collected(tmp_path, [("numpy", "2.1.0"), ("torch", "2.2.2"), ("pandas", "2.2.3")])
    (found,) = findings(packages.numpy_abi, facts)
    assert found.details["package"] == "torch"
    assert "package_for_numpy2" not in found.details


def version_py(version, cuda=None):
    return f"__version__ = '{version}'\ncuda: Optional[str] = {cuda!r}\n"


def test_torchaudio_of_another_cuda(tmp_path):
    files = {
        "torch/version.py": version_py("2.15.0+cu132", "13.2"),
        "torchaudio/version.py": version_py("2.11.0+cu130"),
    }
    facts = collected(tmp_path, [("torch", "2.15.0"), ("torchaudio", "2.11.0"), ("torchvision", "0.29.2")], files)
    (found,) = findings(packages.cuda_pairs, facts)
    assert found.cause == "pkg-torch-torchvision-mismatch"
    assert found.details["torch_version"] == "2.11.0"
    assert found.details["torchvision_version"] == "0.26.0"


@pytest.mark.parametrize("local", ["+cu130", "", "+cpu"])
def test_torchaudio_of_the_same_cuda_or_no_cuda(tmp_path, local):
    files = {"torch/version.py": version_py(f"2.11.0{local}"), "torchaudio/version.py": version_py(f"2.11.0{local}")}
    assert (
        findings(packages.cuda_pairs, collected(tmp_path, [("torch", "2.11.0"), ("torchaudio", "2.11.0")], files)) == []
    )


def test_a_version_that_llamafactory_refuses(tmp_path):
    required = {"transformers": ">=4.41.2,<=4.46.1"}
    facts = collected(tmp_path, [("transformers", "4.48.3")], **{"llamafactory.required": required})
    (found,) = findings(packages.out_of_range, facts)
    assert found.details["requirement"] == "transformers>=4.41.2,<=4.46.1"
    assert found.severity is None
    silenced = facts.merged({"launch.environ": {"DISABLE_VERSION_CHECK": "1"}})
    assert findings(packages.out_of_range, silenced)[0].severity is Severity.WARNING


def test_a_version_at_the_bounds_is_accepted(tmp_path):
    required = {"transformers": ">=4.41.2,<=4.46.1"}
    facts = collected(tmp_path, [("transformers", "4.46.1")], **{"llamafactory.required": required})
    assert findings(packages.out_of_range, facts) == []


def test_torchvision_of_another_torch_release(tmp_path):
    made = collected(tmp_path, [("torch", "2.11.0"), ("torchvision", "0.27.0", "torch==2.12.0", "numpy")])
    (found,) = findings(packages.too_old_or_new, made)
    assert found.cause == "pkg-torch-torchvision-mismatch"
    assert (found.details["torch_version"], found.details["torchvision_version"]) == ("2.11.0", "0.26.0")
    fitting = collected(tmp_path / "b", [("torch", "2.11.0"), ("torchvision", "0.26.0", "torch==2.11.0")])
    assert findings(packages.too_old_or_new, fitting) == []


def test_generated_code_for_another_protobuf(tmp_path):
    made = collected(tmp_path, [("wandb", "0.18.7", "protobuf<6,>=3.19.0"), ("protobuf", "7.36.2")])
    (found,) = findings(packages.too_old_or_new, made)
    assert (found.cause, found.severity) == ("pkg-protobuf-version", Severity.WARNING)
    fitting = collected(tmp_path / "b", [("wandb", "0.18.7", "protobuf<6,>=3.19.0"), ("protobuf", "5.29.0")])
    assert findings(packages.too_old_or_new, fitting) == []


def test_a_missing_requirement_of_a_requirement(tmp_path):
    distributions = [("llamafactory", "0.9.1", "trl>=0.8.6"), ("trl", "0.9.6", "tyro>=0.5.11", 'black; extra == "dev"')]
    (found,) = findings(packages.missing, collected(tmp_path, distributions))
    assert found.cause == "pkg-missing"
    assert found.details["distribution"] == "tyro>=0.5.11"


def test_what_training_imports_on_demand_is_a_warning_until_it_is_demanded(tmp_path):
    distributions = [("llamafactory", "0.9.5", "uvicorn", "av", "modelscope", "peft")]
    entries = {"clips": {"columns": {"prompt": "instruction", "videos": "clips"}}}
    demanded = {"dataset.entries": entries, "launch.environ": {"USE_MODELSCOPE_HUB": "1"}}
    for number, (given, errors) in enumerate((({}, {"peft"}), (demanded, {"peft", "av", "modelscope"}))):
        seen = findings(packages.missing, collected(tmp_path / str(number), distributions, **given))
        assert {one.details["module"] for one in seen} == {"uvicorn", "av", "modelscope", "peft"}
        assert {one.details["module"] for one in seen if one.severity is None} == errors
        assert all("imported" in one.evidence[0].what for one in seen if one.severity is not None)


def test_what_only_a_package_on_demand_needs_is_on_demand_too(tmp_path):
    gradio, peft = ("gradio", "5.0", "uvicorn", "tqdm"), ("peft", "1", "tqdm")
    facts = collected(tmp_path, [("llamafactory", "0.9.5", "gradio", "peft"), gradio, peft])
    seen = [(one.details["module"], one.severity) for one in findings(packages.missing, facts)]
    assert seen == [("tqdm", None), ("uvicorn", Severity.WARNING), ("tqdm", Severity.WARNING)]


def test_a_requirement_for_another_platform_is_not_missed(tmp_path):
    distributions = [("llamafactory", "0.9.1", 'pywin32; sys_platform == "win32"', 'tomli; python_version < "3.11"')]
    assert findings(packages.missing, collected(tmp_path, distributions)) == []


def test_setuptools_is_needed_where_deepspeed_builds_its_ops(tmp_path):
    distributions = [("torch", "2.5.1"), ("deepspeed", "0.16.2")]
    with_recipe = {"deepspeed.config_path": "ds.json"}
    (found,) = findings(packages.setuptools_missing, collected(tmp_path, distributions, **with_recipe))
    assert found.details["module"] == "setuptools"
    without_deepspeed = collected(tmp_path / "b", distributions)
    assert findings(packages.setuptools_missing, without_deepspeed) == []
    installed = collected(tmp_path / "c", [*distributions, ("setuptools", "80.9.0")], **with_recipe)
    assert findings(packages.setuptools_missing, installed) == []


def test_two_records_of_one_package(tmp_path):
    facts = collected(tmp_path, [("numpy", "1.26.4"), ("numpy", "2.1.0")])
    (found,) = findings(packages.duplicates, facts)
    assert found.cause == "pkg-broken-install"
    assert "1.26.4" in found.evidence[0].what
    assert found.severity is Severity.WARNING  # its files may be those of one of them


def test_another_release_in_a_later_folder(tmp_path):
    """As an environment with the system's packages, or a user's own folder before it, has them."""
    made = make_target(tmp_path)
    later = tmp_path / "system"
    add_distribution(made.site[0], "numpy", "1.26.4")
    add_distribution(later, "numpy", "2.1.0")
    interpreter = msgspec.structs.replace(made.interpreter, site=(*made.interpreter.site, str(later)))
    facts = Facts(packages.collect(msgspec.structs.replace(made, interpreter=interpreter), Facts({})))
    assert (facts["packages.versions"]["numpy"], findings(packages.duplicates, facts)) == ("1.26.4", [])


def test_a_version_that_is_none(tmp_path):
    (found,) = findings(packages.version_readable, collected(tmp_path, [("accelerate", "unknown"), ("gradio", "x")]))
    assert (found.cause, found.details["package"]) == ("pkg-broken-install", "accelerate")


def test_unreadable_requirements_are_passed_over(tmp_path):
    facts = collected(
        tmp_path, [("llamafactory", "0.9.1", "???not a requirement", "numpy (>=1.0)"), ("numpy", "1.26.4")]
    )
    assert findings(packages.missing, facts) == []
