"""Downloads from a loopback hub."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from doctor.facts import Facts
from fixes import history, hub
from fixes.apply import apply_plan
from fixes.errors import Refused
from fixes.plan import make_plan
from tests.fixes.hub_server import FILES, WEIGHTS, Hub
from tests.fixes.worlds import World, fix, healed, set_recipe, snapshot


def download(world: World, environ: dict[str, str]) -> tuple[object, ...]:
    if not world.findings:
        action = {"kind": "download-model", "repo": "toy/model", "to": "models/toy"}
        world.cause("absent", fix("download", action, set_recipe(model_name_or_path="models/toy")))
    clean = {k: v for k, v in world.target.environ.items() if not k.startswith(("HF_", "USE_MODELSCOPE", "MODELSCOPE"))}
    target = msgspec.structs.replace(world.target, environ={**clean, **environ})
    return apply_plan(world.plan(), target, Facts(), healed).outcomes


@pytest.mark.parametrize("modelscope", [False, True])
def test_download_then_undo(world: World, server: Hub, modelscope: bool) -> None:
    before = snapshot(world.workdir)
    environ = {"HF_ENDPOINT": server.url, "MODELSCOPE_DOMAIN": server.url}
    (outcome,) = download(world, {**environ, "USE_MODELSCOPE_HUB": "1"} if modelscope else environ)
    assert outcome.outcome == "verified", outcome  # type: ignore[attr-defined]
    place = world.workdir / "models" / "toy"
    assert {p.name: p.read_bytes() for p in place.iterdir()} == {
        "config.json": FILES["config.json"],
        "model.safetensors": WEIGHTS,
    }
    assert "model_name_or_path: models/toy" in world.recipe.read_text()
    history.undo(world.workdir)
    assert snapshot(world.workdir) == before
    asked = len([a for a in server.asked if a[0] == "GET" and "model.safetensors" in a[1]])
    download(world, environ)
    assert (place / "model.safetensors").read_bytes() == WEIGHTS
    assert len([a for a in server.asked if a[0] == "GET" and "model.safetensors" in a[1]]) == asked


def test_only_what_is_missing_or_damaged_is_fetched(world: World, server: Hub) -> None:
    place = world.workdir / "models" / "toy"
    place.mkdir(parents=True)
    (place / "config.json").write_bytes(FILES["config.json"])
    (place / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"!")
    before = snapshot(world.workdir)
    download(world, {"HF_ENDPOINT": server.url})
    assert (place / "model.safetensors").read_bytes() == WEIGHTS
    assert not any("config.json" in path for method, path, _ in server.asked if method == "GET")
    history.undo(world.workdir)
    assert snapshot(world.workdir) == before


def test_a_broken_connection_is_resumed(server: Hub, tmp_path: Path) -> None:
    environ = {"HF_ENDPOINT": "http://127.0.0.1:9", "MODELSCOPE_DOMAIN": server.url}
    listing = hub.find("toy/model", environ)
    assert listing.modelscope
    server.cut = 2
    hub.fetch(listing, list(listing.files), tmp_path / "m", environ)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == WEIGHTS
    assert [r for _, path, r in server.asked if "model.safetensors" in path] == [None, "bytes=100000-", "bytes=200000-"]


def test_what_arrives_damaged_is_not_used(world: World, server: Hub) -> None:
    server.damage = True
    before = world.recipe.read_bytes()
    (outcome,) = download(world, {"HF_ENDPOINT": server.url})
    assert outcome.outcome == "rolled back"  # type: ignore[attr-defined]
    assert "arrived damaged" in (outcome.reason or "")  # type: ignore[attr-defined]
    assert not (world.workdir / "models" / "toy").exists()
    assert world.recipe.read_bytes() == before


def test_no_hub_has_it(server: Hub) -> None:
    with pytest.raises(Refused, match=r"404, not found.*give --model PATH"):
        hub.find("no/such", {"HF_ENDPOINT": server.url, "MODELSCOPE_DOMAIN": server.url})


def test_no_room(server: Hub, tmp_path: Path) -> None:
    listing = hub.find("toy/model", {"HF_ENDPOINT": server.url})
    huge = hub.RemoteFile("model.safetensors", 10**18)
    with pytest.raises(Refused, match="GB are free"):
        hub.fetch(listing, [huge], tmp_path, {})


def test_a_name_that_leaves_the_directory_is_refused(server: Hub) -> None:
    server.files["../evil"] = b"x"
    with pytest.raises(Refused, match="evil"):
        hub.find("toy/model", {"HF_ENDPOINT": server.url, "MODELSCOPE_DOMAIN": "http://127.0.0.1:9"})


def test_offline_downloads_nothing(world: World) -> None:
    world.cause("absent", fix("download", {"kind": "download-model", "repo": "toy/model", "to": "m"}))
    target = msgspec.structs.replace(world.target, offline=True)

    (outcome,) = make_plan(world.findings, Facts(), target).outcomes
    assert "not downloaded while --offline" in (outcome.reason or "")
