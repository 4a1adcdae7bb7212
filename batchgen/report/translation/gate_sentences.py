"""Gates in the language of the page: their facts in the manifest, worded in English and Chinese."""

from collections.abc import Mapping
from typing import Any

from batchgen.evaluation.gating.gate_facts import ENGLISH, FactLanguage, read_facts
from batchgen.report.page_text import TEXTS
from batchgen.report.translation.reasons import chinese_reason

GATE_SENTENCES: Mapping[str, str] = {
    "at_least": "{what} >= {min:g}",
    "at_most": "{what} <= {max:g}",
    "between": "{what} >= {min:g} 且 <= {max:g}",
    "max_drop": "{where}：比{baseline}最多差 {max_drop:g}",
    "only_coverage": "{where}：覆盖率 >= {min_coverage:g}",
    "min_coverage": "覆盖率 >= {min_coverage:g}",
    "min_agreement": "与人工评分的一致性 >= {min_agreement:g}",
    "drift": "{kind}与{baseline}相比的漂移：p >= {max_p:g}",
    "drift_or_distance": "{kind}与{baseline}相比的漂移：p >= {max_p:g} 或距离 < {min_distance:g}",
    "text": "{text}",
    "no_metric": "没有这个指标",
    "no_slice": "分数中没有分组 {slice!r}",
    "no_rows": "没有可评分的行",
    "coverage": "覆盖率 {coverage:.4g}",
    "coverage_low": "覆盖率 {coverage:.4g}，低于 {least:g}：若较少的分数已足够，请设置该门禁的 min_coverage",
    "no_value": "没有{on}：{why}",
    "measured": "{on} {value:.4g}，数量 {n:,}",
    "only_value_passes": "指标值 {value:.4g} 达标，但{on} {bound:.4g} 未达标：{n:,} 行太少，无法判定",
    "no_interval": "{why}",
    "no_interval_of_rows": "{n:,} 行太少，没有置信区间",
    "not_comparable": "{why}",
    "changed": "变化 {gain:+.4g}，置信区间 {low:+.4g} 至 {high:+.4g}，数量 {n:,}",
    "too_few_rows": "行数太少，无法判定",
    "enough_rows": "约 {rows:,} 行即可判定",
    "enough_pairs": "{pairs:,} 对这样的行即可排除",
    "never_enough_pairs": "这样的行再多也无法排除",
    "no_previous": "没有可比较的上一次输出",
    "drift_length": "中位数 {before:,.4g} -> {now:,.4g} 个字符，距离 {distance:.3g}，p {p:.2g}，数量 {base:,} 与 {new:,}",
    "drift_shares": "{changes}，距离 {distance:.3g}，p {p:.2g}，数量 {base:,} 与 {new:,}",
    "too_few_prompts": "提示词太少，p 不可能低于 {limit:g}；每次运行至少需要 {prompts:,} 个",
    "no_new_answers": "本次运行没有可测量的回答",
    "no_base_answers": "基准运行没有可测量的回答",
    "no_answers": "两次运行都没有可测量的回答",
    "agreement_unknown": "{metric} 与人工评分的一致性未知：{why}",
    "agreement_no_scores": "{metric} 与人工评分的一致性未知：{path} 没有分数",
    "agreement_no_metric": "{metric} 与人工评分的一致性未知：{path} 没有 {missing} 的分数",
    "agreement_no_range": "{metric} 与人工评分的一致性未知：{missing} 没有取值范围",
    "agreement_few": "{metric} 与人工评分的一致性未知：同时有两种分数的回答为 {answers:,} 条",
    "agreement_low": "{metric} 不计入：与人工评分的一致性为 {alpha:.2f}（{answers:,} 条回答）",
    "agreement_other": "{path} 所显示的一致性属于另一个设置的 {metric}",
}
"""Templates by the code of a fact, with the values of the English ones."""

_NAMES: Mapping[str, str] = {
    "value": "指标值",
    "ci_low": "置信区间下限",
    "ci_high": "置信区间上限",
    "previous": "上一次运行",
    "length": "长度",
    "finish_reason": "结束原因",
    "refusal": "拒答",
    "language": "语言（按文字）",
    "duplicates": "重复",
    "": "重复",
}
_STARTS = ("end_", "script_")
"""How the keys of the page's texts for finish reasons and scripts start."""


def _name(text: str) -> str:
    keys = (start + text for start in _STARTS)
    found = next((TEXTS[key][1] for key in keys if key in TEXTS), None)
    return found or _NAMES.get(text) or chinese_reason(text)


CHINESE = FactLanguage(GATE_SENTENCES, _name, ("，", "：", "；"))


def gate_texts(gate: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The condition of a gate in a manifest and what it found, each in English and Chinese; manifests of older versions have no Chinese."""
    if "facts" not in gate:
        return {key: (gate[key], gate[key]) for key in ("gate", "found")}
    condition, facts = read_facts(gate["condition"]), read_facts(gate["facts"])
    return {
        "gate": (ENGLISH.condition(condition), CHINESE.condition(condition)),
        "found": (ENGLISH.finding(facts), CHINESE.finding(facts)),
    }
