"""The web board: worth knowing, never in the way of training."""

import socket

import pytest

from doctor.facts import Facts
from doctor.probes import board
from tests.support.worlds import world


def judged(target, **versions):
    known = Facts({"packages.versions": versions})
    known = known.merged(board.collect(target, known))
    return [(f.cause, f.severity.value) for rule in board.JUDGEMENTS for f in rule(known)]


@pytest.mark.parametrize(
    ("gradio", "pydantic", "bad"),
    [("4.44.1", "2.14.3", True), ("4.44.1", "2.10.6", False), ("5.50.0", "2.12.3", False), ("odd", "2.12.3", False)],
)
def test_gradio_and_pydantic(tmp_path, gradio, pydantic, bad):
    found = judged(world(tmp_path), gradio=gradio, pydantic=pydantic)
    assert found == ([("pkg-gradio-pydantic-mismatch", "info")] if bad else [])


def test_no_board_no_finding(tmp_path):
    assert judged(world(tmp_path, environ={"GRADIO_SERVER_PORT": "1"})) == []


def test_the_port_that_was_asked_for(tmp_path):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = str(other.getsockname()[1])
        found = judged(world(tmp_path, environ={"GRADIO_SERVER_PORT": port}), gradio="5.50.0")
    assert found == [("launch-port-in-use", "info")]
    assert judged(world(tmp_path, environ={"GRADIO_SERVER_PORT": "x"}), gradio="5.50.0") == []
