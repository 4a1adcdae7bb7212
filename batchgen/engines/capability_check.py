"""Checks what a job requests of its engines against their declarations (`EngineInfo`)."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from batchgen.decoding.resolve_decoding import Resolution
from batchgen.engines.contract import OPTIONS, EngineInfo
from batchgen.engines.engine_registry import ENGINES
from batchgen.errors import ModelError, Problem
from batchgen.job.spec import Decoding, Job, ModelSpec
from batchgen.metrics.likelihood import AfterPrompt
from batchgen.records import ResolvedDecoding
from batchgen.section import Section

_NEUTRAL = ResolvedDecoding()
"""Values that switch a setting off, and so request nothing."""


def engine_problems(job: Job) -> list[Problem]:
    """Every key of the job that its engine, or the engine of a judge, does not support. Never raises."""
    problems = [*_model_problems(job, job.model, "model"), *_likelihood_problems(job)]
    for number, judge in enumerate(job.evaluate.judges):
        if judge.model is not None:
            problems += _model_problems(job, judge.model, f"evaluate.judges[{number}].model")
    if (entry := ENGINES.get(job.model.engine)) is None:
        return problems
    unsupported = OPTIONS - entry.info.options
    sections = (job.decoding, "decoding"), (job.batching, "batching"), (job.run, "run")
    keys = [key for section, name in sections for key in _set_keys(section, name)]
    problems += [_unsupported(key, entry.info) for key in keys if key in unsupported]
    problems += [
        _unsupported(f"decoding.columns.{name}", entry.info)
        for name in job.decoding.columns
        if f"decoding.{name}" in unsupported
    ]
    if "decoding.logprobs" not in unsupported:
        problems += _top_logprob_problems(job.decoding, entry.info)
    sampled = job.decoding.may_sample and "seed" in job.run.model_fields_set
    if sampled and not entry.info.seeds and job.input.sample is None:
        message = f"has no effect: engine {entry.info.name} ignores seeds"
        hint = "Remove it. Sampled answers of this engine cannot be reproduced."
        problems.append(Problem("run.seed", message, hint))
    return problems


def check_generation_config(info: EngineInfo, resolution: Resolution) -> None:
    """Check settings that come from the model's generation_config.json, which `engine_problems` cannot see.

    Raises:
        ModelError: the engine does not support one of them.
    """
    unsupported = OPTIONS - info.options
    names = [
        name
        for name, origin in resolution.origins.items()
        if origin == "generation_config"
        and f"decoding.{name.partition('.')[0]}" in unsupported
        and getattr(resolution.decoding, name, None) != getattr(_NEUTRAL, name, ())
    ]
    if names:
        raise ModelError(
            f"generation_config.json: engine {info.name} does not support {', '.join(names)}",
            hint="Remove decoding.preset: model, and set the values that you want under decoding.",
        )


def _top_logprob_problems(decoding: Decoding, info: EngineInfo) -> Iterator[Problem]:
    """The problem of `decoding.logprobs: N` that the engine cannot record."""
    wanted, most = decoding.logprobs, info.top_logprobs
    if isinstance(wanted, bool) or (most is not None and wanted <= most):
        return
    hint = "Write decoding.logprobs: true, for the column logprob_mean only."
    message = f"{wanted}: engine {info.name} computes only the mean, not those of each token"
    if most is not None:
        message = f"{wanted}: engine {info.name} computes at most {most} tokens for each position"
        hint = f"Write a number from 0 to {most}."
    yield Problem("decoding.logprobs", message, hint)


_CLOSE = 0.75
"""As difflib measures it. Names of other programs reach 0.6: tensorrt and transformers, ollama and vllm."""


def _model_problems(job: Job, spec: ModelSpec, key: str) -> list[Problem]:
    if (entry := ENGINES.get(spec.engine)) is None:
        near = get_close_matches(spec.engine, ENGINES, n=1, cutoff=_CLOSE)
        guess = f"Did you mean {near[0]}? " if near else ""
        hint = f"{guess}The engines are: {', '.join(ENGINES)}. Any server with OpenAI's HTTP API is engine openai."
        return [Problem(f"{key}.engine", f"unknown engine {spec.engine!r}", hint)]
    unsupported = OPTIONS - entry.info.options
    problems = [
        _unsupported(f"{key}.{name.removeprefix('model.')}", entry.info)
        for name in _set_keys(spec, "model")
        if name in unsupported
    ]
    if entry.info.needs in ("weights", "tokenizer") and spec.path is None:
        hint = "Give a folder, demo:smollm2-135m or a model id."
        problems.append(Problem(f"{key}.path", f"is required by engine {spec.engine}", hint))
    if spec.adapter_revision is not None and spec.adapter is None:
        hint = "Set model.adapter too, or remove it."
        problems.append(Problem(f"{key}.adapter_revision", "has no effect without adapter", hint))
    return [*problems, *(entry.problems(job, spec, key) if entry.problems else ())]


def likelihood_users(job: Job) -> dict[str, ModelSpec]:
    """The keys that score given texts, and the model of each."""
    users = {
        f"evaluate.metrics[{number}]": job.model
        for number, metric in enumerate(job.evaluate.metrics)
        if issubclass(type(metric), AfterPrompt)
    }
    if job.output.choice_probabilities is True:
        users["output.choice_probabilities"] = job.model
    return users | {
        f"evaluate.judges[{number}]": judge.model or job.model
        for number, judge in enumerate(job.evaluate.judges)
    }


def _likelihood_problems(job: Job) -> Iterator[Problem]:
    """Metrics and judges whose engine cannot score given texts."""
    for key, spec in likelihood_users(job).items():
        entry = ENGINES.get(spec.engine)
        if entry is None:
            continue
        is_judge, info = key.startswith("evaluate.judges"), entry.info
        if not (info.likelihoods or (is_judge and info.label_likelihoods)):
            yield Problem(
                key,
                f"needs log-probabilities of given texts, which engine {spec.engine} does not compute",
                "Remove it, or use an engine that computes them, such as transformers.",
            )
        elif info.needs == "optional tokenizer" and spec.path is None:
            yield Problem(
                key,
                f"needs the tokenizer of the model: engine {spec.engine} scores given texts by their token ids",
                "Give the folder or id of the model with path, or remove it.",
            )


def _set_keys(section: Section, outer: str) -> list[str]:
    """The dotted keys of a section that the job sets to a value that is neither the default nor neutral."""

    def requests(name: str, value: Any) -> bool:  # noqa: ANN401  (a value of any key)
        default = type(section).model_fields[name].get_default(call_default_factory=True)
        neutral = getattr(_NEUTRAL, name, default) if outer == "decoding" else default
        # 0 requests what false does not: log-probabilities of the tokens alone.
        return all(value != one or type(value) is not type(one) for one in (None, default, neutral))

    names = sorted(section.model_fields_set)
    return [f"{outer}.{name}" for name in names if requests(name, getattr(section, name))]


def _unsupported(key: str, info: EngineInfo) -> Problem:
    hint = "Remove it, or choose another model.engine."
    return Problem(key, f"is not supported by engine {info.name}", hint)
