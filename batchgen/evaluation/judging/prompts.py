"""The prompts of a judge, and the tokens of its verdicts.

    Case ──fenced, with instructions──> Prompt ──tokenize, cut to fit──> context │ one continuation for each label

The prompt ends where the verdict starts (`Rating:`), so that the model's next tokens are the verdict and nothing has
to be generated or parsed. Each text is fenced by marks with a code that no text contains: no answer can close its fence.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import count, takewhile

from batchgen.errors import ModelError
from batchgen.evaluation.judging.prompt_texts import JUDGE_TEMPLATES
from batchgen.job.judge import Judge
from batchgen.prompts.overflow import LengthSearch, shorten
from batchgen.prompts.tokenize import Tokenizer
from batchgen.records import Failure, Message, Prompt


@dataclass(frozen=True, slots=True)
class JudgeCase:
    """The texts that a judge sees.

    Attributes:
        question: the prompt; empty where unknown.
        answers: one, or two in the order in which they are shown.
        reference: the right answer; None where unknown or not to be shown.
    """

    question: str
    answers: tuple[str, ...]
    reference: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        reference = () if self.reference is None else (self.reference,)
        return (self.question, *reference, *self.answers)

    def truncated(self, characters: int, mark: str) -> "JudgeCase":
        """The same with every text cut to so many characters; `mark` shows the judge where."""

        def cut(text: str) -> str:
            return text if len(text) <= characters else f"{text[:characters]}{mark}"

        reference = None if self.reference is None else cut(self.reference)
        return JudgeCase(cut(self.question), tuple(map(cut, self.answers)), reference)


@dataclass(frozen=True, slots=True)
class EncodedCase:
    """A case as input of the judge's model."""

    context: Sequence[int]
    was_cut: bool


