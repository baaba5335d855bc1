"""Root cause, not loudest error; and "not known" where that is the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from doctor.diagnose import Diagnosis, diagnose
from doctor.facts import Facts
from knowledge_base.index import Index, build, index
from knowledge_base.schema import Cause, Role, Severity, Signature, Text

TEXT = Text("x", "某")


def cause(cause_id: str, pattern: str, strength: float = 0.95, **more: Any) -> Cause:
    condition = {name: more.pop(name) for name in ("with_", "without") if name in more}
    signature = Signature(pattern, strength, **condition)
    return Cause(cause_id, Severity.ERROR, TEXT, TEXT, ("https://example.org",), signatures=(signature,), **more)


def known(*causes: Cause) -> Index:
    return build(("area", one) for one in causes)


ROOT = cause("root", r"the real (?P<thing>\w+) reason")
OTHER = cause("other", "another reason")
SYMPTOM = cause("symptom", "timed out waiting for peers", role=Role.SYMPTOM)
WRAPPER = cause("wrapper", "ChildFailedError", role=Role.WRAPPER)


@pytest.fixture
def ask(tmp_path: Path):  # type: ignore[no-untyped-def]
    def asked(text: str, index: Index, facts: Facts | None = None) -> Diagnosis:
        log = tmp_path / "a.log"
        log.write_text(text)
        return diagnose([log], facts, index)

    return asked


def causes(result: Diagnosis) -> list[str]:
    return [finding.cause for finding in result.findings]


def test_details_evidence_and_rank(ask: Any) -> None:
    result = ask("hello\n[rank2]: ValueError: the real disk reason\n", known(ROOT))
    (finding,) = result.findings
    assert (finding.cause, finding.rank, finding.details) == ("root", 2, {"thing": "disk"})
    assert finding.evidence[0].where == "line 2"
    assert finding.evidence[0].what == "ValueError: the real disk reason"


def test_the_first_failure_wins_over_later_ones(ask: Any) -> None:
    text = "ValueError: the real disk reason\nstep\nOSError: another reason\n"
    assert causes(ask(text, known(ROOT, OTHER))) == ["root", "other"]
    text = "OSError: another reason\nstep\nValueError: the real disk reason\n"
    assert causes(ask(text, known(ROOT, OTHER))) == ["other", "root"]


def test_the_first_symptom_wins_over_the_later_one_of_another_rank(ask: Any) -> None:
    later = cause("later", "gave up waiting", 0.95, role=Role.SYMPTOM)
    earlier = cause("earlier", "timed out waiting for peers", 0.85, role=Role.SYMPTOM)
    text = "[rank0]: RuntimeError: timed out waiting for peers\n[rank1]: RuntimeError: gave up waiting\n"
    assert causes(ask(text, known(earlier, later))) == ["earlier", "later"]


def test_symptoms_and_wrappers_lose_to_roots_wherever_they_stand(ask: Any) -> None:
    text = "RuntimeError: timed out waiting for peers\nx\nValueError: the real disk reason\nx.ChildFailedError: \n"
    assert causes(ask(text, known(SYMPTOM, WRAPPER, ROOT))) == ["root"]
    assert causes(ask("RuntimeError: timed out waiting for peers\n", known(SYMPTOM, ROOT))) == ["symptom"]
    assert causes(ask("x.ChildFailedError: \n", known(WRAPPER, ROOT))) == ["wrapper"]


def test_a_wrapper_or_a_symptom_is_no_answer_beside_an_unknown_failure(ask: Any) -> None:
    for echo in ("x.ChildFailedError: ", "RuntimeError: timed out waiting for peers"):
        result = ask(f"[rank3]: KeyError: 'nobody knows'\nx\n{echo}\n", known(WRAPPER, SYMPTOM))
        assert causes(result) == []
        assert result.unrecognised is not None
        assert (result.unrecognised.exception, result.unrecognised.rank) == ("KeyError", 3)


@pytest.mark.parametrize(
    ("echo", "says"), [(WRAPPER, "x.ChildFailedError: "), (SYMPTOM, "timed out waiting for peers")]
)
def test_an_echo_is_no_answer_beside_a_failure_that_fits_a_cause_but_for_its_conditions(
    ask: Any, echo: Cause, says: str
) -> None:
    conditional = cause("needs", "nobody knows", with_=("^DeepSpeed info",))
    result = ask(f"[rank3]: KeyError: 'nobody knows'\nx\n{says}\n", known(echo, conditional))
    assert causes(result) == []
    assert result.unrecognised is not None
    assert result.unrecognised.exception == "KeyError"


def test_a_cause_yields_to_those_it_names(ask: Any) -> None:
    generic = cause("generic", "ValueError: the real", yields_to=("root",))
    assert causes(ask("ValueError: the real disk reason\n", known(generic, ROOT))) == ["root"]
    assert causes(ask("ValueError: the real other\n", known(generic, ROOT))) == ["generic"]


def test_a_cause_yields_to_the_warning_of_one_that_it_names_and_the_answer_is_as_sure(ask: Any) -> None:
    text = "UserWarning: the real disk reason\nValueError: not supported on your device\n"
    failed = cause("failed", "not supported on your device", 0.97)
    (plain,) = [f for f in ask(text, known(failed, ROOT)).findings if f.cause == "failed"]
    named = cause("failed", "not supported on your device", 0.97, yields_to=("root",))
    (found,) = ask(text, known(named, ROOT)).findings
    assert (found.cause, found.confidence) == ("root", min(plain.confidence, ROOT.signatures[0].strength))


def test_a_kind_and_its_broader_cause_are_one_answer_the_kind_where_both_are_as_likely(ask: Any) -> None:
    broad, kind = cause("broad", "memory is gone"), cause("kind", "is gone in pieces", kind_of="broad")
    assert causes(ask("ValueError: the memory is gone in pieces\n", known(broad, kind))) == ["kind"]
    unsure = cause("kind", "is gone in pieces", strength=0.7, kind_of="broad")
    assert causes(ask("ValueError: the memory is gone in pieces\n", known(broad, unsure))) == ["broad"]


def test_two_plausible_causes_are_shown_as_two_the_likelier_first(ask: Any) -> None:
    index = known(cause("often", "another reason", 0.8), cause("sometimes", "reason$", 0.6), cause("hardly", "OS", 0.2))
    found = ask("OSError: another reason\n", index).findings
    assert [(finding.cause, finding.confidence) for finding in found] == [("often", 0.8), ("sometimes", 0.6)]


def test_with_and_without(ask: Any) -> None:
    index = known(cause("needs", "another reason", with_=("^DeepSpeed info",), without=("single process",)))
    assert causes(ask("DeepSpeed info\nOSError: another reason\n", index)) == ["needs"]
    assert causes(ask("OSError: another reason\n", index)) == []
    assert causes(ask("DeepSpeed info\nsingle process\nOSError: another reason\n", index)) == []


def test_versions_that_contradict_lower_the_confidence(ask: Any) -> None:
    index = known(cause("old", "another reason", affected={"deepspeed": "<0.16"}), cause("new", "reason$", 0.7))
    text = "OSError: another reason\n"
    assert causes(ask(text, index))[0] == "old"
    assert causes(ask("[INFO] DeepSpeed info: version=0.17.1, git-hash=unknown\n" + text, index))[0] == "new"
    assert causes(ask(text, index, Facts({"packages.versions": {"deepspeed": "0.18.0"}})))[0] == "new"


def test_a_warning_alone_is_never_a_sure_cause(ask: Any) -> None:
    result = ask("UserWarning: the real disk reason\n", known(ROOT))
    assert all(finding.confidence < 0.6 for finding in result.findings)


def test_a_warning_is_told_where_the_log_has_nothing_else_to_say(ask: Any) -> None:
    assert causes(ask("UserWarning: the real disk reason\n", known(ROOT))) == ["root"]


def test_a_warning_beside_an_unknown_failure_is_no_answer(ask: Any) -> None:
    result = ask("UserWarning: the real disk reason\nKeyError: 'nobody knows'\n", known(ROOT))
    assert causes(result) == []
    assert result.unrecognised is not None


def test_a_silent_cause_is_told_of_a_run_that_ends_well(ask: Any) -> None:
    silent = cause("nan", "'grad_norm': nan", silent=True)
    text = "{'loss': 0.0, 'grad_norm': nan}\n" * 5 + "{'train_runtime': 3.1}\n"
    assert causes(ask(text, known(silent))) == ["nan"]
    assert causes(ask(text, known(cause("loud", "'grad_norm': nan")))) == []


def test_a_failure_that_training_survived_counts_for_nothing(ask: Any) -> None:
    step = "  3%|▎  | {}/120 [00:10<05:00,  2.6s/it]\n"
    text = "ValueError: the real disk reason\n" + "".join(step.format(n) for n in range(1, 9))
    result = ask(text, known(ROOT))
    assert (result.findings, result.unrecognised) == ((), None)


def test_the_last_of_several_runs_counts(ask: Any) -> None:
    run = "[INFO] llamafactory.cli:143 >> Initializing 8 distributed tasks at: 127.0.0.1:29501\n"
    failed = "Traceback (most recent call last):\nValueError: the real disk reason\n"
    result = ask(
        run + failed + run + "Traceback (most recent call last):\nOSError: another reason\n", known(ROOT, OTHER)
    )
    assert causes(result) == ["other"]
    assert "2 runs" in result.notes[0]
    assert "line 4" in result.notes[0]


def test_the_first_of_several_runs_may_have_lost_its_beginning(ask: Any) -> None:
    run = "[INFO] llamafactory.cli:143 >> Initializing 8 distributed tasks at: 127.0.0.1:29501\n"
    failed = "Traceback (most recent call last):\nValueError: the real disk reason\n"
    result = ask(failed + run + "Traceback (most recent call last):\nOSError: another reason\n", known(ROOT, OTHER))
    assert causes(result) == ["other"]
    assert "2 runs" in result.notes[0]


def test_a_command_behind_its_failure_is_no_further_run(ask: Any) -> None:
    failed = "Traceback (most recent call last):\nValueError: the real disk reason\n"
    result = ask(failed + "$ llamafactory-cli train recipe.yaml\nPython 3.11\n", known(ROOT))
    assert causes(result) == ["root"]
    assert not result.notes


def test_a_wrapped_message_and_one_in_small_letters_are_found(ask: Any) -> None:
    assert causes(ask("│ ValueError: the real      │\n│ disk reason   │\n", known(ROOT))) == ["root"]
    assert causes(ask("valueerror: the REAL disk reason\n", known(ROOT))) == ["root"]


def test_what_markdown_set_in_bold_type_is_underlined_again(ask: Any) -> None:
    init = known(cause("init", r"\w+Trainer\.__init__\(\) got an unexpected"))
    assert causes(ask("TypeError: DPOTrainer.init() got an unexpected keyword argument 'x'\n", init)) == ["init"]
    assert not causes(ask("TypeError: wandb.init() got an unexpected keyword argument 'x'\n", init))


def test_a_name_that_software_printed_is_taken_as_it_is_spelt(ask: Any) -> None:
    remote = known(cause("remote", r"'(QWen)\w*' object has no attribute"))
    assert causes(ask("AttributeError: 'QWenLMHeadModel' object has no attribute 'x'\n", remote)) == ["remote"]
    assert causes(ask("attributeerror: 'qwenlmheadmodel' object has no attribute 'x'\n", remote)) == ["remote"]
    assert not causes(ask("AttributeError: 'Qwen2ForCausalLM' object has no attribute 'x'\n", remote))


@pytest.mark.parametrize("width", [80, 100])
def test_a_message_cut_in_the_middle_of_a_word_by_a_terminal_is_found(ask: Any, width: int) -> None:
    message = (
        "the real disk reason of it all, told at such length that no terminal has the width to show it in one line"
    )
    text = "ValueError: " + message
    cut = "\n".join(text[start : start + width] for start in range(0, len(text), width))
    assert causes(ask(cut + "\n", known(cause("long", message)))) == ["long"]


def test_unrecognised_is_redacted_and_fit_to_be_searched_for(ask: Any) -> None:
    token = "hf_" + "a1B2" * 9
    text = (
        "Traceback (most recent call last):\n"
        '  File "/home/user/my_train.py", line 7, in main\n'
        "    go()\n"
        '  File "/opt/env/lib/python3.11/site-packages/lib.py", line 9, in go\n'
        f"KeyError: 'odd thing 0x7f3a at /home/user/data/x.json with {token}'\n"
    )
    unknown = ask(text, known(ROOT)).unrecognised
    assert unknown is not None
    assert unknown.frames == ("/home/user/my_train.py:7 in main",)
    assert token not in unknown.excerpt + unknown.message + unknown.search_for
    assert "/home/user" not in unknown.search_for
    assert unknown.search_for.startswith("KeyError 'odd thing")
    assert len(unknown.excerpt.splitlines()) <= 30


def test_an_exit_code_alone_is_unrecognised_when_no_cause_knows_it(ask: Any) -> None:
    result = ask("failed (exitcode: -9) local_rank: 1 (pid: 7) of binary: python\n", known(ROOT))
    assert result.unrecognised is not None
    assert result.unrecognised.exception == "exit code -9"


def test_a_traceback_that_only_passes_a_failure_on_is_still_a_failure(ask: Any) -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "/home/user/project/train.py", line 346, in <module>\n'
        '    data = load_dataset("json", data_files=path)\n'
        "datasets.exceptions.DatasetGenerationError: An error occurred while generating the dataset\n"
    )
    unrecognised = ask(text, known(ROOT)).unrecognised
    assert unrecognised is not None
    assert unrecognised.exception == "datasets.exceptions.DatasetGenerationError"


def test_nothing_seen_is_nothing_said(ask: Any) -> None:
    result = ask("all is well\n", known(ROOT))
    assert (result.findings, result.unrecognised) == ((), None)


def test_a_destructor_is_heard_where_nothing_else_is_left_of_the_run(ask: Any) -> None:
    complaint = (
        "Exception ignored in: <function Adam.__del__ at 0x7f0000000000>\nAttributeError: the real adam reason\n"
    )
    found = ask(complaint, known(ROOT)).findings
    assert [(finding.cause, finding.confidence < 0.6) for finding in found] == [("root", True)]
    assert causes(ask("ValueError: something else\n" + complaint, known(ROOT))) == []


def test_packages_of_the_user_in_an_environment_are_told_beside_what_they_broke(ask: Any) -> None:
    """Frames of ~/.local in a conda environment explain a version that pip does not show, not an out-of-memory error."""
    frames = (
        "Traceback (most recent call last):\n"
        '  File "/opt/conda/envs/llm/bin/llamafactory-cli", line 5, in <module>\n    from llamafactory.cli import main\n'
        '  File "/home/user/.local/lib/python3.10/site-packages/transformers/utils/versions.py", line 60, in compare\n'
        "    raise ImportError(\n"
    )
    refused = (
        "ImportError: tokenizers>=0.21,<0.22 is required for a normal functioning of this module, "
        "but found tokenizers==0.20.3.\n"
    )
    broken = ["pkg-version-out-of-range", "env-python-mismatch"]
    assert causes(ask(frames + refused, index())) == broken
    assert causes(ask(frames.replace("/home/user/.local", "/opt/conda/envs/llm") + refused, index())) == broken[:1]
    full = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
    assert causes(ask(frames.replace("ImportError(", "OutOfMemoryError(") + full, index())) == ["cuda-oom"]
