"""Log-probabilities of given continuations by the model's own forward, for every model and length.

Rows of equal length share a forward without padding or mask, which is correct for recurrent states, rotary switches and
encoders too. A context is computed once for each of its continuations with more than one token; `by_steps.py` computes it
only once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from batchgen.engines.torch.answer_logprob import last_logits
from batchgen.engines.torch.generate.call import group_by
from batchgen.engines.torch.likelihoods.branches import Branch, ContextReader, group_by_context
from batchgen.engines.torch.memory import out_of_memory, release_memory
from batchgen.engines.torch.model import LoadedModel
from batchgen.records import Continuation, Failure, Likelihood

_STEP_TOKENS = 4096
"""Most tokens of a forward of several rows: more is not faster, and the activations need memory."""
_LOGITS = 2**26
"""Most logits of a forward of several rows, in numbers: a quarter of a gigabyte in float32."""


@dataclass(frozen=True, slots=True)
class _ForwardRow:
    """A row of a forward.

    Attributes:
        answer: the continuation without its last token; may be empty.
        single: branches of one token, which the same logits contain.
    """

    context: Sequence[int]
    answer: Sequence[int]
    branch: Branch
    single: tuple[Branch, ...] = ()

    @property
    def branches(self) -> tuple[Branch, ...]:
        return (self.branch, *self.single)


class ForwardLikelihoods:
    """Likelihoods by plain forwards."""

    def __init__(self, loaded: LoadedModel, should_stop: Callable[[], bool], window: int) -> None:
        """`window`: continuations that are pulled together; `should_stop`: checked between forwards."""
        self._loaded = loaded
        self._should_stop = should_stop
        self._window = window

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
        source = iter(continuations)
        while window := list(islice(source, self._window)):
            rows = [
                row for item in group_by_context(window).items() for row in _forward_rows(*item)
            ]
            for group in group_by(rows, lambda row: (len(row.context), len(row.answer))):
                yield from self._compute_group(group)
                if self._should_stop():
                    return

    def _compute_group(self, group: list[_ForwardRow]) -> Iterator[Likelihood]:
        waiting = [group]
        while waiting and not self._should_stop():
            rows = waiting.pop()
            length = len(rows[0].context) + len(rows[0].answer)
            logits = self._loaded.vocab_size * len(rows[0].branch.token_ids)
            most = max(1, min(_STEP_TOKENS // length, _LOGITS // logits))
            if len(rows) > most:
                waiting += [rows[most:], rows[:most]]
            elif self._read(rows):
                for branch in chain.from_iterable(row.branches for row in rows):
                    yield from branch.likelihoods()
            elif len(rows) > 1:
                middle = len(rows) // 2
                waiting += [rows[middle:], rows[:middle]]
            else:
                context, tokens = len(rows[0].context), len(rows[0].branch.token_ids)
                message = (
                    f"a context of {context:,} tokens and a continuation of {tokens:,} "
                    f"do not fit in the memory of {self._loaded.device} even alone"
                )
                for branch in rows[0].branches:
                    yield from branch.failed(Failure("out_of_memory", message))

    def _read(self, rows: Sequence[_ForwardRow]) -> bool:
        """Compute the rows and fill their branches; returns False if memory ran out."""
        count = len(rows[0].branch.token_ids)
        try:
            contexts, answers = [row.context for row in rows], [row.answer for row in rows]
            logits = last_logits(self._loaded, contexts, answers, count)
            reader = ContextReader()
            for row in rows:
                reader.expect(row.branches, 0)
                for position in range(1, count):
                    reader.expect([row.branch], position)
            reader.read_logits(logits.flatten(0, 1))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        else:
            return True
        # Outside of the handler: the error references the frames, and with them the tensors.
        release_memory(self._loaded.device)
        return False


def _forward_rows(context: Sequence[int], group: Sequence[Branch]) -> Iterator[_ForwardRow]:
    """The rows for a context: one for each continuation of several tokens, or one for all of one token."""
    first, *others = group
    single = tuple(branch for branch in others if len(branch.token_ids) == 1)
    yield _ForwardRow(context, first.token_ids[:-1], first, single)
    for branch in others:
        if len(branch.token_ids) > 1:
            yield _ForwardRow(context, branch.token_ids[:-1], branch)
