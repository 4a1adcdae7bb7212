"""Compares the tokenizer of this machine with that of the server that gets its token ids, before the first row."""

from batchgen.engines.engine_registry import find_engine
from batchgen.engines.served_tokenizer_sample import TokenizerSample
from batchgen.errors import Problem
from batchgen.evaluation.model_queries.scoring_model import ScoringModel
from batchgen.jobfile.load import LoadedJob
from batchgen.progress import Reporter
from batchgen.prompts.tokenize import Tokenizer
from batchgen.records import Failure, Message, Prompt

_TEXT = "The sea, 12345 = x + y; déjà vu, 你好!\n\n    def f(a): return a[0]"
_PARTS = 64
"""Tokens that are compared, from all parts of the vocabulary."""


def check_served_tokenizer(loaded: LoadedJob, model: ScoringModel, reporter: Reporter) -> None:
    """Raise JobFileError if the server's tokenizer differs. Does nothing for a model on this machine."""
    compare = find_engine(loaded.job.model.engine).compare_tokenizer
    if compare is None or model.model is None or not model.served:
        return
    sample = tokenizer_sample(model.tokenizer)
    if sample is None:
        return
    if difference := compare(model.spec, sample, reporter.info):
        key = "model.tokenizer" if loaded.job.model.tokenizer else "model.path"
        hint = "Give the folder or id of the model that the server serves, or leave path out to send messages."
        raise loaded.error([Problem(key, difference, hint)])


def tokenizer_sample(tokenizer: Tokenizer) -> TokenizerSample | None:
    """The sample; None if the chat template rejects it."""
    (rendered,) = tokenizer.encode([Prompt(0, "", (Message("user", _TEXT),))])
    if isinstance(rendered, Failure):
        return None
    vocabulary = int(str(tokenizer.facts["vocabulary"]))
    step = max(1, vocabulary // _PARTS)
    spread = [token for token in range(0, vocabulary, step) if _is_plain(tokenizer, token)]
    ids = (*rendered, *spread)
    return TokenizerSample(
        token_ids=ids,
        text=tokenizer.show(ids),
        messages=(("user", _TEXT),),
        rendered=tokenizer.show(rendered),
        rendered_ids=tuple(rendered),
    )


def _is_plain(tokenizer: Tokenizer, token: int) -> bool:
    """Whether the token is a word by itself: not a part of a character, or a special token."""
    text = tokenizer.decode([token])
    return text.isascii() and text.strip().isalnum()
