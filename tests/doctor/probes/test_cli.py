import msgspec
import pytest

from doctor.facts import Facts
from doctor.probes import cli
from knowledge_base.schema import Severity
from tests.support.worlds import environment, program, world

BASE = {"recipe.path": "r.yaml", "recipe.values": {}, "recipe.lines": {"deepspeed": 8}, "llamafactory.root": None,
        "launch.force_torchrun": True, "launch.nproc": 2, "gpu.count": 0}  # fmt: skip


def collected(target, **facts):
    known = Facts({**BASE, **facts})
    return known.merged(cli.collect(target, known))


def judged(facts):
    return {finding.cause: finding for rule in cli.JUDGEMENTS for finding in rule(facts)}


def on_path(tmp_path, *folders, because="made for a test"):
    return world(tmp_path, environ={"PATH": ":".join(map(str, folders))}, because=because)


def test_one_environment_is_healthy(tmp_path):
    scripts = environment(tmp_path / "env")
    facts = collected(on_path(tmp_path, scripts))
    assert judged(facts) == {}
    assert facts["cli.programs"]["llamafactory-cli"]["prefix"] == str(tmp_path / "env")


def test_installed_but_not_on_path(tmp_path):
    scripts = environment(tmp_path / "env")
    finding = judged(collected(on_path(tmp_path, "/nowhere")))["cli-not-on-path"]
    assert finding.severity is None
    assert finding.details["environment_bin"] == str(scripts)
    assert finding.details["path_with_environment"] == f"{scripts}:/nowhere"
    assert finding.details["cli_elsewhere"] is True


def test_a_named_target_needs_no_path(tmp_path):
    environment(tmp_path / "env")
    found = judged(collected(on_path(tmp_path, "/nowhere", because="given with --python")))
    assert [(cause, f.severity) for cause, f in found.items()] == [("cli-not-on-path", Severity.INFO)]


def test_not_installed_anywhere(tmp_path):
    finding = judged(collected(on_path(tmp_path, "/nowhere", because="given with --python")))["cli-not-on-path"]
    assert finding.severity is None
    assert finding.details["llamafactory_missing"] is True


def test_a_user_install_beside_path(tmp_path):
    script = program(tmp_path / "home" / ".local" / "bin", "llamafactory-cli", "/usr/bin/python3")
    finding = judged(collected(on_path(tmp_path, "/nowhere")))["cli-not-on-path"]
    assert finding.details["environment_bin"] == str(script.parent)


def test_a_stale_script_whose_interpreter_is_gone(tmp_path):
    program(tmp_path / "old", "llamafactory-cli", tmp_path / "gone" / "bin" / "python")
    finding = judged(collected(on_path(tmp_path, tmp_path / "old")))["cli-not-on-path"]
    assert "does not exist any more" in finding.evidence[0].what


def test_torchrun_of_another_environment(tmp_path):
    ours = environment(tmp_path / "env", ("llamafactory-cli",))
    other = environment(tmp_path / "other", ("torchrun",))
    facts = collected(on_path(tmp_path, ours, other))
    finding = judged(facts)["env-python-mismatch"]
    assert finding.severity is None
    assert str(tmp_path / "other") in finding.evidence[0].what
    assert finding.details["environment_bin"] == str(ours)
    single = facts.merged({"launch.force_torchrun": False, "launch.nproc": 1})
    assert judged(single)["env-python-mismatch"].severity is Severity.WARNING


def test_the_user_site_shadows_the_environment(tmp_path):
    user = tmp_path / "home" / ".local" / "bin"
    environment(tmp_path / "env")
    shadow = environment(tmp_path / "system", ())
    program(user, "llamafactory-cli", shadow / "python")
    finding = judged(collected(on_path(tmp_path, user, tmp_path / "env" / "bin")))["env-python-mismatch"]
    assert f"torchrun on PATH is of {tmp_path / 'env'}" in finding.evidence[0].what


def test_python_of_another_environment_is_a_warning(tmp_path):
    ours, other = environment(tmp_path / "env"), environment(tmp_path / "other", ())
    finding = judged(collected(on_path(tmp_path, other, ours)))["env-python-mismatch"]
    assert finding.severity is Severity.WARNING
    assert "pip installs go elsewhere" in finding.evidence[0].what


def test_a_shim_tells_nothing(tmp_path):
    ours = environment(tmp_path / "env")
    program(tmp_path / ".pyenv" / "shims", "python")
    facts = collected(on_path(tmp_path, tmp_path / ".pyenv" / "shims", ours))
    assert facts["cli.programs"]["python"]["prefix"] is None
    assert judged(facts) == {}


def test_no_torchrun(tmp_path):
    ours = environment(tmp_path / "env", ("llamafactory-cli",))
    facts = collected(on_path(tmp_path, ours))
    assert judged(facts)["launch-torchrun-missing"].details["env_bin"] == str(ours)
    assert judged(facts.merged({"launch.force_torchrun": False, "launch.nproc": 1})) == {}
    named = collected(on_path(tmp_path, ours, because="environment e, given with --env"))
    assert "launch-torchrun-missing" in judged(named)


