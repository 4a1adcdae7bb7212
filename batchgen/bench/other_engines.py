"""Contenders of `bench` that compute with another library, or on a server: each is opened as a run would open it."""

import time
from collections.abc import Iterable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from batchgen.bench.bench_work import BenchWork, Measured, NotMeasured
from batchgen.errors import UsageError
from batchgen.job.spec import ModelSpec
from batchgen.prompts.answer_text import AnswerText
from batchgen.records import Request, ResolvedDecoding

_NEUTRAL = asdict(ResolvedDecoding())
_OF_ALL_ENGINES = ("max_new_tokens", "end_token_ids", "top_logprobs", "grammar")


def measure_vllm(work: BenchWork) -> Measured | NotMeasured:
    """vLLM, with the model's own files."""
    if find_spec("vllm") is None:
        return NotMeasured("not installed")
    from batchgen.engines.engine_registry import find_engine

    check_settings("vLLM", work.requests, forms=True)
    longest = max(len(one.token_ids) + one.decoding.max_new_tokens for one in work.requests)
    changes: dict[str, Any] = {"engine": "vllm", "dtype": work.dtype, "max_model_len": longest}
    if work.spec.engine != "vllm":
        changes["engine_args"] = {}
    spec = work.spec.model_copy(update=changes)
    if spec.adapter is not None and (check := find_engine("vllm").check_adapter) is not None:
        check(spec, folder=work.model.folder)
    return _measure(work, spec, work.model.folder)


def measure_openvino(work: BenchWork) -> Measured | NotMeasured:
    """OpenVINO, with a converted model in our dtype."""
    folder = work.others.converted
    if folder is None:
        return NotMeasured("no converted model: name its folder with --openvino")
    if find_spec("openvino_genai") is None:
        return NotMeasured("not installed")
    from batchgen.engines.engine_registry import choose_engine_dtype

    check_settings("OpenVINO", work.requests, forms=False)
    if work.spec.adapter is not None:
        raise UsageError("engine openvino does not support adapters")
    section = {"path": str(folder), "engine": "openvino", "dtype": work.dtype}
    spec = ModelSpec.model_validate(section)
    choose_engine_dtype(spec, work.dtype)  # raises where this processor has no such products
    return _measure(work, spec, folder)


def measure_openai(work: BenchWork) -> Measured | NotMeasured:
    """Servers, which are sent the same token ids."""
    if not work.others.servers:
        return NotMeasured("no server: name its address with --server")
    from batchgen.engines.contract import SERVED, ModelUse
    from batchgen.engines.engine_registry import identify_model

    check_settings("engine openai", work.requests, forms=True)
    given = work.spec if work.spec.engine == "openai" else ModelSpec(path=work.spec.path)
    servers = list(work.others.servers)
    spec = given.model_copy(update={"engine": "openai", "base_url": servers})
    if SERVED not in spec.engine_args:
        settings = _used_settings(work.requests)
        sampled = any(not one.decoding.greedy for one in work.requests)
        served = identify_model(spec, ModelUse(settings, sampled=sampled), lambda _: None)
        arguments = {**spec.engine_args, SERVED: dict(served)}
        spec = spec.model_copy(update={"engine_args": arguments})
    return _measure(work, spec, work.model.folder)


def load_work_tokenizer(work: BenchWork) -> Any:  # noqa: ANN401  (a PreTrainedTokenizerBase)
    """The tokenizer of the job's model."""
    from batchgen.models.tokenizer import load_tokenizer

    return load_tokenizer(work.model, work.spec)


def check_settings(library: str, requests: Iterable[Request], *, forms: bool) -> None:
    """Check that a library supports the decoding settings of the requests; `forms`: whether it does those of answers.

    Raises:
        UsageError: it does not support one of them.
    """
    for decoding in (request.decoding for request in requests):
        unsupported = {
            "num_beams": decoding.num_beams > 1,
            "no_repeat_ngram_size": decoding.no_repeat_ngram_size > 0,
            "generation_kwargs": bool(decoding.generation_kwargs),
            "response_format": decoding.grammar is not None and not forms,
        }
        if used := [name for name, is_used in unsupported.items() if is_used]:
            raise UsageError(f"{library} does not support {' and '.join(used)}, which the job sets")


def _used_settings(requests: Iterable[Request]) -> dict[str, str]:
    """The settings that are not neutral in some request, as `ModelUse` has them."""
    used = {
        name
        for request in requests
        for name, value in asdict(request.decoding).items()
        if value != _NEUTRAL[name] and name not in _OF_ALL_ENGINES
    }
    return {name: f"decoding.{name}" for name in sorted(used)}


def _measure(work: BenchWork, spec: ModelSpec, folder: Path) -> Measured:
    """Open the engine, and answer the requests."""
    from batchgen.engines.engine_registry import open_engine
    from batchgen.planning.batches import sort_by_length

    tokenizer = load_work_tokenizer(work)
    begin = time.perf_counter()
    engine = open_engine(
        spec,
        folder=folder,
        batching=work.batching.model_copy(update={"max_tokens": "auto"}),
        decode=AnswerText(tokenizer),
        should_stop=lambda: False,
    )
    ready = time.perf_counter()
    try:
        done = list(engine.generate(sort_by_length(work.requests)))
        end = time.perf_counter()
    finally:
        engine.close()
    lengths = {(one.index, one.sample): one.new_tokens for one in done}
    return Measured(
        load_seconds=ready - begin,
        seconds=end - ready,
        new_tokens=tuple(lengths[one.index, one.sample] for one in work.requests),
    )
