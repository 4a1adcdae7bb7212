"""The texts of the page in English and Chinese. Both are in the page; the reader chooses one."""

from collections.abc import Mapping

from batchgen.report.history_text import HISTORY_TEXTS

LANGUAGES = ("en", "zh")
Pair = tuple[str, str]
"""A text in each of `LANGUAGES`."""

ENDINGS: Mapping[str, tuple[str, str]] = {
    "end_stop": ("stop", "正常结束"),
    "end_length": ("cut at the limit", "达到长度上限"),
    "end_stop_string": ("stop string", "遇到停止字符串"),
    "end_error": ("error", "出错"),
    "end_skipped": ("skipped", "跳过"),
}
"""Why an answer ended, by `end_` and its finish reason."""

TEXTS: Mapping[str, tuple[str, str]] = {
    **HISTORY_TEXTS,
    **ENDINGS,
    "report": ("Report", "报告"),
    "passed": ("Passed: every gate passed", "通过：全部门禁均已通过"),
    "failed": (
        "Not good enough: {failed} of {all} gates did not pass",
        "未通过：{all} 项门禁中有 {failed} 项未通过",
    ),
    "no_gates": (
        "No gate is set: nothing decides whether these answers are good enough",
        "未设门禁：没有判断这些回答是否合格的条件",
    ),
    "too_many_failed": (
        "Not good enough: {failed} answers failed, {allowed} allowed",
        "未通过：{failed} 条回答失败，最多允许 {allowed} 条",
    ),
    "gate": ("Gate", "门禁"),
    "result": ("Result", "结果"),
    "found": ("Found", "实测"),
    "verdict_passed": ("passed", "通过"),
    "verdict_failed": ("failed", "未通过"),
    "verdict_undecided": ("undecided", "无法判定"),
    "answers": ("answers", "回答"),
    "ok": ("complete", "完整"),
    "failed_rows": ("failed", "失败"),
    "skipped": ("skipped", "跳过"),
    "cut": ("cut at the token limit", "达到长度上限"),
    "comparison": ("Compared with the baseline", "与基准比较"),
    "comparison_note": (
        "Baseline: {base}. {common} answers to the same prompts are compared one by one. p is adjusted for the number of "
        "primary metrics (Holm); an interval that contains 0 does not decide.",
        "基准：{base}。对提示词相同的 {common} 条回答逐条比较。p 值按主要指标的个数校正（Holm）；区间包含 0 时不能下结论。",
    ),
    "several": ("Several runs compared", "多次运行的比较"),
    "several_note": (
        "Each run is compared with {base}, answer by answer. p is adjusted for all primary metrics of all runs (Holm): "
        "among many runs, one is better by chance.",
        "每次运行都与 {base} 逐条比较。p 值按所有运行的全部主要指标校正（Holm）：运行越多，其中一次碰巧更好的可能性越大。",
    ),
    "forest": ("Differences with their intervals", "差值与区间"),
    "chart_fractions": (
        "Metrics between 0 and 1 with their intervals",
        "取值在 0 到 1 之间的指标及其置信区间",
    ),
    "chart_metric": ("{metric} with its interval", "{metric} 及其置信区间"),
    "chart_distribution": ("Distribution: {name}", "分布：{name}"),
    "chart_differences": ("Differences of {metric} with their intervals", "{metric} 的差值与区间"),
    "in_common": ("{n} answers in common.", "共有的回答 {n} 条。"),
    "only_base": ("{n} only in the baseline.", "仅基准运行有 {n} 条。"),
    "only_new": ("{n} only in this run.", "仅本次运行有 {n} 条。"),
    "changed_prompts": (
        "{n} are excluded because their prompts differ.",
        "{n} 条因提示词不同而排除。",
    ),
    "paired_prompts": (
        "{n} have another prompt and are paired by id.",
        "{n} 条的提示词不同，按 id 配对。",
    ),
    "prompts_unknown": (
        "One of the runs has no prompt hashes: changed prompts are not detected.",
        "其中一次运行没有提示词的哈希，无法发现提示词的变化。",
    ),
    "base": ("Baseline", "基准"),
    "new": ("This run", "本次运行"),
    "difference": ("Difference", "差值"),
    "win_loss": ("Better / same / worse", "更好 / 相同 / 更差"),
    "verdict_better": ("better", "更好"),
    "verdict_worse": ("worse", "更差"),
    "verdict_higher": ("higher", "更高"),
    "verdict_lower": ("lower", "更低"),
    "verdict_equivalent": ("equivalent", "等效"),
    "verdict_inconclusive": ("inconclusive", "尚无定论"),
    "verdict_not_comparable": ("not comparable", "不可比较"),
    "changed_settings": ("Settings that differ", "不同的设置"),
    "same_settings": ("The settings of both runs are equal.", "两次运行的设置相同。"),
    "slice_differences": (
        "Differences by slice: exploratory, p is not adjusted for their number",
        "各分组的差值：仅供探索，p 值未按分组个数校正",
    ),
    "metrics": ("Metrics", "指标"),
    "metrics_note": (
        "The value over all answers, with the interval in which the true value of such answers is expected "
        "({level}). Coverage is the share of answers that have a score.",
        "全部回答的指标值及其置信区间（{level}）。覆盖率是有分数的回答所占的比例。",
    ),
    "metric": ("Metric", "指标"),
    "value": ("Value", "指标值"),
    "interval": ("Interval", "置信区间"),
    "n": ("n", "数量"),
    "coverage": ("Coverage", "覆盖率"),
    "higher": ("higher is better", "越高越好"),
    "lower": ("lower is better", "越低越好"),
    "neither": ("no better direction", "不分优劣"),
    "primary": ("primary", "主要指标"),
    "no_value": ("no value: {why}", "无指标值：{why}"),
    "slices": ("Slices", "分组"),
    "slices_note": (
        "Green is better than over all answers, red is worse; the darker, the more. Bold: the interval excludes "
        "the value over all. Many slices are shown: some differ by chance.",
        "绿色表示优于总体，红色表示差于总体，颜色越深差别越大。粗体表示置信区间不包含总体的数值。分组很多时，有些差别只是偶然。",
    ),
    "slice": ("Slice", "分组"),
    "all": ("all answers", "全部回答"),
    "more_slices": (
        "The {shown} largest of {all} slices are shown; all are in metrics.parquet.",
        "仅显示 {all} 个分组中最大的 {shown} 个；全部见 metrics.parquet。",
    ),
    "distributions": ("Distributions", "分布"),
    "characters": ("Characters of an answer", "回答的字符数"),
    "tokens": ("New tokens of an answer", "回答的 token 数"),
    "finish": ("Why answers ended", "结束原因"),
    "above": ("{n} larger values are not shown", "另有 {n} 个更大的值未显示"),
    "median": ("median {median}", "中位数 {median}"),
    "health": ("Health", "健康检查"),
    "health_note": (
        "Signs that answers are broken, whatever they are about.",
        "回答有缺陷的迹象，与内容无关。",
    ),
    "check": ("Check", "检查项"),
    "share": ("Share", "比例"),
    "empty": ("empty answer", "空回答"),
    "repeated": ("same text as an earlier answer", "与前面某条回答完全相同"),
    "error_code": ("failed: {code}", "失败：{code}"),
    "truncated": ("cut at the token limit", "达到长度上限被截断"),
    "repetition": ("repeats itself", "内容重复"),
    "refusal": ("declines to answer", "拒答"),
    "language": ("not in the expected language", "语言不符合要求"),
    "pii": ("contains personal data", "含个人信息"),
    "not_measured": ("not measured", "未测量"),
    "add_metric": (
        "To measure: batchgen score RUN --metric {metric}",
        "测量命令：batchgen score RUN --metric {metric}",
    ),
    "judges": ("Judges", "裁判模型"),
    "judges_note": (
        "A judge is a model, and can be wrong. A low label mass means that the model would rather have written "
        "something other than a verdict; a position flip, that the order of two answers decided.",
        "裁判是模型，可能出错。标签概率之和低，说明模型更想写别的内容，而不是结论；位置翻转，说明结论取决于两条回答的先后顺序。",
    ),
    "judge_own": (
        "judges with the model of the run: it tends to favor its own answers",
        "裁判就是生成回答的模型：容易偏袒自己的回答",
    ),
    "judge_model": ("model: {model}", "模型：{model}"),
    "diagnostic": ("Diagnostic", "诊断指标"),
    "rows": ("Answers", "回答"),
    "rows_note": (
        "{shown} of {all} answers are in this file: {parts}. Texts are cut at {characters} characters. "
        "All are in responses.parquet.",
        "本文件包含 {all} 条回答中的 {shown} 条：{parts}。文本最多显示 {characters} 个字符。全部见 responses.parquet。",
    ),
    "rows_note_all": (
        "All {all} answers are in this file. Texts are cut at {characters} characters.",
        "本文件包含全部 {all} 条回答。文本最多显示 {characters} 个字符。",
    ),
    "why_worst": ("the worst {n}", "最差的 {n} 条"),
    "why_flip": ("{n} that changed", "有变化的 {n} 条"),
    "why_failed": ("{n} failed", "失败的 {n} 条"),
    "why_random": ("{n} at random", "随机抽取的 {n} 条"),
    "no_script": (
        "The answers are shown by a script, which is switched off.",
        "显示回答需要脚本，而脚本已被禁用。",
    ),
    "provenance": ("Provenance", "溯源信息"),
    "provenance_note": (
        "What decided these answers and scores. Two runs with one fingerprint have the same answers.",
        "决定这些回答与分数的全部因素。指纹相同的两次运行，回答相同。",
    ),
    "group_run": ("run", "运行"),
    "group_model": ("model", "模型"),
    "group_settings": ("settings", "设置"),
    "group_engine": ("engine", "引擎"),
    "group_versions": ("versions", "版本"),
    "group_input": ("input", "输入"),
    "group_files": ("files", "文件"),
    "group_evaluate": ("evaluate", "评测"),
    "group_metrics": ("metrics", "指标"),
    "theme": ("Light / dark", "浅色 / 深色"),
    "made_by": (
        "Made by batchgen {version}. This file loads nothing from any network.",
        "由 batchgen {version} 生成。本文件不从网络加载任何内容。",
    ),
    "in_brief": ("Run", "运行"),
    "model": ("Model", "模型"),
    "time": ("Finished", "完成时间"),
    "scored_file": ("scored file", "被评分的文件"),
}

