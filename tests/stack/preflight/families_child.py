"""Runs in a training environment: `families_child.py FOLDER` — a small random model of every family that its transformers
can train as a language model, saved as `save_pretrained` does. Those that cannot be made small are left out."""

import signal
import sys

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

SECONDS = 25  # for one family
LARGEST = 30e6  # parameters
SMALL = {
    64: "hidden_size d_model n_embd word_embed_proj_dim embedding_size attention_hidden_size max_position_embeddings "
    "n_positions",
    96: "intermediate_size ffn_dim n_inner d_ff ffn_hidden_size",
    2: "num_hidden_layers n_layer num_layers n_layers decoder_layers encoder_layers num_key_value_heads num_experts_per_tok "
    "expand",
    4: "num_attention_heads n_head n_heads num_heads num_experts num_local_experts n_routed_experts n_groups",
    32: "moe_intermediate_size shared_expert_intermediate_size",
    16: "head_dim q_lora_rank kv_lora_rank",
    8: "qk_rope_head_dim qk_nope_head_dim v_head_dim state_size mamba_d_state rotary_dim",
    1: "n_group topk_group first_k_dense_replace",
    300: "vocab_size",
    0: "pad_token_id",
}
SIZES = {name: size for size, names in SMALL.items() for name in names.split()}


def too_long(number, frame):
    raise TimeoutError


def make(kind, folder):
    usual = CONFIG_MAPPING[kind]()
    given = {name: size for name, size in SIZES.items() if hasattr(usual, name)}
    if getattr(usual, "layer_types", None):
        given["layer_types"] = list(usual.layer_types[:2])
    model = transformers.AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**given))
    if sum(parameter.numel() for parameter in model.parameters()) <= LARGEST:
        model.save_pretrained(f"{folder}/{kind}")


signal.signal(signal.SIGALRM, too_long)
for family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
    signal.alarm(SECONDS)
    try:
        make(family, sys.argv[1])
    except Exception as error:  # noqa: BLE001 - a family may refuse small sizes in any way
        print(f"{family}: {type(error).__name__}: {error}"[:120])
    finally:
        signal.alarm(0)
