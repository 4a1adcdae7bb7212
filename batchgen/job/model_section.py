"""What a job may say about a model: the one that answers, and those that judge answers.

Knows nothing of where models lie or of how they are run.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from batchgen.section import NonEmptyText, PositiveInt, Section


class ModelSpec(Section):
    """Which model answers. A plain text instead of this section is its `path`."""

    path: NonEmptyText | None = None
    """Folder, `demo:smollm2-135m`, or a model id of the hub. Required if the engine needs a model."""
    engine: NonEmptyText = "transformers"
    """What computes the answers: an engine of the table at the end."""
    revision: NonEmptyText | None = None
    """Commit, tag or branch of a hub model."""
    tokenizer: NonEmptyText | None = None
    """Folder or model id of another tokenizer."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """auto: the checkpoint's on a GPU; float32 on a CPU, where half precision is slower."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:\d+)$")] = "auto"
    """auto: cuda if there is one, else cpu. Or cpu, cuda (all GPUs, see `run.workers`), cuda:1 (only that one)."""
    attn_implementation: Literal["sdpa", "eager"] | None = None
    """Left out: what transformers chooses for the model."""
    max_model_len: PositiveInt | None = None
    """Longest prompt and answer together, in tokens. Left out: what the model's config says."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for models you have read."""


def _path_alone(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


ModelOrPath = Annotated[ModelSpec, BeforeValidator(_path_alone)]
"""A model as a section, or its path alone."""