SCRIPT_TEXTS: Mapping[str, tuple[str, str]] = {
    **ENDINGS,
    "search": ("Search in prompts, answers, ids", "搜索提示词、回答、id"),
    "slice": ("Slice", "分组"),
    "status": ("Ending", "结束原因"),
    "why": ("Shown because", "显示原因"),
    "order": ("Order by", "排序"),
    "scored": ("Score", "分数"),
    "all": ("all", "全部"),
    "as_chosen": ("as chosen", "默认顺序"),
    "worst": ("worst first", "从差到好"),
    "best": ("best first", "从好到差"),
    "score_worst": ("the worst value", "最差值"),
    "score_best": ("the best value", "最好值"),
    "score_none": ("no score", "无分数"),
    "count": ("{n} of {all} answers", "{all} 条中的 {n} 条"),
    "more": ("Show {n} more", "再显示 {n} 条"),
    "prompt": ("Prompt", "提示词"),
    "answer": ("Answer", "回答"),
    "answer_base": ("Answer of the baseline", "基准运行的回答"),
    "answer_new": ("Answer of this run", "本次运行的回答"),
    "earlier": ("{n} earlier turns are not shown", "之前的 {n} 轮未显示"),
    "reasoning": ("Reasoning", "思考过程"),
    "reference": ("Reference", "参考答案"),
    "scores": ("Scores", "分数"),
    "no_answer": ("(no answer)", "（无回答）"),
    "characters_more": ("… {n} more characters", "…… 另有 {n} 个字符"),
    "sample": ("sample {n}", "第 {n} 个样本"),
    "extracted": ("extracted: {answer}", "提取的答案：{answer}"),
    "flip": ("changed", "有变化"),
    "why_worst": ("worst", "最差"),
    "failed": ("failed", "失败"),
    "random": ("random", "随机"),
    "nothing": ("No answer matches.", "没有符合条件的回答。"),
    "system": ("system", "系统"),
    "user": ("user", "用户"),
    "assistant": ("assistant", "助手"),
}


def chart_label(key: str, **values: str | Pair) -> Pair:
    """The description of a chart: a text of the page with its values, of which a pair is a value in each language."""
    english, chinese = (
        text.format_map({k: v if isinstance(v, str) else v[n] for k, v in values.items()})
        for n, text in enumerate(TEXTS[key])
    )
    return english, chinese