@dataclass(frozen=True, slots=True)
class VerdictLabels:
    """The possible verdicts as tokens.

    A tokenizer may split `10` into `1` and `0`: then the texts that begin with the tokens of `1` include `10`.

    Attributes:
        dropped: how many tokens at the end of an encoded prompt change when a label follows.
        added: the tokens that replace these, common to all labels: part of the context.
    """

    token_ids: tuple[tuple[int, ...], ...]
    dropped: int
    added: tuple[int, ...]

    @property
    def longest(self) -> int:
        """Most tokens after an encoded prompt."""
        return len(self.added) + max(map(len, self.token_ids))

    def context(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """The tokens of a prompt, changed to those before a label."""
        return (*prompt[: len(prompt) - self.dropped], *self.added)


class JudgePrompts:
    """Builds the prompts of one judge."""

    def __init__(self, judge: Judge, rubric: str, tokenizer: Tokenizer, longest: int) -> None:
        """Find the tokens of the labels, and how many tokens are left for texts.

        `tokenizer` was created for `answer_prefill(judge)`; `longest` is the context length of its model.

        Raises:
            ModelError: the tokenizer does not distinguish the labels, or the rubric alone is too long.
        """
        self._judge = judge
        self._words = JUDGE_TEMPLATES[judge.language]
        single = judge.mode == "rubric"
        general = self._words.rubric if single else self._words.compare_rubric
        self._rubric = rubric.strip() or general
        self._tokenizer = tokenizer
        empty = self._prompt(JudgeCase("", ("",) * (1 if single else 2)), "0" * 8)
        self.labels = _labels(tokenizer, empty, judge.labels)
        self._limit = longest - self.labels.longest
        (frame,) = tokenizer.encode([empty])
        if isinstance(frame, Failure):
            raise ModelError(f"evaluate.judges: {judge.name}: {frame.message}")
        if len(frame) >= self._limit:
            raise ModelError(
                f"the prompt of the judge {judge.name} has {len(frame):,} tokens without any answer; the context of "
                f"its model has {longest:,}",
                hint="Shorten the rubric, or choose a judge with a longer context.",
            )

    def encode_cases(self, cases: Sequence[JudgeCase]) -> list[EncodedCase | Failure]:
        """Encode each case; texts that do not fit are cut, all to one length.

        A case that cannot be encoded becomes a failure, such as `control_tokens`.
        """
        encoded = self._tokenizer.encode([self._prompt(case, _code(case)) for case in cases])
        cut = f" {self._words.cut}"
        searches = {}
        for k, ids in enumerate(encoded):
            if not isinstance(ids, Failure) and len(ids) > self._limit:
                text = _CuttableCase(cases[k], cut, lambda case: self._prompt(case, _code(case)))
                searches[k] = LengthSearch(text, length=len(ids), limit=self._limit)
        running = list(searches.values())
        shorten(
            running,
            self._tokenizer.encode,
            limit=self._limit,
            keep=lambda text, characters: text[:characters],
        )
        results: list[EncodedCase | Failure] = []
        for k, ids in enumerate(encoded):
            best = searches[k].best if k in searches else None
            if isinstance(ids, Failure):
                results.append(ids)
            elif k in searches and best is None:
                results.append(_NO_SPACE)
            else:
                kept = best.token_ids if best else ids
                results.append(EncodedCase(self.labels.context(kept), was_cut=best is not None))
        return results

    def _prompt(self, case: JudgeCase, code: str) -> Prompt:
        # Without a chat template, the last line break separates the verdict from the text.
        text = "\n\n".join(self._blocks(case, code)) + "\n"
        return Prompt(0, "", (Message("user", text),), answer_prefill(self._judge))

    def _blocks(self, case: JudgeCase, code: str) -> Iterator[str]:
        words = self._words
        labels, ends = self._judge.labels, _ends(self._judge)
        single = self._judge.mode == "rubric"
        yield (words.rate if single else words.compare).format(**ends)
        yield f"{words.criteria}\n{self._rubric}"
        yield words.material
        if case.question:
            yield _fenced(words.question, code, case.question)
        if case.reference is not None:
            yield _fenced(words.reference, code, case.reference)
        if single:
            yield _fenced(words.answer, code, case.answers[0])
        else:
            for name, answer in zip(labels, case.answers, strict=True):
                yield _fenced(f"{words.answer}-{name}", code, answer)
        yield (words.rating if single else words.better).format(**ends)


def answer_prefill(judge: Judge) -> str:
    """The beginning of the judge's answer, before the verdict."""
    words = JUDGE_TEMPLATES[judge.language]
    verdict = words.rating_verdict if judge.mode == "rubric" else words.better_verdict
    return verdict.format(**_ends(judge))


def _ends(judge: Judge) -> dict[str, str]:
    worst, *_, best = judge.labels
    return {"low": worst, "high": best, "first": worst, "second": best}


def _fenced(what: str, code: str, text: str) -> str:
    return f"<{what}-{code}>\n{text}\n</{what}-{code}>"


def _code(case: JudgeCase) -> str:
    """A code that no text of the case contains; it does not depend on the order of the texts."""
    digest = blake2b(digest_size=16)
    for text in sorted(case.texts):
        digest.update(f"{len(text)}:".encode() + text.encode("utf-8", "surrogatepass"))
    folded = [text.casefold() for text in case.texts]
    codes = (
        blake2b(digest.digest() + number.to_bytes(8), digest_size=4).hexdigest()
        for number in count()
    )
    return next(code for code in codes if not any(code in text for text in folded))


@dataclass(frozen=True, slots=True)
class _CuttableCase:
    """A case whose texts are all cut to the length of its cut longest text."""

    case: JudgeCase
    mark: str
    prompt: Callable[[JudgeCase], Prompt]

    @property
    def text(self) -> str:
        return max(self.case.texts, key=len)

    def with_text(self, text: str) -> Prompt | Failure:
        """The prompt with no text longer than `text`."""
        return self.prompt(self.case.truncated(len(text), self.mark))


_NO_SPACE = Failure(
    "prompt_too_long", "the rubric leaves no space for even a character of the texts"
)


def _labels(tokenizer: Tokenizer, frame: Prompt, texts: Sequence[str]) -> VerdictLabels:
    """The tokens of each label after a prompt, the same for every prompt.

    Templates put control tokens before the assistant's text, and no tokenizer merges across these.
    """
    prompts = [frame, *(replace(frame, prefill=frame.prefill + text) for text in texts)]
    encoded = [ids for ids in tokenizer.encode(prompts) if not isinstance(ids, Failure)]
    if len(encoded) < len(prompts):
        raise ModelError("the judge's tokenizer or chat template rejects the judge's prompt")
    bare, *with_label = (tuple(ids) for ids in encoded)
    shared = min(_common(with_label[0], other) for other in with_label)
    shared = min(shared, *(len(ids) - 1 for ids in with_label))
    kept = min(_common(bare, with_label[0]), shared)
    labels = tuple(ids[shared:] for ids in with_label)
    if len(set(labels)) < len(labels):
        raise ModelError(
            f"the judge's tokenizer gives two of the verdicts {', '.join(texts)} the same tokens",
            hint="Choose another judge, or another scale.",
        )
    return VerdictLabels(labels, len(bare) - kept, with_label[0][kept:shared])


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the common prefix."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
