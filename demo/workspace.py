"""Writes a recipe workspace with the faults that the published Sky-T1 recipe has, and a small sharegpt data set.

The faults are upstream's (https://github.com/NovaSky-AI/SkyThought, skythought/train): a comma behind the last entry
of dataset_info.json, a placeholder for the data file, a template that only the fork knows, a hub model, wandb.
"""

from __future__ import annotations

import json
from pathlib import Path

RECIPE = """\
### model
model_name_or_path: Qwen/Qwen2.5-32B-Instruct

### method
stage: sft
do_train: true
finetuning_type: full
deepspeed: examples/deepspeed/ds_z3_offload_config.json  # ZeRO-3, optimizer and parameters in host memory

### dataset
dataset: Sky-T1
template: qwen25
cutoff_len: 16384
max_samples: 1000000
overwrite_cache: true
preprocessing_num_workers: 16

### output
output_dir: saves/Sky-T1-32B-Preview/full/original
logging_steps: 1
save_steps: 100
plot_loss: true

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 12
learning_rate: 1.0e-5
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000

report_to: wandb
run_name: Sky-T1
"""

DEEPSPEED = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_allow_untested_optimizer": True,
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto", "loss_scale": 0},
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "offload_param": {"device": "cpu", "pin_memory": True},
        "overlap_comm": True,
        "contiguous_gradients": True,
        "sub_group_size": 1e9,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_max_live_parameters": 1e9,
        "stage3_max_reuse_distance": 1e9,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
}

DATASET_INFO = {
    "identity": {"file_name": "identity.json"},
    "Sky-T1": {
        "file_name": "your data path here",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system"},
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant"},
    },
}


def write_workspace(folder: Path) -> None:
    """The recipe, the DeepSpeed JSON and dataset_info.json, faults included."""
    for path in ("examples/train_full", "examples/deepspeed", "data"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    (folder / "examples/train_full/qwen2_full_sft.yaml").write_text(RECIPE, encoding="utf-8")
    (folder / "examples/deepspeed/ds_z3_offload_config.json").write_text(json.dumps(DEEPSPEED, indent=2) + "\n")
    info = json.dumps(DATASET_INFO, indent=2)
    (folder / "data/dataset_info.json").write_text(info[: info.rindex("\n}")] + ",\n}\n", encoding="utf-8")


def write_data(file: Path, records: int = 96) -> None:
    """Records in the form of Sky-T1's data: a system prompt, a question, an answer with its thought."""
    rows = [
        {
            "system": "Think step by step, then answer.",
            "conversations": [
                {"from": "user", "value": f"What is {number} plus {number + 1}?"},
                {
                    "from": "assistant",
                    "value": f"<|begin_of_thought|>\n\n{number} + {number + 1} 相加。\n\n<|end_of_thought|>\n\n"
                    f"<|begin_of_solution|>\n\n{2 * number + 1}\n\n<|end_of_solution|>",
                },
            ],
        }
        for number in range(records)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
