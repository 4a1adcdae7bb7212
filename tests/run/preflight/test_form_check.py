"""A form that the model's prompt or its generation_config.json excludes is rejected before weights are loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import JobFileError
from batchgen.jobfile.load import load_job
from batchgen.prompts.byte_tokenizer import ByteTokenizer
from batchgen.records import ResolvedDecoding
from batchgen.run.preflight.form_check import check_form

MakeJob = Callable[..., Path]


class ReasoningTokenizer(ByteTokenizer):
    """Of a model whose prompts end inside reasoning."""

    opens_reasoning = True


@pytest.mark.parametrize(
    ("form", "said"),
    [
        pytest.param({"json_object": True}, "reasoning", id="no mark"),
        pytest.param({"json_object": True, "after": "</think>"}, "", id="after a mark"),
        pytest.param(None, "", id="no form"),
    ],
)
def test_reasoning_needs_a_mark(make_job: MakeJob, form: dict[str, Any] | None, said: str) -> None:
    loaded = load_job(make_job(decoding={"response_format": form}))
    if not said:
        check_form(loaded, ResolvedDecoding(), ReasoningTokenizer())
        return
    with pytest.raises(JobFileError, match=said) as caught:
        check_form(loaded, ResolvedDecoding(), ReasoningTokenizer())
    assert "enable_thinking" in caught.value.problems[0].hint


def test_settings_of_the_model_that_a_form_excludes(make_job: MakeJob) -> None:
    loaded = load_job(make_job(decoding={"response_format": {"regex": "a"}}))
    with pytest.raises(JobFileError, match="no_repeat_ngram_size of the model's"):
        check_form(loaded, ResolvedDecoding(no_repeat_ngram_size=3), ByteTokenizer())
