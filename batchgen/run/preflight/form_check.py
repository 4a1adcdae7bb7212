"""Checks `decoding.response_format` against the model: what `validate` cannot see."""

from batchgen.engines.engine_registry import find_engine
from batchgen.errors import Problem
from batchgen.jobfile.load import LoadedJob
from batchgen.prompts.tokenize import Tokenizer
from batchgen.records import ResolvedDecoding
from batchgen.structured.answer_grammars import KEY


def check_form(loaded: LoadedJob, decoding: ResolvedDecoding, tokenizer: Tokenizer) -> None:
    """Raise JobFileError if the form cannot be enforced with this model. Does nothing without a form."""
    if (spec := loaded.job.decoding.response_format) is None:
        return
    problems = []
    if tokenizer.opens_reasoning and spec.after is None:
        message = "the prompt ends inside the model's reasoning, which the form would replace"
        hint = (
            'Set after: "</think>" here, or prompt.chat_template_kwargs: {enable_thinking: false}.'
        )
        problems.append(Problem(KEY, message, hint))
    engine = find_engine(loaded.job.model.engine).info
    if engine.needs == "weights" and tokenizer.decode.tokenizer_json() is None:
        message = (
            "needs the model's tokenizer in the format of tokenizer.json, which this one has not"
        )
        hint = "Set model.tokenizer to a folder that contains tokenizer.json."
        problems.append(Problem(KEY, message, hint))
    taken = {
        "no_repeat_ngram_size": decoding.no_repeat_ngram_size > 0,
        "num_beams": decoding.num_beams > 1,
        "stop_strings": bool(decoding.stop_strings),
        "min_new_tokens": decoding.min_new_tokens > 0,
        "generation_kwargs": bool(decoding.generation_kwargs),
    }
    if names := ", ".join(name for name, is_set in taken.items() if is_set):
        message = f"cannot be combined with {names} of the model's generation_config.json"
        hint = "Remove decoding.preset: model, and set the values that you want under decoding."
        problems.append(Problem(KEY, message, hint))
    if problems:
        raise loaded.error(problems)
