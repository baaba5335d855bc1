"""The class that tokenizer_config.json names, as two kinds of transformers take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor.recipe import tokenizer_class

AUTO = """
        ("align", "BertTokenizer" if is_tokenizers_available() else None),
        ("bert", "BertTokenizer" if is_tokenizers_available() else None),
        ("qwen2", "Qwen2Tokenizer" if is_tokenizers_available() else None),
"""
BPE = '{"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}'


def transformers(tmp_path: Path, falls_back: bool = True) -> Path:
    root = tmp_path / "transformers"
    for kind, algorithm in (("bert", "WordPiece"), ("qwen2", "BPE")):
        folder = root / "models" / kind
        folder.mkdir(parents=True)
        source = f"from tokenizers.models import {algorithm}\nclass {kind.title()}Tokenizer(TokenizersBackend): ...\n"
        (folder / f"tokenization_{kind}.py").write_text(source)
    (root / "models/auto").mkdir()
    note = "# Fallback to TokenizersBackend if the class wasn't found\n" if falls_back else ""
    (root / "models/auto/tokenization_auto.py").write_text(AUTO + note)
    return root


@pytest.fixture
def described(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(BPE)
    return tmp_path / "tokenizer.json"


def test_a_class_of_another_algorithm(tmp_path: Path, described: Path) -> None:
    root = transformers(tmp_path)
    for name in ("BertTokenizer", "BertTokenizerFast"):
        assert "WordPiece" in str(tokenizer_class.of(name, root, described).refused)
    described.write_text(BPE.replace("BPE", "WordPiece"))
    assert tokenizer_class.of("BertTokenizer", root, described).refused is None


@pytest.mark.parametrize("name", ["Qwen2Tokenizer", "QwenXTokenizer", "", "PreTrainedTokenizerFast", "a(b"])
def test_what_is_taken(tmp_path: Path, described: Path, name: str) -> None:
    taken = tokenizer_class.of(name, transformers(tmp_path), described)
    assert (taken.falls_back, taken.refused) == (True, None)


def test_what_does_not_fall_back(tmp_path: Path, described: Path) -> None:
    root = transformers(tmp_path, falls_back=False)
    assert tokenizer_class.of("BertTokenizer", root, described) == tokenizer_class.Taken()
    assert not tokenizer_class.of(["x"], root, described).falls_back
    assert not tokenizer_class.of(None, root, None).falls_back
    assert not tokenizer_class.of("QwenXTokenizer", tmp_path / "none", described).falls_back


def test_the_class_that_chooses(tmp_path: Path) -> None:
    assert "none" in str(tokenizer_class.of("AutoTokenizer", tmp_path, None).refused)
