"""The text of a first job, with a comment at each line that a user may want to change, in English or Chinese."""

import json
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import yaml

from batchgen.first_job.propose_job import JobKind, Proposal, yaml_text
from batchgen.first_job.table_profile import TableProfile

_OF_JINJA = frozenset({"row", "loop", "self", "true", "false", "none", "block", "filter", "set"})
_CONTENT = ("Write clearly and to the point.", "请表达清楚，切合要求。")
_EVALUATION = {
    "short": ("Give only the final answer, without explanation.", "只写最终答案，不要解释。"),
    "long": _CONTENT,
    "solution": (
        "Reason step by step. Write the final answer in the last line, after ####.",
        "请逐步推理，最后一行在 #### 之后写出最终答案。",
    ),
}
_SYSTEM: dict[JobKind, tuple[str, str]] = {
    "content": _CONTENT,
    "labels": ("Answer with one of the labels.", "请给下面的文本分类，只回答其中一个类别。"),
    "conversation": ("", ""),
}


@dataclass(frozen=True, slots=True)
class JobText:
    """A job file to be written.

    Attributes:
        input_path: of the table, relative to the job file.
        schema_file: the name of the schema for editors, next to the job file.
        job_file: as the user will name it on the command line.
    """

    profile: TableProfile
    proposal: Proposal
    input_path: str
    job_file: str
    schema_file: str

    @property
    def name(self) -> str:
        """The name of the job: that of its file, if the user chose one, else that of the table.

        Two jobs of one table then write to two folders.
        """
        given = Path(self.job_file).stem
        stem = self.profile.path.stem if given == "job" else given
        return re.sub(r"[^\w.-]+", "-", stem).strip("-._")[:64] or "job"

    def render(self) -> str:
        """The file's content."""
        sections = (self._head(), self._input(), self._prompt(), self._model(), self._evaluate())
        return "\n\n".join("\n".join(lines) for part in sections if (lines := list(part))) + "\n"

    def _text(self, english: str, chinese: str) -> str:
        return chinese if self.profile.is_chinese else english

    def _head(self) -> Iterator[str]:
        yield f"# yaml-language-server: $schema={self.schema_file}"
        rows = f"{self.profile.rows:,}"
        yield "# " + self._text(
            f"Proposed by `batchgen init` from {self.input_path} ({self.profile.dialect}; {rows} rows looked at). Change any line.",
            f"由 `batchgen init` 根据 {self.input_path} 生成（{self.profile.dialect}；查看了 {rows} 行），可以任意修改。",
        )
        yield "#"
        yield f"#   batchgen try {self.job_file}    " + self._text(
            "three answers on the screen, no file", "在屏幕上试三行，不写文件"
        )
        yield f"#   batchgen run {self.job_file}"
        yield "version: 1"
        yield f"name: {yaml_text(self.name)}"

    def _input(self) -> Iterator[str]:
        yield "input:"
        yield f"  path: {yaml_text(self.input_path)}" + self._note(
            "relative to this file; one answer is written for every row",
            "路径相对于本文件；每行数据生成一条回答",
        )
        named = []
        if self.proposal.id not in ("", "id"):
            note = self._note("unique in the rows looked at", "在查看过的行中没有重复值")
            named.append(f"    id: {yaml_text(self.proposal.id)}{note}")
        if self.proposal.conversation:
            note = (
                self._note("chat messages with answers", "带回答的对话消息列表")
                if self.proposal.is_answered
                else self._note(
                    "chat messages: the model answers the last one",
                    "对话消息列表：模型回答其中最后一条",
                )
            )
            named.append(f"    messages: {yaml_text(self.proposal.conversation)}{note}")
        if self.proposal.turns:
            note = self._note(
                "the user's messages: each is asked after the model's answers to those before it",
                "用户的各轮消息：每一轮都在模型对前几轮的回答之后提问",
            )
            named.append(f"    turns: {yaml_text(self.proposal.turns)}{note}")
        if named:
            yield from ["  columns:", *named]
        if self.proposal.has_nulls:
            column = self.proposal.prompts[0].replace('"', '""')
            condition = yaml.safe_dump(f'"{column}" IS NOT NULL', allow_unicode=True, width=10_000)
            yield f"  filter: {condition.splitlines()[0]}" + self._note(
                "SQL; rows without a prompt would fail", "SQL 条件；该列为空的行无法生成，予以排除"
            )

    def _prompt(self) -> Iterator[str]:
        if self.proposal.is_answered:
            yield "prompt:"
            yield "  replay: recorded" + self._note(
                "the model answers each message of the user after the recorded messages before it",
                "用户的每条消息都在数据中记录的前文之后提问，由模型回答",
            )
        if self.proposal.conversation or self.proposal.turns:
            return
        yield "prompt:"
        kind, answers = self.proposal.kind, self.proposal.answers
        texts = _EVALUATION[answers] if kind == "evaluation" and answers else _SYSTEM[kind]
        system = self._text(*texts)
        if self.proposal.labels:
            listed = self._text(", ", "、").join(self.proposal.labels)
            system = self._text(
                f"Answer with one of: {listed}.",
                f"请给下面的文本分类，只回答以下类别之一：{listed}。",
            )
        yield f"  system: {_quoted(system)}" + self._note(
            "what holds for every row", "系统提示词，对每一行都生效"
        )
        yield "  user: |-" + self._note(
            "every column of the table is a variable", "表中每一列都是一个变量"
        )
        main, *more = self.proposal.prompts
        first = f"    {{{{ {_variable(main)} }}}}"
        for name in more:
            first += f"{{% if {_variable(name)} %}}\n    {{{{ {_variable(name)} }}}}{{% endif %}}"
        yield first

    def _model(self) -> Iterator[str]:
        yield "model: demo:smollm2-135m" + self._note(
            "small, English only, to try the job; then a folder or the id of a hub model, such as Qwen/Qwen3-0.6B",
            "很小，只懂英文，仅供试跑；正式运行请换成本地模型文件夹或 Hub 上的模型，例如 Qwen/Qwen3-0.6B",
        )
        yield ""
        yield "decoding:" + self._note(
            "no temperature: the most likely answer, the same on every run",
            "未设 temperature：贪心解码，每次运行结果相同",
        )
        yield f"  max_new_tokens: {self.proposal.max_new_tokens}"
        if self.proposal.labels:
            listed = ", ".join(map(yaml_text, self.proposal.labels))
            line = f"response_format: {{choice: [{listed}]}}"
            if find_spec("llguidance"):
                yield f"  {line}" + self._note("exactly one of these", "回答只能是其中之一")
            else:
                yield f"  # {line}" + self._note(
                    "needs: pip install 'batchgen-llm[structured]'",
                    "需要：pip install 'batchgen-llm[structured]'",
                )
        yield ""
        yield "output:"
        yield f"  path: {yaml_text(f'out/{self.name}')}"

    def _evaluate(self) -> Iterator[str]:
        proposal = self.proposal
        if not proposal.reference:
            return
        yield "evaluate:" + self._note(
            "scores for each answer, with confidence intervals; `batchgen metrics` lists the metrics",
            "为每条回答打分，并给出置信区间；可用指标见 `batchgen metrics`",
        )
        yield f"  reference: {yaml_text(proposal.reference)}" + self._note(
            "the column with the right answers", "参考答案所在的列"
        )
        if proposal.slices:
            yield f"  slices: [{', '.join(map(yaml_text, proposal.slices))}]"
        yield f"  metrics: [{', '.join(proposal.metrics)}]"

    def _note(self, english: str, chinese: str) -> str:
        return f"  # {self._text(english, chinese)}"


def _variable(name: str) -> str:
    """The column in a Jinja template."""
    if name.isidentifier() and not keyword.iskeyword(name) and name not in _OF_JINJA:
        return name
    return f"row[{json.dumps(name, ensure_ascii=False)}]"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
