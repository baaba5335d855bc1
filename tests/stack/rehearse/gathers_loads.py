"""One rank, under torchrun: `gathers_loads.py FOLDER COUNT` — FOLDER's model loaded under ZeRO-3 COUNT times, each
compared with the file. The first rank prints in how many loads a weight was wrong."""

import sys

import deepspeed
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.integrations import HfDeepSpeedConfig

folder, count = sys.argv[1], int(sys.argv[2])
deepspeed.init_distributed("gloo")
zero = {"stage": 3, "offload_param": {"device": "cpu"}, "stage3_param_persistence_threshold": 0}
batch = {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1, "train_batch_size": 2}
kept = HfDeepSpeedConfig({"zero_optimization": zero, "bf16": {"enabled": True}, **batch})
right = load_file(f"{folder}/model.safetensors")
wrong = 0
for _ in range(count):
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.bfloat16)
    differ = 0
    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter]):
            differ += not torch.equal(parameter.data, right[name])
    wrong += differ > 0
if torch.distributed.get_rank() == 0:
    print(f"\nWRONG {wrong}", flush=True)
