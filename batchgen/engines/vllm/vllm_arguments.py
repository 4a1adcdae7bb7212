"""The arguments of vLLM's engine: those that batchgen sets, and what a job may add in `model.engine_args`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from batchgen.engines.contract import SERVED
from batchgen.engines.vllm.installed_vllm import INSTALL, MISSING, find_vllm
from batchgen.errors import Problem
from batchgen.job.decoding import MOST_TOP_LOGPROBS
from batchgen.job.spec import Batching, Job, ModelSpec
from batchgen.lora.adapter_folder import read_adapter

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 2.0
"""vLLM raises smaller ones above 0, and refuses larger ones."""
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
MOST_RANK = _RANKS[-1]
"""Of an adapter."""
_OWNED: Mapping[str, str] = {
    "model": "model.path",
    "model_weights": "model.path",
    "revision": "model.revision",
    "code_revision": "model.revision",
    "tokenizer": "model.tokenizer",
    "tokenizer_revision": "model.tokenizer",
    "dtype": "model.dtype",
    "max_model_len": "model.max_model_len",
    "tensor_parallel_size": "model.tensor_parallel",
    "trust_remote_code": "model.trust_remote_code",
    "device_ids": "model.device",
    "enable_lora": "model.adapter",
    "max_loras": "model.adapter",
    "max_lora_rank": "model.adapter",
    "max_num_seqs": "batching.max_rows",
    "gpu_memory_utilization": "batching.memory_fraction",
    "data_parallel_size": "run.workers",
    "seed": "run.seed",
    "generation_config": "decoding.preset",
    "override_generation_config": "decoding",
    "structured_outputs_config": "decoding.response_format",
}
"""Arguments that a key of the job sets."""
_SET_HERE = frozenset(
    {
        "collect_detailed_traces",
        "convert",
        "disable_log_stats",
        "enable_prompt_embeds",
        "hf_token",
        "log_config_file",
        "log_level",
        "logging_config",
        "logits_processors",
        "logprobs_mode",
        "max_logprobs",
        "otlp_traces_endpoint",
        "runner",
        "served_model_name",
        "skip_tokenizer_init",
        "tokens_only",
    }
)
"""Arguments with one value that works here, that may write prompts elsewhere, or that run code."""
_WITHOUT_INFLUENCE = frozenset(
    {
        "cudagraph_capture_sizes",
        "enforce_eager",
        "kv_cache_memory_bytes",
        "load_format",
        "max_cudagraph_capture_size",
        "max_num_batched_tokens",
        "max_parallel_loading_workers",
        "num_gpu_blocks_override",
        "use_tqdm_on_load",
    }
)
"""Arguments about speed, memory and loading: a run can be resumed with others."""


def engine_arguments(model: ModelSpec, folder: Path, batching: Batching) -> dict[str, object]:
    """The arguments of `EngineArgs` for a model, as plain values."""
    arguments: dict[str, object] = {
        "model": str(folder),
        "dtype": model.dtype,
        "seed": 0,
        "tensor_parallel_size": model.tensor_parallel,
        "trust_remote_code": model.trust_remote_code,
        "generation_config": "vllm",  # otherwise temperature and others come from the model's file
        "disable_log_stats": True,
        "enable_prefix_caching": True,
        "logprobs_mode": "raw_logprobs",
        "max_logprobs": MOST_TOP_LOGPROBS,
    }
    if model.tokenizer is not None:
        arguments["tokenizer"] = model.tokenizer
    if model.max_model_len is not None:
        arguments["max_model_len"] = model.max_model_len
    if batching.max_rows != "auto":
        arguments["max_num_seqs"] = batching.max_rows
    if model.adapter is not None:
        rank = largest_rank(Path(model.adapter))
        limit = next(one for one in _RANKS if one >= rank)
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": limit}
    return arguments | given_arguments(model)


def largest_rank(adapter: Path) -> int:
    """The largest rank of an adapter's matrices. Raises AdapterError."""
    read = read_adapter(adapter)
    return max((read.config.rank(module) for module in read.tensors.matrices), default=1)


def given_arguments(model: ModelSpec) -> dict[str, object]:
    """Those of the job."""
    return {name: value for name, value in model.engine_args.items() if name != SERVED}


def deciding_arguments(model: ModelSpec) -> dict[str, object]:
    """Those of the job that may change answers, by name."""
    given = sorted(given_arguments(model).items())
    return {name: value for name, value in given if name not in _WITHOUT_INFLUENCE}


def vllm_problems(job: Job, model: ModelSpec, key: str) -> Iterator[Problem]:
    """What is wrong with a section `model`, and with the keys of the job that only vLLM restricts."""
    installed = find_vllm()
    if installed is None:
        yield Problem(f"{key}.engine", MISSING, INSTALL)
    known = installed.engine_arguments() if installed else frozenset()
    for name in given_arguments(model):
        if (found := _argument_problem(name)) is not None:
            yield Problem(f"{key}.engine_args.{name}", *found)
        elif installed and name not in known:
            yield Problem(
                f"{key}.engine_args.{name}",
                f"vLLM {installed.version} has no such engine argument",
                "See the fields of EngineArgs in vLLM's documentation.",
            )
    if installed:
        own = engine_arguments(model.model_copy(update={"adapter": None, "engine_args": {}}), Path(), job.batching)  # fmt: skip
        if absent := sorted(own.keys() - known):
            yield Problem(
                f"{key}.engine",
                f"vLLM {installed.version} in {installed.folder} has no engine argument {', '.join(absent)}",
                "Install a newer version: pip install --upgrade vllm.",
            )
    if key == "model":
        yield from _decoding_problems(job)


def _argument_problem(name: str) -> tuple[str, str] | None:
    """Message and hint."""
    if name in _OWNED:
        return "is set by a key of the job", f"Remove it, and use {_OWNED[name]}."
    if name in _SET_HERE or name.startswith("data_parallel_"):
        return "is set by batchgen", "Remove it."
    return None


def _decoding_problems(job: Job) -> Iterator[Problem]:
    decoding = job.decoding
    temperature = decoding.temperature or 0.0
    if temperature and not is_computed(temperature):
        yield Problem(
            "decoding.temperature",
            f"engine vllm computes temperatures from {LEAST_TEMPERATURE} to {MOST_TEMPERATURE:g}, and 0",
            "Choose one of these, or another model.engine.",
        )
    form = decoding.response_format
    if form is not None and form.after:
        yield Problem(
            "decoding.response_format.after",
            "is not supported by engine vllm",
            "Remove it, or choose another model.engine.",
        )


def is_computed(temperature: float) -> bool:
    """Whether vLLM takes a temperature as it is."""
    return temperature == 0 or LEAST_TEMPERATURE <= temperature <= MOST_TEMPERATURE
