import json

import pytest

from doctor.facts import Facts
from doctor.probes import logging as probe
from tests.support import servers
from tests.support.worlds import world

KEY = "0123456789abcdef" * 2 + "01234567"


def collected(
    tmp_path, report_to="wandb", installed=("wandb",), recipe=None, transformers="4.46.1", offline=True, **environ
):
    values = {**({} if report_to is None else {"report_to": report_to}), **(recipe or {})}
    versions = {"transformers": transformers, **dict.fromkeys(installed, "1.0")}
    known = Facts(
        {
            "recipe.path": "r.yaml",
            "recipe.values": values,
            "recipe.lines": {"report_to": 34},
            "packages.versions": versions,
        }
    )
    return known.merged(probe.collect(world(tmp_path, environ=environ, offline=offline), known))


def causes(facts):
    return [finding.cause for rule in probe.JUDGEMENTS for finding in rule(facts)]


def test_nobody_is_logged_in(tmp_path):
    facts = collected(tmp_path)
    (finding,) = probe.wandb(facts)
    assert (finding.cause, finding.severity, finding.evidence[0].where) == (
        "log-wandb-not-logged-in",
        None,
        "r.yaml:34",
    )


def test_neither_installed_nor_logged_in(tmp_path):
    absent, finding = probe.wandb(collected(tmp_path, installed=()))
    assert (absent.cause, absent.details["without_key"]) == ("log-wandb-not-installed", True)
    assert finding.cause == "log-wandb-not-logged-in"
    assert "not installed" in finding.evidence[0].what
    assert finding.details["not_installed"] is True


def test_logged_in_but_not_installed(tmp_path):
    assert causes(collected(tmp_path, installed=(), WANDB_API_KEY=KEY)) == ["log-wandb-not-installed"]
    assert causes(collected(tmp_path, installed=(), WANDB_MODE="offline")) == ["log-wandb-not-installed"]


def test_the_variable_that_makes_wandb_count_as_not_installed(tmp_path):
    assert causes(collected(tmp_path, WANDB_API_KEY=KEY, WANDB_DISABLED="true")) == ["log-wandb-not-installed"]
    assert causes(collected(tmp_path, report_to="all", WANDB_DISABLED="true")) == []


@pytest.mark.parametrize("environ", [{"WANDB_API_KEY": KEY}, {"WANDB_MODE": "offline"}, {"WANDB_MODE": "disabled"}])
def test_variables_that_serve(tmp_path, environ):
    facts = collected(tmp_path, **environ)
    assert causes(facts) == []
    assert KEY not in json.dumps(facts.to_json())


def test_netrc_and_settings_serve(tmp_path):
    (tmp_path / "home").mkdir()
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    netrc.chmod(0o600)
    facts = collected(tmp_path)
    assert facts["logging.wandb_login"] == str(netrc)
    assert causes(facts) == []
    assert causes(collected(tmp_path, WANDB_BASE_URL="https://wandb.example.org")) == ["log-wandb-not-logged-in"]
    netrc.write_text("machine other.example.org login u password p\n")
    assert causes(collected(tmp_path)) == ["log-wandb-not-logged-in"]
    settings = tmp_path / "home" / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[default]\napi_key = {KEY}\n")
    assert collected(tmp_path)["logging.wandb_login"] == str(settings)


def test_files_that_cannot_be_parsed_hold_no_key(tmp_path):
    (tmp_path / "home" / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / "home" / ".netrc").write_text("machine api.wandb.ai login\n")
    (tmp_path / "home" / ".config" / "wandb" / "settings").write_text("api_key = x\n")
    assert causes(collected(tmp_path)) == ["log-wandb-not-logged-in"]


@pytest.mark.parametrize(
    ("report_to", "transformers", "found"),
    [
        ("none", "4.46.1", []),
        (["none"], "4.46.1", []),
        ("all", "4.46.1", ["log-wandb-not-logged-in"]),
        (None, "4.46.1", ["log-wandb-not-logged-in"]),  # transformers 4: every logger that is installed
        (None, "5.6.0", []),  # transformers 5: none
        (["tensorboard", "wandb"], "5.6.0", ["log-wandb-not-logged-in", "log-tensorboard-missing"]),
    ],
)
def test_report_to_as_transformers_reads_it(tmp_path, report_to, transformers, found):
    assert causes(collected(tmp_path, report_to=report_to, transformers=transformers)) == found


def test_all_without_any_logger_installed(tmp_path):
    assert causes(collected(tmp_path, report_to="all", installed=())) == []


def test_tensorboard(tmp_path):
    assert causes(collected(tmp_path, report_to="tensorboard")) == ["log-tensorboard-missing"]
    assert causes(collected(tmp_path, report_to="tensorboard", installed=("tensorboardx",))) == []


def test_other_loggers(tmp_path):
    assert causes(collected(tmp_path, report_to="mlflow")) == ["pkg-missing"]
    assert causes(collected(tmp_path, report_to="mlflow", installed=("mlflow",))) == []
    assert causes(collected(tmp_path, report_to="swanlab")) == ["log-swanlab-not-installed"]
    assert causes(collected(tmp_path, report_to="none", recipe={"use_swanlab": True})) == ["log-swanlab-not-installed"]


def test_a_server_that_does_not_answer_stops_the_run(tmp_path):
    closed = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    assert causes(collected(tmp_path, offline=False, **closed)) == ["log-wandb-network"]
    assert causes(collected(tmp_path, offline=True, **closed)) == []
    assert causes(collected(tmp_path, offline=False, WANDB_MODE="offline", **closed)) == []
    with servers.hub({}) as serving:
        assert causes(collected(tmp_path, offline=False, **{**closed, "WANDB_BASE_URL": serving.url})) == []
