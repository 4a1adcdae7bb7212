"""`decoding.max_new_tokens` must leave space for a prompt in the model's context."""

from batchgen.decoding.resolve_decoding import end_tokens, resolve_decoding
from batchgen.errors import BatchgenError, Problem
from batchgen.evaluation.model_queries.scoring_model import UNBOUNDED
from batchgen.jobfile.load import LoadedJob
from batchgen.models.find_model import find_on_disk
from batchgen.models.info import read_limits


def check_answer_length(
    loaded: LoadedJob, max_new_tokens: int, context_length: int, owner: str = "the model's context"
) -> None:
    """Raise JobFileError if not even a prompt of one token fits.

    Args:
        loaded: the job.
        max_new_tokens: as resolved.
        context_length: the largest number of tokens of a prompt and its answer together.
        owner: what decides it.
    """
    if max_new_tokens < context_length:
        return
    job = loaded.job
    shorter = job.model.max_model_len == context_length
    whose = "model.max_model_len" if shorter else owner
    message = (
        f"an answer of {max_new_tokens:,} tokens leaves no space for a prompt: "
        f"{whose} is {context_length:,} tokens, for prompt and answer together"
    )
    hint = f"Set it below {context_length:,}, so that prompt and answer fit."
    raise loaded.error([Problem("decoding.max_new_tokens", message, hint)])


def check_answer_length_on_disk(loaded: LoadedJob) -> None:
    """The same for `validate`, from the model's JSON files. Does nothing if the model is not on this machine.

    A model that cannot be read is reported by `plan` and `run`, which need it.
    """
    job = loaded.job
    if job.model.path is None:
        check_answer_length(
            loaded, job.decoding.max_new_tokens, job.model.max_model_len or UNBOUNDED
        )
        return
    try:
        folder = find_on_disk(job.model.path, job.model.revision)
        if folder is None:
            return
        limits = read_limits(folder)
        decoding = resolve_decoding(
            job.decoding,
            generation_config=limits.generation_config,
            end_token_ids=end_tokens(),
        ).decoding
    except BatchgenError:
        return
    longest = limits.context_length
    check_answer_length(
        loaded, decoding.max_new_tokens, min(longest, job.model.max_model_len or longest)
    )
