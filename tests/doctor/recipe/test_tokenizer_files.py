"""A SentencePiece model alone: whole, cut off, or something else under its name."""

import pytest

from doctor.recipe import tokenizer_files


def piece(text):
    body = b"\x0a" + bytes([len(text)]) + text.encode() + b"\x15\0\0\0\0"
    return b"\x0a" + bytes([len(body)]) + body


TRAINER = b"\x12\x90\x01" + b"x" * 144  # a field of more than 127 bytes, as the trainer's settings are
WHOLE = b"".join(map(piece, ("<unk>", "<s>", "</s>", "a"))) + TRAINER + b"\x1a\x02\x08\x01"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (WHOLE, None),
        (WHOLE[:-3], "it is cut off"),
        (WHOLE[:60], "it is cut off"),
        (WHOLE[:-40], "it is cut off"),
        (b"", "it is no SentencePiece model"),
        (bytes(500), "it is no SentencePiece model"),
        (b"PK\x03\x04" + bytes(60), "it is no SentencePiece model"),
        (b"IQ== 0\nIg== 1\n" * 40, None),  # the ranks of tiktoken
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:5e\n", None),  # told as a pointer
    ],
)
def test_what_a_tokenizer_model_holds(tmp_path, content, why):
    (tmp_path / "tokenizer.model").write_bytes(content)
    assert tokenizer_files.read(tmp_path, ["tokenizer.model"])["model_error"] == why
    assert tokenizer_files.read(tmp_path, ["tokenizer.model", "tokenizer.json"])["model_error"] is None


@pytest.mark.parametrize(
    ("held", "told"), [('{"a": 1,', True), ('{"a": "x"}', True), ('{"a": 1}', False), (None, False)]
)
def test_a_vocabulary_of_its_own(tmp_path, held, told):
    if held is not None:
        (tmp_path / "vocab.json").write_text(held)
    names = ["vocab.json", "merges.txt"]
    assert ("vocab.json" in tokenizer_files.read(tmp_path, names)["broken"]) is told
    assert tokenizer_files.read(tmp_path, [*names, "tokenizer.json"])["broken"] == {}
