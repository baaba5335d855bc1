import time

import pytest

from doctor import redact

HF = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567"
HEX = "0123456789abcdef" * 2 + "01234567"

SECRETS = [
    (f"hf_hub_token: {HF}", HF[3:], "Hugging Face token"),
    (f"recipe_{HF}.yaml", HF[3:], "Hugging Face token"),
    (f"export WANDB_API_KEY={HEX}", HEX, "key or token"),
    (f"wandb login {HEX}", HEX, "key or token"),
    (f"wandb login --relogin {HEX}", HEX, "key or token"),
    (f'wandb.login(key="{HEX}")', HEX, "key or token"),
    (f'  "wandb_key": "{HEX}",', HEX, "key or token"),
    (f"Authorization: Bearer {HEX}", HEX, "key or token"),
    (f"  password {HEX}", HEX, "key or token"),
    ("wandb_v1_" + "Ab1" * 20, "Ab1" * 20, "wandb key (v1)"),
    ("OPENAI_API_KEY=sk-proj-" + "aB3" * 10, "aB3" * 10, "OpenAI key"),
    ("ghp_" + "a1B2" * 9, "a1B2" * 9, "GitHub token"),
    ("glpat-" + "a1B2" * 5, "a1B2" * 5, "GitLab token"),
    ("id AKIA" + "ABCD1234" * 2, "ABCD1234" * 2, "AWS access key"),
    ("LTAI5tAbCdEfGhIjKlMnOpQr", "5tAbCdEfGhIjKlMnOpQr", "Aliyun access key"),
    ("ms-01234567-89ab-cdef-0123-456789abcdef", "01234567-89ab", "ModelScope token"),
    ("https_proxy=http://me:hunter2@proxy:8080", "hunter2", "password"),
    ("db_password: hunter2", "hunter2", "password"),
    ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "abc", "private key"),
]

HARMLESS = [
    "export HF_TOKEN=$MY_TOKEN",
    "HF_TOKEN=<your token here>",
    "hub_token: null",
    "tokenizer_name_or_path: Qwen/Qwen2.5-32B-Instruct",
    "eos_token: <|im_end|>",
    "tokenized_path: saves/tokenized_dataset_v1",
    "token=AutoTokenizer2.from_pretrained_model",
    "HF_TOKEN_PATH=/home/user1/.cache/huggingface/token",
    "api_key = os.environ.get('WANDB_API_KEY')",
    "HF_TOKEN=/run/secrets/hf_token_2024/value",
    f"commit {HEX}",
    "num_tokens: 12345678901234567890",
    "MASTER_PORT=29501",
    "report_to: wandb",
    "url: https://github.com/hiyouga/LLaMA-Factory.git",
    "git@github.com:novasky-ai/skythought.git",
    "password: null",
    "password = getpass.getpass()",
]


@pytest.mark.parametrize(("line", "secret", "kind"), SECRETS)
def test_masked_and_named(line, secret, kind):
    assert secret not in redact.text(line)
    assert redact.MASK in redact.text(line)
    assert redact.secrets_in_line(line) == [kind]


@pytest.mark.parametrize("line", HARMLESS)
def test_no_finding(line):
    assert redact.secrets_in_line(line) == []


@pytest.mark.parametrize("line", [line for line in HARMLESS if "AutoTokenizer" not in line and "/run/" not in line])
def test_text_without_secrets_stays_as_it_is(line):
    assert redact.text(line) == line


def test_masking_twice_changes_nothing_more():
    for line, _, _ in SECRETS:
        once = redact.text(line)
        assert redact.text(once) == once


def test_a_mask_keeps_what_tells_the_kind():
    assert redact.text(f"token {HF}") == "token hf_***"
    assert redact.text("http://me:pw@host/x") == "http://***@host/x"


def test_documents_are_masked_all_through():
    document = {"a": [f"x {HF}", {HF: 1}], "n": 3, "none": None, "t": (HF,)}
    assert redact.document(document) == {"a": ["x hf_***", {"hf_***": 1}], "n": 3, "none": None, "t": ["hf_***"]}


def test_a_key_names_the_value_beside_it():
    shown = redact.document({"wandb_api_key": HEX, "password": "hunter2", "eos_token": "<|im_end|>", "commit": HEX})
    assert shown == {"wandb_api_key": "***", "password": "***", "eos_token": "<|im_end|>", "commit": HEX}
    nested = redact.document({"hub_token": None, "x": {"secret": [HEX, {"a": 1}]}, "token": "default"})
    assert nested == {"hub_token": None, "x": {"secret": ["***", {"a": 1}]}, "token": "default"}


@pytest.mark.parametrize("line", ["a." * 60000, "-" * 120000, "token" * 24000, "a" * 120000, "password=" * 12000])
def test_a_hostile_line_costs_no_more_than_its_length(line):
    begun = time.perf_counter()
    redact.text(line)
    redact.secrets_in_line(line)
    assert time.perf_counter() - begun < 2.0
