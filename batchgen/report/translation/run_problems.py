"""Why a run cannot be read, which errors contain in English, in Chinese."""

import re
from collections.abc import Mapping

PROBLEMS: Mapping[str, str] = {
    r"is the same run as (.+)": r"与 \1 是同一次运行",
    r"(.+) was changed or damaged after it was published: it is missing": r"\1 在发布后丢失",
    r"(.+) was changed or damaged after it was published: it has ([\d,]+) bytes, expected ([\d,]+)": (
        r"\1 在发布后被更改或损坏：大小为 \2 字节，应为 \3 字节"
    ),
    r"(.+) was changed or damaged after it was published: it has sha256 (\w+), expected (\w+)": (
        r"\1 在发布后被更改或损坏：sha256 为 \2，应为 \3"
    ),
    r"(.+) was changed or damaged after it was published: it is .+; expected a file": (
        r"\1 在发布后被更改：不是文件"
    ),
    r"(.+) is damaged: it is not JSON": r"\1 已损坏：不是 JSON",
    r"(.+) is damaged: its JSON is nested too deeply": r"\1 已损坏：JSON 嵌套过深",
    r"(.+) is damaged: its content does not match the hash in it": (
        r"\1 已损坏：内容与其中的哈希不符"
    ),
    r"(.+) is damaged: (.+)": r"\1 已损坏（\2）",
    r"(.+) is damaged": r"\1 已损坏",
    r"(.+) is .+; expected a file": r"\1 不是文件",
    r"(.+) is missing next to (?:published files|saved answers)": r"缺少 \1，而该运行的其他文件还在",
    r"(.+) is missing": r"缺少 \1",
    r"(.+) is not in the manifest of the run": r"\1 不在该运行的清单中",
    r"(.+) was replaced while it was read": r"\1 在读取过程中被替换",
    r"(.+) has no scores": r"\1 没有评分",
    r"(.+) is running": r"\1 正在运行",
    r"(.+) is not complete yet": r"\1 尚未完成",
    r"publishing of (.+) was interrupted": r"\1 的发布被中断",
    r"the answers for (.+) were withheld: .+": r"\1 的回答未发布：有门禁未通过，或失败的回答超过上限",
    r"(.+) contains the runs of a matrix; expected one run": r"\1 包含一个矩阵的多次运行，而不是一次运行",
    r"(.+) has no manifest\.json, and you may not read .+": r"\1 没有 manifest.json，且无权读取其私有文件夹",
    r"(.+) is not the output folder of a run: .+": r"\1 不是运行的输出文件夹",
    r"(.+) does not exist": r"\1 不存在",
    r"the run has no answers": "该运行没有回答",
    r"cannot read (.+): Permission denied": r"无权读取 \1",
    r"cannot read (.+?): (.+)": r"无法读取 \1（\2）",
    r"(.+) holds a run in format (\d+); this version resumes format (\d+)": (
        r"\1 是格式 \2 的运行；本版本使用格式 \3"
    ),
}
"""Chinese by a pattern of the whole English text; the first pattern that matches counts."""


def chinese_problem(english: str) -> str:
    """The message of an error in Chinese; itself if it is not known, such as that of the operating system."""
    for pattern, chinese in PROBLEMS.items():
        if found := re.fullmatch(pattern, english, re.DOTALL):
            return found.expand(chinese)
    return english


def problem_texts(english: str) -> tuple[str, str]:
    """The message of an error in English and Chinese."""
    return english, chinese_problem(english)
