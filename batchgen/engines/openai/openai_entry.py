"""The engine `openai` as the registry lists it. Its libraries are imported when a server is used."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen.engines.contract import (
    SERVED,
    SERVED_CONTEXT,
    Engine,
    EngineEntry,
    EngineInfo,
    Estimate,
    ModelUse,
    Origin,
)
from batchgen.engines.openai.server_settings import (
    form_problems,
    prompt_problems,
    read_server_settings,
    section_problems,
)
from batchgen.engines.openai.transport.base_url import BaseUrl
from batchgen.engines.openai.transport.concurrency_limit import LEAST, MOST
from batchgen.engines.served_tokenizer_sample import TokenizerSample
from batchgen.errors import Problem
from batchgen.job.spec import Batching, Job, ModelSpec
from batchgen.planning.batches import BatchLimits
from batchgen.planning.kv_cache_plan import Workers
from batchgen.records import AnswerDecoder
from batchgen.section import Auto

INFO = EngineInfo(
    name="openai",
    summary="sends prompts to servers with OpenAI's HTTP API, such as vLLM, llama.cpp or Ollama",
    needs="optional tokenizer",
    options=frozenset(
        {
            "decoding.temperature",
            "decoding.top_p",
            "decoding.top_k",
            "decoding.min_p",
            "decoding.repetition_penalty",
            "decoding.min_new_tokens",
            "decoding.stop_strings",
            "decoding.logprobs",
            "decoding.response_format",
            "model.base_url",
            "model.served_name",
            "model.api_key_env",
            "model.engine_args",
            "model.price",
            "batching.max_rows",
            "batching.sort",
        }
    ),
    seeds=True,
    likelihoods=True,
    batch_invariant=False,
    batch_invariant_reason="the server decides which rows are computed together",
    token_exact=False,
    top_logprobs=None,
    label_likelihoods=True,
)


@dataclass(frozen=True, slots=True)
class ServerEstimate(Estimate):
    """What `plan` prints about servers.

    Attributes:
        tokens: whether prompts are sent as token ids.
        context: the longest prompt and answer, if the servers state it and prompts are token ids.
        fixed: requests at once, if the job fixes them.
    """

    urls: tuple[BaseUrl, ...] = ()
    served_name: str = ""
    tokens: bool = False
    context: int | None = None
    fixed: int | None = None

    def model_lines(self) -> list[str]:
        hosts = ", ".join(map(str, self.urls))
        sent = (
            "token ids"
            if self.tokens
            else "messages, which the server renders: no template to compare with"
        )
        context = "" if self.context is None else f" · context {self.context:,} tokens"
        return [
            f"{self.served_name or 'the only model'} of {hosts}{context}",
            f"openai · prompts leave this process and are sent there as {sent}",
        ]

    def batch_lines(self, origin: Origin) -> list[str]:
        if self.fixed is not None:
            return [f"{self.fixed:,} requests at once ({origin('batching.max_rows')})"]
        many = f" on each of {len(self.urls)} servers" if len(self.urls) > 1 else ""
        return [
            f"requests at once: found while running, from {LEAST} to {MOST}{many}; "
            "where a server states its slots, twice as many"
        ]


def _open(
    model: ModelSpec,
    *,
    folder: Path | None,
    batching: Batching,
    workers: int | Auto,
    decode: AnswerDecoder,
    should_stop: Callable[[], bool],
) -> Engine:
    del workers, decode
    from batchgen.engines.openai.open_engine import open_openai_engine

    return open_openai_engine(model, folder=folder, batching=batching, should_stop=should_stop)


def _identify(
    model: ModelSpec, use: ModelUse, report: Callable[[str], None]
) -> Mapping[str, object]:
    from batchgen.engines.openai.identify_served import identify_served_model

    return identify_served_model(model, use, report)


def _compare(model: ModelSpec, sample: TokenizerSample, report: Callable[[str], None]) -> str:
    from batchgen.engines.openai.identify_served import compare_served_tokenizer

    return compare_served_tokenizer(model, sample, report)


def _estimate(
    model: ModelSpec, *, folder: Path | None, batching: Batching, workers: int | Auto
) -> ServerEstimate:
    del workers
    settings, known = read_server_settings(model), model.engine_args.get(SERVED)
    fixed = batching.max_rows if batching.max_rows != "auto" else None
    count = len(settings.urls)
    return ServerEstimate(
        device="none",
        limits=BatchLimits(rows=fixed or MOST * count, tokens=2**62, sort=batching.sort),
        workers=Workers(1, "the servers compute"),
        urls=settings.urls,
        served_name=str(known["served_model"]) if known else "",
        tokens=folder is not None,
        context=known.get(SERVED_CONTEXT) if known else None,
        fixed=fixed,
    )


def _problems(job: Job, model: ModelSpec, key: str) -> Iterator[Problem]:
    yield from section_problems(model, key)
    if key == "model":
        yield from prompt_problems(job)
        yield from form_problems(job)


OPENAI = EngineEntry(
    INFO, _open, _estimate, identify=_identify, problems=_problems, compare_tokenizer=_compare
)
