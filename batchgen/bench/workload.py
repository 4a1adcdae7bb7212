"""The workload of `bench`: the first rows of a job, or a built-in job in English and Chinese.

a passage and a task on it     60 to 200 tokens; prompts on the same passage share a prefix
a request of one sentence      15 to 40 tokens
answers                        at most 16, 32, 64 or 128 tokens
"""

import json
from collections.abc import Iterator
from itertools import count, islice, product, zip_longest
from pathlib import Path

from batchgen.jobfile.load import LoadedJob, load_job
from batchgen.jobfile.overrides import literal_override

_PASSAGES_EN = (
    "The tram depot on the east side of town closed in 1987 and stood empty for almost twenty years. A group "
    "of neighbours then leased it for one crown a year, repaired the roof themselves and opened a workshop "
    "where anybody may mend a bicycle, a radio or a coat. Today it has four hundred members, a waiting list "
    "for the loom, and a quarrel with the council about the noise of the band saw.",
    "Dear team, the second delivery of oak boards arrived this morning, but eleven of the forty boards are "
    "warped and two have the wrong length. The carrier says that the damage was there before loading. We need "
    "replacements by Thursday, or the staircase in Mill Lane will be late again, and the customer has already "
    "waited for three weeks.",
    "Bread rises because yeast eats sugar and gives off carbon dioxide, which the gluten of the flour holds "
    "in small bubbles. In a warm kitchen the dough doubles in an hour; in a refrigerator it takes a night, and "
    "the slow dough tastes of more, since acids and alcohols have time to form.",
    "The heron stood at the weir every morning at six. On the day of the flood it came at six as well, looked "
    "at the brown water for a while, and then walked up the steps to the school, where it waited beside the "
    "door as if it had an appointment.",
)
_TASKS_EN = (
    "Write a headline for this text.",
    "Summarize this text in one sentence.",
    "List three questions that a careful reader would ask.",
    "Continue this text with one more paragraph.",
    "Which facts in this text could be checked, and how?",
)
_REQUESTS_EN = (
    "Suggest a name for a bookshop that is also a café.",
    "Explain to a child why the sky is blue.",
    "Write a polite reminder about an unpaid invoice.",
    "What is the difference between weather and climate?",
    "Give three tips for learning the names of a new class.",
    "Describe the taste of a lemon to somebody who has never eaten one.",
    "Write a short poem about a lost umbrella.",
    "How do I remove coffee stains from a wooden table?",
)
_PASSAGES_ZH = (
    "城东的老电车库在一九八七年关闭，空置了近二十年。后来几位邻居以每年一元的价格把它租下来，自己动手修好了屋顶，"
    "办起一间谁都可以来修自行车、收音机和大衣的工坊。如今它有四百名会员，织布机要排队，还为了锯子的噪声同区里争执不下。",
    "各位同事：第二批橡木板今天上午到货，四十块里有十一块变形，两块尺寸不对。承运方说装车前就已经损坏。"
    "请在星期四之前补货，否则磨坊巷的楼梯又要延期，而客户已经等了三个星期。",
    "面团发起来，是因为酵母吃掉糖分，放出二氧化碳，被面筋裹成细小的气泡。厨房暖和时一小时就能发到两倍大；"
    "放进冰箱要一整夜，但慢慢发的面更香，因为酸和醇有时间生成。",
)
_TASKS_ZH = (
    "请给这段文字拟一个标题。",
    "请用一句话概括这段文字。",
    "请列出细心的读者会提出的三个问题。",
    "请接着这段文字再写一段。",
)
_REQUESTS_ZH = (
    "请给一家兼卖咖啡的书店起个名字。",
    "请向孩子解释天空为什么是蓝色的。",
    "请写一封礼貌的催款信。",
    "天气和气候有什么区别？",
    "请写一首关于丢失的雨伞的短诗。",
    "怎样去掉木桌上的咖啡渍？",
)
_MOST_NEW = (64, 16, 128, 32)

_SYSTEM = "You help the editors of a local newspaper. Answer in the language of the request, without preamble."


def built_in_workload(
    folder: Path, *, model: str, rows: int, overrides: tuple[str, ...]
) -> LoadedJob:
    """Write the built-in workload into `folder` as a job with `rows` rows, and load it.

    Raises:
        JobFileError: one of `overrides` is invalid.
    """
    lines = [
        json.dumps({"request": text, "most": most}, ensure_ascii=False)
        for text, most in islice(_rows(), rows)
    ]
    (folder / "requests.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    job = {
        "version": 1,
        "name": "built-in",
        "input": {"path": "requests.jsonl"},
        # Not a system message, since base models, which have no chat template, are measured too.
        "prompt": {"user": _SYSTEM + "\n\n{{ request }}"},
        "model": {},
        "decoding": {"max_new_tokens": max(_MOST_NEW), "columns": {"max_new_tokens": "most"}},
        "output": {"path": "never-written"},
    }
    file = folder / "job.yaml"
    file.write_text(json.dumps(job, ensure_ascii=False), "utf-8")
    return load_job(file, overrides=(literal_override("model.path", model), *overrides))


def job_workload(
    file: Path, *, model: str | None, rows: int, overrides: tuple[str, ...], profile: str | None
) -> LoadedJob:
    """Load a job limited to its first rows, with another model if one is given.

    Raises:
        JobFileError: the job has errors.
    """
    if model is not None:
        overrides = (*overrides, literal_override("model.path", model))
    loaded = load_job(file, overrides=overrides, profile=profile)
    limit = loaded.job.input.limit
    if limit is not None and limit <= rows:
        return loaded
    return load_job(file, overrides=(*overrides, f"input.limit={rows}"), profile=profile)


def _rows() -> Iterator[tuple[str, int]]:
    """Different requests without end, each with its largest number of new tokens."""
    for edition in count(1):
        for number, text in enumerate(_requests()):
            most = _MOST_NEW[number % len(_MOST_NEW)]
            yield (text if edition == 1 else f"[{edition}] {text}"), most


def _requests() -> Iterator[str]:
    """Every passage with every task, and the single requests; kinds and languages alternate."""
    kinds = (
        [f"{passage}\n\n{task}" for task, passage in product(_TASKS_EN, _PASSAGES_EN)],
        _REQUESTS_EN,
        [f"{passage}\n\n{task}" for task, passage in product(_TASKS_ZH, _PASSAGES_ZH)],
        _REQUESTS_ZH,
    )
    for group in zip_longest(*kinds):
        yield from (text for text in group if text is not None)
