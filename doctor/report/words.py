"""The doctor's own words in both languages; what is said of a cause comes from the knowledge base."""

from __future__ import annotations

import os
from collections.abc import Mapping

LANGUAGES = ("en", "zh")

_WORDS = {
    "target": ("target", "目标环境"),
    "recipe": ("recipe", "配方"),
    "error": ("error", "错误"),
    "warning": ("warning", "警告"),
    "info": ("note", "提示"),
    "healthy": ("Nothing stands between this recipe and a training run.", "未发现会妨碍这次训练的问题。"),
    "fix": ("fix", "修复"),
    "may_apply": ("perhaps", "也许适用"),
    "tell_which": (
        "Which of these apply is told where it trains: {command}",
        "其中哪些适用，请在训练所在的环境中查看：{command}",
    ),
    "manual": ("by hand", "手动"),
    "safe": ("safe", "安全"),
    "review": ("review", "需确认"),
    "needs-argument": ("needs an argument", "需要参数"),
    "does_not_help": ("does not help", "无效的做法"),
    "verified_on": ("verified on", "已在此验证"),
    "blocks": ("blocks training", "会中断训练"),
    "unknown": ("could not look", "无法检查"),
    "failed_probe": ("probe failed", "探测出错"),
    "next_fix": ("See the plan with: {command}", "查看修复计划：{command}"),
    "why": ("why", "原因"),
    "kind_of": ("filed under", "归入"),
    "reading_data": ("reading the data", "正在读取数据"),
    "reading_weights": ("hashing the weights", "正在校验权重"),
    "own_parser": ("the release's own parser", "该版本自己的参数解析器"),
    "parser_accepts": ("accepts the recipe ({seconds} s)", "接受此配方（{seconds} 秒）"),
    "parser_refuses": ("refuses the recipe ({seconds} s)", "拒绝此配方（{seconds} 秒）"),
    "sample_of": ("{sampled} of {read} records, in tokens", "{read} 条记录中的 {sampled} 条，单位为 token"),
    "lengths": (
        "median {median}, 99 % within {p99}, longest {longest}; cutoff_len {cutoff} cuts {cut}, "
        "{unlabelled} keep nothing to learn, {dropped} are dropped",
        "中位数 {median}，99% 不超过 {p99}，最长 {longest}；cutoff_len {cutoff} 截断 {cut} 条，{unlabelled} 条没有可学内容，"
        "{dropped} 条被丢弃",
    ),
    "rank": ("rank {rank}", "rank {rank}"),
    "confidence": ("confidence {value}", "置信度 {value}"),
    "no_failure": ("No failure is visible in this log.", "日志中看不到失败。"),
    "not_known": ("A failure was seen, its cause is not known.", "看到了失败，但原因未知。"),
    "search_for": ("words to search for", "可搜索的关键词"),
    "references": ("references", "参考"),
    "affected": ("affected versions", "受影响的版本"),
    "no_match": ("No cause mentions {text}.", "没有条目提到 {text}。"),
    "plan": ("plan", "计划"),
    "nothing_to_do": ("Nothing to do.", "无需处理。"),
    "dry_run": ("Nothing was changed. Apply it with: {command}", "尚未做任何改动。应用：{command}"),
    "only_by_hand": ("Nothing was changed: what is left is done by hand.", "未做任何改动：剩下的需手动处理。"),
    "say_first": ("Say first", "请先指定"),
    "other_fixes": ("or", "或"),
    "apply_ask": ("Apply this plan?", "应用此计划？"),
    "refused_consent": ("Nothing was changed: no consent was given.", "未做任何改动：未获同意。"),
    "not_planned": ("not planned", "未列入计划"),
    "left": ("still in the way", "仍未解决"),
    "undone": ("taken back", "已撤销"),
    "would_undo": ("would be taken back", "将被撤销"),
    "cut_off": (
        "The fix {id} of {created} in {place} was cut off before its end. What it left is taken back by the next "
        "fix --apply, fix --undo or train.",
        "{place} 中 {created} 的修复 {id} 中途被打断。下一次 fix --apply、fix --undo 或 train 会撤销它留下的改动。",
    ),
    "undo_anyway": (
        "Take the fix back all the same? What was changed since goes to the quarantine beside its journal.",
        "仍要撤销此修复吗？之后的改动会移到变更日志旁的隔离目录。",
    ),
    "undo_force": (
        "--force takes it back all the same and keeps what was changed since in the journal's quarantine.",
        "--force 仍会撤销，之后的改动保留在变更日志的隔离目录中。",
    ),
    "journal": ("journal", "变更日志"),
    "undo_with": ("Take it back with: {command}", "撤销：{command}"),
    "gate": (
        "Training is not started: {count} findings would stop it (start anyway with --force).",
        "未启动训练：有 {count} 个问题会使它失败（可用 --force 强行启动）。",
    ),
    "forced": (
        "Started with --force although {count} findings say that it will fail.",
        "已用 --force 启动，尽管有 {count} 个问题。",
    ),
    "launching": ("launching", "启动"),
    "run_directory": ("run directory", "运行目录"),
    "trained": ("Training ended well after {minutes} min.", "训练顺利结束，用时 {minutes} 分钟。"),
    "failed_with": ("Training failed with exit code {code}.", "训练失败，退出码 {code}。"),
    "mend_with": ("Mend it with: {command}", "修复：{command}"),
    "interrupted": ("Interrupted.", "已中断。"),
    "watching": ("watching {log} (Ctrl-C leaves the run alone)", "正在观察 {log}（Ctrl-C 不影响训练）"),
    "watch_ended_well": ("The run ended well.", "训练顺利结束。"),
    "rehearsing": (
        "Rehearsal of this recipe at toy scale (--no-rehearse leaves it out).",
        "先以玩具规模预演此配方（--no-rehearse 可跳过）。",
    ),
    "no_rehearsal_needed": (
        "No rehearsal: the model is as small as a rehearsal would make it.",
        "无需预演：模型本身已足够小。",
    ),
    "rehearsal_gate": (
        "Training is not started: the rehearsal failed (start anyway with --force).",
        "未启动训练：预演失败（可用 --force 强行启动）。",
    ),
    "rehearsal_forced": ("Started with --force although the rehearsal failed.", "预演失败，仍按 --force 启动。"),
    "phase_starting": ("starting", "启动中"),
    "phase_training": ("training", "训练中"),
    "phase_evaluating": ("evaluating", "评估中"),
    "phase_saving": ("saving a checkpoint", "保存检查点"),
    "phase_trained": ("trained, saving the model", "训练完成，保存模型"),
    "phase_done": ("done", "完成"),
    "time_gone": ("elapsed", "已用"),
    "time_left": ("left", "剩余"),
    "no_step_yet": ("no step logged yet", "尚未记录任何一步"),
    "step": ("step", "步"),
    "samples_per_second": ("samples/s", "样本/秒"),
    "tokens_per_second": ("tokens/s", "token/秒"),
    "host_memory": ("host memory", "主机内存"),
    "disk_free": ("disk free", "磁盘剩余"),
    "next_checkpoint": ("next checkpoint", "下个检查点"),
    "skipped": ("skipped", "跳过"),
    "stage_check": ("check", "检查"),
    "stage_model": ("model", "模型"),
    "stage_train": ("train", "训练"),
    "stage_evaluate": ("evaluate", "评估"),
    "stage_save": ("save", "保存"),
    "stage_resume": ("resume", "续训"),
    "stage_load": ("load", "加载"),
    "new_environment": (
        "{place} holds the stack {stack}; train with: skyt1-doctor train --env {place}",
        "{place} 已按组合 {stack} 建好；训练：skyt1-doctor train --env {place}",
    ),
    "nearest_stack": ("nearest proven package set", "最接近的已验证组合"),
    "proven": ("proven:", "已验证："),
    "as_in_stack": ("no core package differs", "核心包完全一致"),
    "not_rehearsed": ("Not rehearsed", "未预演"),
    "rehearsal_passed": ("The rehearsal passed in {seconds} s.", "预演通过，用时 {seconds} 秒。"),
    "rehearsal_failed": ("The rehearsal failed after {seconds} s.", "预演失败，用时 {seconds} 秒。"),
    "rehearsal_nothing": ("Nothing could be rehearsed.", "未能预演。"),
    "rehearsal_cached": (
        "Nothing has changed since that rehearsal; repeat it with --again.",
        "自那次预演以来没有任何变化；可用 --again 重新预演。",
    ),
}


def say(word: str, lang: str, **values: object) -> str:
    """One of the doctor's words in `lang`, its values filled in."""
    return _WORDS[word][LANGUAGES.index(lang)].format(**values)


def summary(lang: str, errors: int, warnings: int, notes: int) -> str:
    """How many findings of each severity: "1 error, 2 warnings, 0 notes"."""
    counted = {"error": errors, "warning": warnings, "info": notes}
    if lang == "zh":
        return "，".join(f"{count} 个{say(name, lang)}" for name, count in counted.items())
    return ", ".join(f"{count} {say(name, lang)}{'' if count == 1 else 's'}" for name, count in counted.items())


def language(asked: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The language of --lang, else of the locale: zh for Chinese ones, en for all others."""
    if asked:
        return asked
    locale = next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), "")
    return "zh" if locale.lower().startswith("zh") else "en"
