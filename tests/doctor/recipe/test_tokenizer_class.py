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


def older(tmp_path: Path, fast: str, slow: str = "vocab_files_names = 1") -> Path:
    root = transformers(tmp_path, falls_back=False)
    (root / "models/auto/tokenization_auto.py").write_text('("bert", ("BertTokenizer", "BertTokenizerFast")),')
    (root / "models/bert/tokenization_bert.py").write_text(f"class BertTokenizer(PreTrainedTokenizer):\n    {slow}\n")
    if fast:
        (root / "models/bert/tokenization_bert_fast.py").write_text(fast)
    return root


@pytest.mark.parametrize(
    ("fast", "held", "why"),
    [("json.loads(self.backend_tokenizer.normalizer.__getstate__())", '"normalizer": null', "the normalizer"),
     ("json.loads(self.backend_tokenizer.normalizer.__getstate__())", '"normalizer": {"type": "NFC"}', None),
     ("isinstance(self.backend_tokenizer.pre_tokenizer, pre_tokenizers.Sequence)",
      '"pre_tokenizer": {"type": "ByteLevel"}', "a sequence"),
     ("isinstance(self.backend_tokenizer.pre_tokenizer, pre_tokenizers.Sequence)",
      '"pre_tokenizer": {"type": "Sequence", "pretokenizers": []}', None)],
)  # fmt: skip
def test_a_class_before_5_that_changes_what_it_reads(
    tmp_path: Path, described: Path, fast: str, held: str, why: str | None
) -> None:
    described.write_text(f"{{{held}}}")
    root = older(tmp_path, fast)
    for name in ("BertTokenizer", "BertTokenizerFast"):
        refused = tokenizer_class.of(name, root, described).refused
        assert (why in str(refused)) if why else refused is None


def test_a_class_that_reads_no_vocabulary(tmp_path: Path, described: Path) -> None:
    assert "bytes" in str(tokenizer_class.of("BertTokenizer", older(tmp_path, "", "pass"), described).refused)


def test_that_of_5(tmp_path: Path, described: Path) -> None:
    root = transformers(tmp_path)
    source = root / "models/qwen2/tokenization_qwen2.py"
    source.write_text("class Qwen2Tokenizer(PreTrainedTokenizer): ...\n")
    assert "bytes" in str(tokenizer_class.of("Qwen2Tokenizer", root, described).refused)
    source.write_text(
        'from tokenizers.models import BPE\nclass Qwen2Tokenizer(T):\n    BPE(end_of_word_suffix="</w>")\n'
    )
    described.write_text(BPE.replace('"vocab"', '"end_of_word_suffix": null, "vocab"'))
    assert "</w>" in str(tokenizer_class.of("Qwen2Tokenizer", root, described).refused)
    described.write_text(BPE.replace('"vocab"', '"end_of_word_suffix": "</w>", "vocab"'))
    assert tokenizer_class.of("Qwen2Tokenizer", root, described).refused is None


@pytest.mark.parametrize(("level", "falls", "refused"), [("ByteLevel", "false", True), ("ByteLevel", "true", False),
                                                         ("Metaspace", "false", False)])  # fmt: skip
def test_spaces_of_another_spelling(tmp_path: Path, described: Path, level: str, falls: str, refused: bool) -> None:
    root = transformers(tmp_path)
    source = "from tokenizers.models import BPE\nclass Qwen2Tokenizer(T):\n    BPE(byte_fallback=True)\n"
    (root / "models/qwen2/tokenization_qwen2.py").write_text(source)
    model = f'"model": {{"type": "BPE", "byte_fallback": {falls}}}'
    described.write_text(f'{{"pre_tokenizer": {{"type": "{level}"}}, {model}}}')
    assert bool(tokenizer_class.of("Qwen2TokenizerFast", root, described).refused) is refused