def test_deepspeed_needs_torchrun(tmp_path):
    ours = environment(tmp_path / "env")
    off = {"launch.force_torchrun": False, "launch.nproc": 1, "recipe.values": {"deepspeed": {"zero_optimization": {}}}}
    facts = collected(on_path(tmp_path, ours), **off)
    assert judged(facts)["launch-torchrun-missing"].details["force_torchrun"] == "FORCE_TORCHRUN=1"
    assert judged(facts.merged({"gpu.count": 2, "launch.nproc": 2})) == {}
    assert judged(facts.merged({"launch.force_torchrun": True})) == {}


# -- where one stands ---------------------------------------------------------------------------------------------------
@pytest.fixture
def tree(tmp_path):
    """A LLaMA-Factory source tree around the working directory of the test's target."""
    package = tmp_path / "src" / "llamafactory"
    for part in ("data", "hparams", "model", "train"):
        (package / part).mkdir(parents=True)
    (package / "cli.py").touch()
    (tmp_path / "setup.py").touch()
    return package


def imported(version="0.9.1", templates=("qwen",)):
    return {"llamafactory.root": "/site-packages/llamafactory", "llamafactory.version": version,
            "llamafactory.templates": list(templates)}  # fmt: skip


@pytest.mark.parametrize(
    ("template", "version", "severity"),
    [("qwen25", "0.9.1", None), ("qwen", "0.9.1", Severity.INFO), ("qwen", "0.9.5", Severity.WARNING)],
)
def test_a_source_tree_that_is_not_the_imported_one(tmp_path, tree, template, version, severity):
    (tree / "data" / "template.py").write_text(
        'register_template(name="qwen", format_user=None)\nregister_template(name="qwen25", format_user=None)\n'
    )
    (tree / "extras").mkdir()
    (tree / "extras" / "env.py").write_text('VERSION = "0.9.1"\n')
    scripts = environment(tmp_path / "env")
    facts = collected(on_path(tmp_path, scripts), **imported(version), **{"recipe.values": {"template": template}})
    found = judged(facts)
    assert set(found) == {"cli-foreign-tree"}
    assert found["cli-foreign-tree"].severity is severity
    assert found["cli-foreign-tree"].details["tree_requirement"] == f"llamafactory @ {tmp_path.as_uri()}"


def test_a_source_tree_that_is_not_installed(tmp_path, tree):
    finding = judged(collected(on_path(tmp_path, environment(tmp_path / "env"))))["cli-foreign-tree"]
    assert finding.severity is None
    assert "not installed in the target" in finding.evidence[0].what


def test_an_editable_install_of_the_tree_is_healthy(tmp_path, tree):
    scripts = environment(tmp_path / "env")
    assert judged(collected(on_path(tmp_path, scripts), **{"llamafactory.root": str(tree)})) == {}


def test_an_incomplete_tree(tmp_path, tree):
    scripts = environment(tmp_path / "env")
    (tree / "model").rmdir()
    finding = judged(collected(on_path(tmp_path, scripts), **{"llamafactory.root": str(tree)}))["cli-incomplete-tree"]
    assert "lacks model" in finding.evidence[0].what


def test_recipe_files_alone_are_no_source_tree(tmp_path):
    scripts = environment(tmp_path / "env")
    for folder in ("data", "examples/train_full"):
        (tmp_path / "work" / folder).mkdir(parents=True)
    assert judged(collected(on_path(tmp_path, scripts), **{"llamafactory.root": "/site-packages/llamafactory"})) == {}


def test_the_deepspeed_json_is_in_another_folder(tmp_path):
    scripts = environment(tmp_path / "env")
    inner = tmp_path / "work" / "SkyThought" / "train" / "LLaMA-Factory"
    (inner / "ds").mkdir(parents=True)
    (inner / "ds" / "z3.json").touch()
    facts = collected(on_path(tmp_path, scripts), **{"recipe.values": {"deepspeed": "ds/z3.json"}})
    finding = judged(facts)["cli-wrong-workdir"]
    assert finding.evidence[0].where == "r.yaml:8"
    assert str(inner) in finding.evidence[0].what
    assert judged(facts.merged({"dataset.elsewhere": [str(inner)]})) == {}
    here = msgspec.structs.replace(on_path(tmp_path, scripts), workdir=inner)
    assert collected(here, **{"recipe.values": {"deepspeed": "ds/z3.json"}})["cli.elsewhere"] is None


def test_an_environment_with_a_space_in_its_path():
    facts = Facts({"llamafactory.root": "/home/me/my envs/llamafactory", "launch.force_torchrun": True})
    (found,) = cli.path_with_space(facts)
    assert found.cause == "cli-path-with-space"
    for healthy in ({"llamafactory.root": "/home/me/envs/llamafactory"}, {"launch.force_torchrun": False}):
        assert list(cli.path_with_space(facts.merged(healthy))) == []
