"""The section `model`: of a job, and of each judge."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from batchgen.section import (
    FreeMapping,
    NonEmptyText,
    NonEmptyTexts,
    PositiveInt,
    Role,
    Section,
)


class Price(Section):
    """engine openai: what a million tokens cost, in any currency. `plan` and the summary then give the cost."""

    input: Annotated[float, Field(ge=0)] = 0.0
    """Of prompts."""
    output: Annotated[float, Field(ge=0)] = 0.0
    """Of answers."""


class ModelSpec(Section):
    """Which model generates the answers. A text instead of this section is its `path`."""

    path: Annotated[NonEmptyText | None, Role.CONTENT] = None
    """Folder, GGUF file, `demo:smollm2-135m`, a model id of the hub, a GGUF file of the hub (`OWNER/NAME/file.gguf`), or a model of
    ModelScope (`modelscope:OWNER/NAME`; to download it, the extra `modelscope`, and `MODELSCOPE_ENDPOINT` for another address). Required
    if the engine needs a model. A GGUF file is converted once, to a folder in the cache with up to 4 bytes per parameter (needs the extra `demo`)."""
    engine: NonEmptyText = "transformers"
    """The engine that generates the answers: see the table at the end."""
    revision: Annotated[NonEmptyText | None, Role.CONTENT] = None
    """Commit, tag or branch of a model of the hub or ModelScope. Left out: the newest; a model in the cache is used as it is."""
    tokenizer: Annotated[NonEmptyText | None, Role.CONTENT] = None
    """Folder or model id of another tokenizer, also `modelscope:OWNER/NAME`."""
    adapter: Annotated[NonEmptyText | None, Role.CONTENT] = None
    """Folder or model id (also `modelscope:OWNER/NAME`) of a LoRA adapter as peft writes it, merged into the model when it is loaded. Supported: LoRA, rsLoRA, DoRA, rank and
    alpha patterns, `modules_to_save`, bias, adapters of embeddings. Its tokenizer is used only if `tokenizer` names the folder."""
    adapter_revision: Annotated[NonEmptyText | None, Role.CONTENT] = None
    """Commit, tag or branch of an adapter of the hub."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """auto: on a GPU that of the checkpoint; on a CPU bfloat16 if the checkpoint is in bfloat16, the processor has `amx_bf16` or
    `avx512_bf16`, and products in it are measured to be faster; otherwise float32. `plan` prints which and why. A run continues in
    the dtype in which it began, on every machine. bfloat16 halves weights, keys and values: 269 instead of 538 MB and 23 instead of
    46 KB a token in the demo model. Measured with it on two cores of an AMD EPYC (Zen 4, `avx512_bf16`): 48 prompts with 64 new
    tokens each take 6.6 s instead of 10.3 in float32; all products of a step 38 ms instead of 72 with 48 rows, 6 instead of 11 with
    one. On two cores of an Intel Xeon with `amx_bf16`, the same prompts take 3.8 s. Measured with 0.42 billion parameters on one
    thread of an AMD EPYC with AVX2 only, which has no bfloat16 products, so that
    the packed weights are float32 there: float32 10.7 new tokens/s with at most 2.64 GB of memory, bfloat16 11.1 with 2.60 GB.
    float16 takes about half the memory (1.37 GB); it is meant for GPUs, and a CPU without float16 products (`avx512_fp16`,
    `amx_fp16`) is several times slower in it than in float32. Weights of eight bits are not supported: products of 0.4 billion parameters
    took 48 ms instead of 67 with 4 rows, and 441 instead of 710 with 48, but their inputs have one scale for a whole batch, so that
    an answer would depend on its neighbours."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:\d+)$"), Role.OPERATIONAL] = "auto"
    """auto: cuda if available, otherwise cpu. Or cpu, cuda (all GPUs, see `run.workers`), cuda:1 (only that GPU)."""
    attn_implementation: Literal["sdpa", "eager"] | None = None
    """Left out: the default of transformers for the model."""
    max_model_len: PositiveInt | None = None
    """Maximum length of prompt and answer together, in tokens. Left out: the value in the model's config."""
    trust_remote_code: Annotated[bool, Role.OPERATIONAL] = False
    """Run the Python code in the model's folder. Review that code first."""
    base_url: Annotated[
        NonEmptyText | Annotated[NonEmptyTexts, Field(min_length=1)] | None, Role.OPERATIONAL
    ] = None
    """engine openai: address of the server up to and including `/v1`, or a list of servers of the same model. Prompts are sent there."""
    served_name: Annotated[NonEmptyText | None, Role.CONTENT] = None
    """engine openai: name of the model on the server. Left out: the only one that the server lists."""
    api_key_env: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None, Role.OPERATIONAL
    ] = None
    """engine openai: name of the environment variable with the server's key. The key itself is never written anywhere."""
    price: Annotated[Price | None, Role.OPERATIONAL] = None
    tensor_parallel: Annotated[PositiveInt, Role.OPERATIONAL] = 1
    """engine vllm: GPUs that compute one copy of the model together."""
    engine_args: Annotated[FreeMapping, Role.OPERATIONAL] = Field(default_factory=dict)
    """Options of the engine. vllm: arguments of vLLM's `EngineArgs`, such as `{enforce_eager: true, quantization: fp8}`, but for those that
    keys of the job set; a run is resumed only with those that can change answers unchanged. openai, where they decide no answer: `give_up` (default `10m`: a run without one good answer for so long stops
    with exit code 75), `timeout` (default `10m`, for one answer), `insecure` (send prompts over http:// to a public address)."""


def model_title(spec: ModelSpec) -> str:
    """The model and its adapter, as the job names them; empty if it names no model."""
    adapter = f" with adapter {spec.adapter}" if spec.adapter else ""
    return f"{spec.path or ''}{adapter}"


def _path_alone(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


ModelOrPath = Annotated[ModelSpec, BeforeValidator(_path_alone)]
"""A model as a section, or its path alone."""
