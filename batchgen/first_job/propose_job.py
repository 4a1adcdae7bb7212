"""Decide from the profile of a table what its first job is: the roles of the columns, and how answers are scored."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

import yaml

from batchgen.errors import UsageError
from batchgen.first_job.table_profile import ColumnProfile, TableProfile

JobKind = Literal["content", "evaluation", "labels", "conversation"]
MOST_LABELS = 20
MOST_OF_SHORT = 40
"""Characters of short references, on average."""
_METRICS = {
    "solution": ("number",),
    "short": ("normalized_match", "token_f1"),
    "long": ("token_f1", "rouge"),
}
"""Of free texts, by `Proposal.answers`."""
_IDS = ("id", "key", "uuid", "qid", "编号", "序号", "题号", "标识")
_PROMPTS = (
    *("prompt", "question", "instruction", "query", "text", "body", "note", "idea", "content"),
    *(
        "message",
        "input",
        "q",
        "问题",
        "题目",
        "提示",
        "提示词",
        "指令",
        "正文",
        "内容",
        "文本",
        "输入",
    ),
)
_ADDITIONS = ("input", "context", "choices", "options", "passage", "选项", "上下文", "材料", "背景")
"""Columns that belong to a prompt whose main text is in another column."""
_REFERENCES = (
    *("answer", "reference", "std_answer", "ground_truth", "target", "label", "gold", "expected"),
    *("solution", "output"),
    *("class", "答案", "参考答案", "标准答案", "标签", "标注", "类别", "分类", "输出"),
)
_TURNS = ("turns", "questions", "messages", "conversation", "dialog", "轮次", "对话", "多轮问题")
"""Columns whose lists of texts are the user's messages of a conversation."""
_SLICES = (
    "lang",
    "language",
    "category",
    "subject",
    "kind",
    "type",
    "class",
    "语言",
    "科目",
    "类型",
    "类别",
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """The roles of the columns.

    Attributes:
        id, reference, conversation, turns: names of columns; empty without one. `turns` has the user's messages only.
        is_answered: whether conversations end with an answer, so that each turn is asked after the recorded ones.
        prompts: the columns of the user message, the main one first; empty for a conversation.
        labels: of which an answer is one; empty if answers are free.
        metrics: the entries of `evaluate.metrics`, as YAML.
        slices: columns by whose values scores are split.
        has_nulls: whether the main column of the prompt is null in some rows.
        answers: what the references are; solutions end with a number after `####`. Empty without references.
    """

    kind: JobKind
    id: str
    prompts: tuple[str, ...]
    conversation: str
    turns: str
    is_answered: bool
    reference: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    slices: tuple[str, ...]
    max_new_tokens: int
    has_nulls: bool
    answers: Literal["", "short", "long", "solution"]


def propose(profile: TableProfile, kind: JobKind | None = None) -> Proposal:
    """Choose the roles of the columns; `kind` is None for the kind that fits them.

    Raises:
        UsageError: the table has no column for such a job.
    """
    columns = {column.name: column for column in profile.columns}
    id_ = _id(profile.columns)
    free = [column for column in profile.columns if column.name != id_]
    conversation = next((c.name for c in free if c.is_conversation), "")
    lists = [c for c in free if c.is_turns]
    turns = "" if conversation else _named(lists, _TURNS) or ""
    if kind == "conversation" and not (conversation or turns):
        turns = next((c.name for c in lists), "")
    free = [column for column in free if not column.is_turns]
    reference = _named(free, _REFERENCES) or ""
    if kind == "labels" and not (reference and columns[reference].labels(MOST_LABELS)):
        reference = next((c.name for c in reversed(free) if c.labels(MOST_LABELS)), "")
    labels = columns[reference].labels(MOST_LABELS) if reference else []
    kind = kind or _kind(conversation or turns, reference, labels)
    prompts = () if kind == "conversation" else _prompts(free, {reference, conversation})
    _require(
        profile,
        kind,
        {"conversation": conversation or turns, "reference": reference, "labels": labels},
    )
    scored = kind in ("evaluation", "labels")
    column = columns[reference] if scored else None
    return Proposal(
        kind=kind,
        id=id_,
        prompts=prompts,
        conversation=conversation if kind == "conversation" else "",
        turns=turns if kind == "conversation" else "",
        is_answered=kind == "conversation"
        and conversation in columns
        and columns[conversation].is_answered,
        reference=reference if scored else "",
        labels=tuple(labels) if kind == "labels" else (),
        metrics=_metrics(column, labels) if column else (),
        slices=_slices(free, {reference, *prompts}) if scored else (),
        max_new_tokens=_answer_tokens(column, kind),
        has_nulls=any(len(columns[name].cells) < profile.rows for name in prompts[:1]),
        answers=_answers(column) if column else "",
    )


def _kind(conversation: str, reference: str, labels: Collection[str]) -> JobKind:
    if conversation:
        return "conversation"
    if not reference:
        return "content"
    return "labels" if labels and not _is_letters(labels) else "evaluation"


def _require(profile: TableProfile, kind: JobKind, found: dict[str, object]) -> None:
    """Raise UsageError if the table lacks what a kind of job needs."""
    expected = {
        "conversation": ("conversation", "a column of lists of {role, content}, or of texts"),
        "evaluation": ("reference", f"a column with the right answers, such as {_REFERENCES[0]}"),
        "labels": ("labels", f"a column that repeats 2 to {MOST_LABELS} short values"),
    }
    if kind not in expected or found[expected[kind][0]]:
        return
    names = ", ".join(column.name for column in profile.columns)
    raise UsageError(
        f"{profile.path}: no column for a job of kind {kind}: expected {expected[kind][1]}; found {names}",
        hint="Leave out --template, or rename the column in the table.",
    )


def _id(columns: Iterable[ColumnProfile]) -> str:
    keys = [column for column in columns if column.is_key]
    named = _named(keys, _IDS)
    return named or next((c.name for c in keys if re.search(r"_(id|no|key)$", c.name.lower())), "")


def _named(columns: Iterable[ColumnProfile], names: Collection[str]) -> str | None:
    """The column whose name is the earliest of `names`; None without one."""
    found = {column.name.strip().lower(): column.name for column in columns if column.cells}
    return next((found[name] for name in names if name in found), None)


def _prompts(columns: Iterable[ColumnProfile], taken: Collection[str]) -> tuple[str, ...]:
    """The column with the main text, by its name or else the longest, and those that belong to it."""
    texts = [c for c in columns if c.name not in taken and c.is_text]
    if not texts:
        texts = [c for c in columns if c.name not in taken and c.cells]
    longest = max(texts, key=lambda c: c.mean_length, default=None)
    main = _named(texts, _PROMPTS) or (longest.name if longest else "")
    more = [c.name for c in texts if c.name.strip().lower() in _ADDITIONS and c.name != main]
    return (main, *more) if main else ()


def _slices(columns: Iterable[ColumnProfile], taken: Collection[str]) -> tuple[str, ...]:
    named = {c.name: c for c in columns if c.name.strip().lower() in _SLICES}
    return tuple(n for n, c in named.items() if n not in taken and c.labels(MOST_LABELS))[:2]


def _is_letters(labels: Collection[str]) -> bool:
    """Whether the labels are those of a multiple choice, such as A, B, C, D."""
    return all(len(label) == 1 and "A" <= label <= "H" for label in labels)


def _metrics(reference: ColumnProfile, labels: Collection[str]) -> tuple[str, ...]:
    if labels and not reference.is_numeric:
        listed = ", ".join(map(yaml_text, labels))
        return (f"{{type: choice, labels: [{listed}]}}",)
    return ("number",) if reference.is_numeric else _METRICS[_answers(reference)]


def _answers(reference: ColumnProfile) -> Literal["short", "long", "solution"]:
    if reference.is_solution:
        return "solution"
    return "short" if reference.mean_length <= MOST_OF_SHORT else "long"


def _answer_tokens(reference: ColumnProfile | None, kind: JobKind) -> int:
    if kind == "labels":
        return 16
    if reference is None:
        return 256
    longest = max(map(len, reference.texts), default=0)
    return 64 if longest <= 100 else min(1024, 64 * (1 + longest // 64))


def yaml_text(text: str) -> str:
    """A text as a YAML scalar; in quotes unless it is a plain word that YAML reads as a text."""
    plain = bool(re.fullmatch(r"[\w.][\w./-]*", text)) and yaml.safe_load(text) == text
    return (
        text
        if plain
        else yaml.safe_dump(text, allow_unicode=True, width=10_000, default_style='"').strip()
    )
