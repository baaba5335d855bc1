"""What a rehearsal could not show, and how it tells what it is doing, in both languages."""

from __future__ import annotations

from knowledge_base.schema import Text

_NOTES = {
    # what is not rehearsed
    "no_gpu": (
        "GPU kernels, NCCL and GPU memory: there is no GPU here, two CPU processes and gloo stood in for them.",
        "GPU 内核、NCCL 与显存：本机没有 GPU，改用 CPU 进程与 gloo 代替。",
    ),
    "weights": (
        "The weights: a random model of the same architecture ({parameters} parameters) stood in for {model}.",
        "权重：用同架构的随机小模型（{parameters} 个参数）代替 {model}。",
    ),
    "config_known": (
        "{model} is not on this machine: its architecture is known, its tokenizer is not; download it first.",
        "{model} 不在本机：架构已知，但没有分词器；请先下载。",
    ),
    "no_model": (
        "Nothing was run: {model} is not on this machine, and neither is its tokenizer.",
        "什么都没有运行：{model} 及其分词器不在本机。",
    ),
    "no_shrink": (
        "Nothing was run: the configuration of {model} cannot be made small ({reason}).",
        "什么都没有运行：无法缩小 {model} 的配置（{reason}）。",
    ),
    "no_twin": (
        "Nothing was run: no small model could be made from the configuration of {model} ({reason}).",
        "什么都没有运行：无法按 {model} 的配置生成小模型（{reason}）。",
    ),
    "quantized": (
        "The {method} quantisation of the checkpoint: the random model is not quantised.",
        "检查点的 {method} 量化：随机模型未量化。",
    ),
    "bf16": (
        "bf16: it is refused or very slow on this machine without a GPU, 32-bit numbers stood in.",
        "bf16：本机没有 GPU，bf16 被拒绝或极慢，改用 32 位。",
    ),
    "resume_alone": (
        "A resume with several processes: on the CPU and without DeepSpeed transformers cannot, one process did.",
        "多进程续训：在 CPU 上且不用 DeepSpeed 时 transformers 无法做到，只用一个进程续训。",
    ),
    "dropped": ("{key}: {value} (needs a GPU).", "{key}: {value}（需要 GPU）。"),
    "processes": (
        "{real} processes: {rehearsed} were started.",
        "{real} 个进程：只启动了 {rehearsed} 个。",
    ),
    "nodes": ("{nodes} nodes: one was used.", "{nodes} 个节点：只使用了一个。"),
    "capped": (
        "{key}: {real} was made {rehearsed}, to end within minutes.",
        "{key}：{real} 改为 {rehearsed}，以便在几分钟内结束。",
    ),
    "data_partly": (
        "Records of {name} behind the first {read}: reading them takes too long.",
        "{name} 中第 {read} 条之后的记录：读取时间过长。",
    ),
    "data_first": (
        "Records of {name} behind the first {count}: {format} files are rehearsed from their beginning.",
        "{name} 中前 {count} 条之后的记录：{format} 文件只用开头部分预演。",
    ),
    "adapter": (
        "adapter_name_or_path: an adapter of the real model does not fit the small one.",
        "adapter_name_or_path：真实模型的适配器与小模型不匹配。",
    ),
    "tracker": ("The reports to {name}.", "向 {name} 的上报。"),
    "push": ("The upload to the hub (push_to_hub).", "上传到 hub（push_to_hub）。"),
    "earlier_checkpoint": (
        "resume_from_checkpoint: a checkpoint of the real model does not fit the small one.",
        "resume_from_checkpoint：真实模型的检查点与小模型不匹配。",
    ),
    "second_model": (
        "{key}: the small model itself stood in.",
        "{key}：用小模型本身代替。",
    ),
    "stage": (
        "Nothing was run: stage {stage} needs a reward model that fits.",
        "什么都没有运行：{stage} 阶段需要匹配的奖励模型。",
    ),
    "program": ("Nothing was run: {reason}.", "什么都没有运行：{reason}。"),
    "not_training": (
        "Nothing was run: the recipe does not train (do_train).",
        "什么都没有运行：该配方不进行训练（do_train）。",
    ),
    "time": (
        "{stage}: the time for a rehearsal ({seconds:.0f} s) was over.",
        "{stage}：预演时间（{seconds:.0f} 秒）已用完。",
    ),
    # why a stage was skipped
    "no_evaluation": ("the recipe evaluates nothing", "该配方不做评估"),
    "no_saving": ("the recipe saves no checkpoints", "该配方不保存检查点"),
    "model_only": ("save_only_model keeps nothing to resume from", "save_only_model 不保留可续训的状态"),
    "no_resume": ("stage {stage} of LLaMA-Factory cannot resume", "LLaMA-Factory 的 {stage} 阶段不支持续训"),
    "failed_before": ("an earlier stage failed", "前面的阶段失败"),
    # progress
    "check_failed": (
        "check: {count} problems stop the real run; the rehearsal shows what else does",
        "检查：{count} 个问题会阻止真实训练；预演将显示其他问题",
    ),
    "making": ("making a small {architecture} ({layers} layers)", "生成小型 {architecture}（{layers} 层）"),
    "sampling": ("choosing records", "挑选数据记录"),
    "sampled": ("{count} of {read} records chosen from {name}", "从 {name} 的 {read} 条中选出 {count} 条"),
    "starting": (
        "{stage}: {processes} processes, {steps} optimizer steps",
        "{stage}：{processes} 个进程，{steps} 个优化步",
    ),
    "loading": ("loading the saved model", "加载保存的模型"),
    "resuming": ("resuming from {checkpoint}", "从 {checkpoint} 续训"),
    "step": ("step {step} of {total}: loss {loss}", "第 {step}/{total} 步：loss {loss}"),
    "evaluated": ("evaluated: loss {loss}", "评估完成：loss {loss}"),
    "building": (
        "DeepSpeed builds an operator, once on this machine (minutes)",
        "DeepSpeed 正在编译算子，本机仅需一次（数分钟）",
    ),
    "stage_passed": ("{stage} passed, {seconds:.0f} s", "{stage} 通过，{seconds:.0f} 秒"),
    "stage_failed": ("{stage} FAILED, {seconds:.0f} s", "{stage} 失败，{seconds:.0f} 秒"),
}  # fmt: skip


def note(word: str, **values: object) -> Text:
    """One of the texts above, its values filled in."""
    en, zh = _NOTES[word]
    return Text(en.format(**values), zh.format(**values))
