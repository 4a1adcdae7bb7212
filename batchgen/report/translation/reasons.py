"""Reasons why there is no value or interval, which files contain in English, in Chinese."""

import re
from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    r"nothing was scored": "没有任何评分",
    r"all values are equal, and the metric has no range": "所有数值相同，且该指标没有取值范围",
    r"all differences are equal, and the metric has no range": "所有差值相同，且该指标没有取值范围",
    r"the values are too large for a mean and its error": "数值过大，无法计算均值及误差",
    r"one cluster gives no spread": "只有一组，无法估计离散程度",
    r"one row gives no spread": "只有一行，无法估计离散程度",
    r"one window gives no spread": "只有一个窗口，无法估计离散程度",
    r"the bootstrap is off": "未启用自助法",
    r"too few rows to resample": "行数太少，无法重抽样",
    r"too few rows for a value": "行数太少，没有数值",
    r"([\d,]+) rows are too few for an interval": r"\1 行太少，没有置信区间",
    r"answers drawn again would be duplicates": "重抽样会产生重复的回答",
    r"answers too few or too short for a window of ([\d,]+) tokens": r"回答太少或太短，不足 \1 个token 的窗口",
    r"all values are equal": "所有数值相同",
    r"no unit has two values": "没有被两人评过的回答",
    r"no unit has a value of both": "没有同时具有两种评分的回答",
    r"no rows in common that have a score": "没有共同的有分数的行",
    r"([\d,]+) of ([\d,]+) rows have a score in one run only, and (.+) has no worst value": (
        r"\2 行中有 \1 行只在一次运行中有分数，而 \3 没有最差值"
    ),
    r"(.+) has no better direction": r"\1 不分优劣",
    r"the definitions differ: score both again with the same options and references": (
        "定义不同：请用相同的选项和参考答案重新评分"
    ),
    r"no common row has a score in both": "没有在两次运行中都有分数的共同行",
    r"a value of the whole set: its rows have no scores to pair": "整体的数值：各行没有可配对的分数",
}
"""Chinese by a pattern of the whole English text."""


def chinese_reason(english: str) -> str:
    """A reason in Chinese; itself if it is not known, such as that of a metric of the user."""
    for pattern, chinese in REASONS.items():
        if found := re.fullmatch(pattern, english):
            return found.expand(chinese) if "\\" in chinese else chinese
    return english


def reason_texts(english: str) -> tuple[str, str]:
    """A reason in English and Chinese."""
    return english, chinese_reason(english)
