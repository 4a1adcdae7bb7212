"""The texts of the page of `batchgen history` in English and Chinese."""

from collections.abc import Mapping

HISTORY_TEXTS: Mapping[str, tuple[str, str]] = {
    "history_runs": ("{n} runs", "{n} 次运行"),
    "history_earlier": ("{n} earlier ones are not shown", "另有 {n} 次更早的未显示"),
    "history_note": (
        "Each point is a run, the oldest on the left, with the interval of its value. Where the definition of a metric "
        "changed, its line is broken: values before and after it are not comparable.",
        "每个点是一次运行，最早的在左侧，并标出置信区间。指标定义改变时曲线断开：前后的数值不可比较。",
    ),
    "history_signs": ("Changed since the run before:", "与前一次运行相比的变化："),
    "changed_model": ("model", "模型"),
    "changed_data": ("data", "数据"),
    "changed_prompt": ("prompt", "提示词"),
    "changed_decoding": ("decoding", "解码设置"),
    "changed_metric": ("metric", "指标"),
    "changed_version": ("versions", "软件版本"),
    "changed_other": ("other settings", "其他设置"),
    "history_changes": ("Runs and what changed", "各次运行及其变化"),
    "history_started": ("Started (UTC)", "开始时间（UTC）"),
    "history_settings": ("{n} settings", "{n} 项设置"),
    "history_flips": ("Answers that changed", "有变化的回答"),
    "history_flips_note": (
        "Answers to the same prompts in two runs in succession: how many became better (above the line) and worse (below). "
        "p is that of `batchgen compare`, adjusted within each pair of runs (Holm).",
        "相邻两次运行中提示词相同的回答：变好的条数（横线上方）与变差的条数（横线下方）。p 值的算法与 batchgen compare 相同，在每对运行内校正（Holm）。",
    ),
    "chart_trend": (
        "{metric} over {runs} runs with intervals",
        "{runs} 次运行中 {metric} 的变化与置信区间",
    ),
    "chart_flips": ("Answers that changed in {metric}", "{metric} 有变化的回答"),
    "history_no_flips": (
        "No two runs in succession have scores of answers to the same prompts.",
        "没有两次相邻的运行含有提示词相同且有分数的回答。",
    ),
    "history_common": ("Answers in both", "共有的回答"),
    "history_values": ("Values", "指标值"),
    "history_change": ("Change", "变化"),
    "history_break": (
        "another definition: not comparable with the runs before",
        "定义不同：与之前的运行不可比较",
    ),
    "history_left_out": ("Runs that are left out", "未列入的运行"),
    "drift": ("Drift of the answers", "回答的漂移"),
    "drift_note": (
        "Whether the answers of a run are distributed as those of the run before. Each prompt counts once, whatever the "
        "number of its answers. p is adjusted for the tests of a run (Holm); marked: below 0.01. The distance is from 0 "
        "(equal) to 1 (nothing in common): with many prompts, the smallest difference has a small p.",
        "一次运行的回答分布是否与前一次相同。每个提示词只计一次，与回答条数无关。p 值按同一次运行的检验个数校正（Holm），小于 0.01 的已标出。"
        "距离从 0（相同）到 1（毫无重叠）：提示词很多时，极小的差别也会有很小的 p 值。",
    ),
    "drift_none": (
        "The newest run has none before it.",
        "最新的运行之前没有其他运行。",
    ),
    "drift_every_run": (
        "All runs, each against the one before: p, and the distance in grey.",
        "所有运行分别与前一次比较：前面是 p 值，灰色的是距离。",
    ),
    "drift_from": ("from {base}", "与 {base} 相比"),
    "drift_trait": ("Answers", "回答"),
    "drift_distance": ("Distance", "距离"),
    "drift_change": ("Before → now", "之前 → 现在"),
    "drift_test": ("Test", "检验"),
    "drift_median": ("median {before} → {now} characters", "中位数 {before} → {now} 个字符"),
    "test_none": ("none needed: equal", "无需检验：相同"),
    "test_fisher": ("Fisher's exact", "Fisher 精确检验"),
    "test_chi_square": ("chi-square", "卡方检验"),
    "test_permutation": ("permutation", "置换检验"),
    "test_smirnov": ("Kolmogorov-Smirnov", "Kolmogorov-Smirnov 检验"),
    "test_smirnov_exact": ("Kolmogorov-Smirnov, exact", "Kolmogorov-Smirnov 精确检验"),
    "drift_no_new_answers": (
        "the new run has no answer to measure",
        "本次运行没有可测量的回答",
    ),
    "drift_no_base_answers": (
        "the base run has no answer to measure",
        "基准运行没有可测量的回答",
    ),
    "drift_no_answers": ("neither run has an answer to measure", "两次运行都没有可测量的回答"),
    "drift_length": ("length", "长度"),
    "drift_finish_reason": ("finish reason", "结束原因"),
    "drift_refusal": ("refusal", "拒答"),
    "drift_language": ("language (script)", "语言（按文字）"),
    "drift_duplicates": ("duplicates", "重复"),
    "script_Latin": ("Latin", "拉丁字母"),
    "script_Han": ("Han", "汉字"),
    "script_Japanese": ("Japanese", "日文"),
    "script_Hangul": ("Hangul", "韩文"),
    "script_Cyrillic": ("Cyrillic", "西里尔字母"),
    "script_Arabic": ("Arabic", "阿拉伯字母"),
    "script_Hebrew": ("Hebrew", "希伯来字母"),
    "script_Greek": ("Greek", "希腊字母"),
    "script_no letters": ("no letters", "无文字"),
}
