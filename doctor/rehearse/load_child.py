"""Runs in the target's interpreter: `python load_child.py OUTPUT BASE remote|plain` — loads what training has saved.

A model by its own class, an adapter onto BASE; then tensors that were not saved, or hold no numbers, are an error.
Imports nothing of the doctor.
"""

import json
import pathlib
import sys


def main() -> None:
    output, base, remote = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "remote"
    import torch
    import transformers

    adapter = (output / "adapter_config.json").exists()
    folder = base if adapter else str(output)
    settings = json.loads((pathlib.Path(folder) / "config.json").read_text(encoding="utf-8"))
    named = getattr(transformers, (settings.get("architectures") or [""])[0], None)
    own = named if named is not None and "auto_map" not in settings else transformers.AutoModelForCausalLM
    model, told = own.from_pretrained(folder, trust_remote_code=remote, output_loading_info=True)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(output))
    lacking = sorted(told.get("missing_keys") or [])
    if lacking and not adapter:
        raise RuntimeError(f"The saved model lacks {len(lacking)} tensors, {lacking[0]} among them")
    for name, tensor in model.named_parameters():
        if tensor.numel() == 0:
            raise RuntimeError(f"The saved tensor {name} is empty")
        if not torch.isfinite(tensor.float()).all():
            raise RuntimeError(f"The saved tensor {name} holds NaN or infinite numbers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(output), trust_remote_code=remote)
    inputs = tokenizer("1 + 1 =", return_tensors="pt")
    with torch.no_grad():
        model(input_ids=inputs["input_ids"])
    print(json.dumps({"loaded": type(model).__name__, "tokens": len(tokenizer)}))


if __name__ == "__main__":
    main()
