"""The section `model`: of a job, and of each judge."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from batchgen.section import NonEmptyText, PositiveInt, Role, Section


class ModelSpec(Section):
    """Which model generates the answers. A text instead of this section is its `path`."""

    path: Annotated[NonEmptyText | None, Role.CONTENT] = None
    """Folder, `demo:smollm2-135m`, or a model id of the hub. Required if the engine needs a model."""
    engine: NonEmptyText = "transformers"
    """The engine that generates the answers: see the table at the end."""
    revision: Annotated[NonEmptyText | None, Role.CONTENT] = None
    """Commit, tag or branch of a hub model."""
    tokenizer: Annotated[NonEmptyText | None, Role.CONTENT] = None
    """Folder or model id of another tokenizer."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """auto: on a GPU that of the checkpoint; on a CPU float32, since half precision is slower there."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:\d+)$"), Role.OPERATIONAL] = "auto"
    """auto: cuda if available, otherwise cpu. Or cpu, cuda (all GPUs, see `run.workers`), cuda:1 (only that GPU)."""
    attn_implementation: Literal["sdpa", "eager"] | None = None
    """Left out: the default of transformers for the model."""
    max_model_len: PositiveInt | None = None
    """Maximum length of prompt and answer together, in tokens. Left out: the value in the model's config."""
    trust_remote_code: Annotated[bool, Role.OPERATIONAL] = False
    """Run the Python code in the model's folder. Review that code first."""


def _path_alone(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


ModelOrPath = Annotated[ModelSpec, BeforeValidator(_path_alone)]
"""A model as a section, or its path alone."""
