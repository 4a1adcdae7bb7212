"""The config of a LoRA adapter, `adapter_config.json`.

A key that changes the weights in a way that is not implemented is an error, and so is one that is unknown: peft adds
variants with new keys, and to ignore one would give other answers than in training.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

import regex
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from batchgen.section import PositiveInt, to_tuple

Number = TypeVar("Number", int, float)
ALL_LINEAR = "all-linear"
"""A value of `target_modules`: every linear layer except the output layer."""
_PATTERN_SECONDS = 1.0
"""Time limit for one match of a pattern of the file."""
_WITHOUT_EFFECT = frozenset(
    {
        "auto_mapping",
        "corda_config",
        "eva_config",
        "fan_in_fan_out",
        "inference_mode",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "task_type",
    }
)
"""Keys that concern training, or that the tensors and layers decide themselves."""
_PATTERNS = ("modules_to_save", "layers_pattern", "rank_pattern", "alpha_pattern")
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the weights of the base model as they are."""


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str | int) else to_tuple(value)


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class LoraConfig(BaseModel):
    """The keys that decide the merged weights; names and defaults are those of peft."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    base_model_name_or_path: str | None = None
    r: PositiveInt = 8
    lora_alpha: float = 8
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    ensure_weight_tying: bool = False
    bias: Literal["none", "all", "lora_only"] = "none"
    target_modules: Annotated[str | tuple[str, ...], BeforeValidator(to_tuple)] | None = None
    exclude_modules: Annotated[str | tuple[str, ...], BeforeValidator(to_tuple)] | None = None
    modules_to_save: Texts | None = None
    layers_to_transform: (
        Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_as_tuple)] | None
    ) = None
    layers_pattern: Texts | None = None
    rank_pattern: dict[str, PositiveInt] | None = None
    alpha_pattern: dict[str, float] | None = None

    @model_validator(mode="after")
    def _patterns_compile(self) -> Self:
        patterns = {key: getattr(self, key) or () for key in _PATTERNS} | {
            key: value
            for key in ("target_modules", "exclude_modules")
            if isinstance(value := getattr(self, key), str)
        }
        for key, values in patterns.items():
            for pattern in [values] if isinstance(values, str) else values:
                try:
                    regex.compile(pattern)
                except regex.error as error:
                    raise ValueError(f"{key}: {pattern!r} is not a pattern: {error}") from error
        return self

    @property
    def all_linear(self) -> bool:
        return isinstance(self.target_modules, str) and self.target_modules.lower() == ALL_LINEAR

    def rank(self, module: str) -> int:
        return _by_pattern(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """The factor of the product of a module's two matrices."""
        rank = self.rank(module)
        alpha = _by_pattern(self.alpha_pattern, module, self.lora_alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def saves(self, module: str) -> bool:
        """Whether a module was trained whole, as one of `modules_to_save` or as a part of one."""
        saved = self.modules_to_save or ()
        return any(_matches(rf"(.*\.)?{name}(\..*)?", module) for name in saved)

    def targets(self, module: str) -> bool:
        """Whether peft adapts a module of this name, if it is a layer of a kind that it can adapt.

        Without `target_modules`, and with `all-linear`, every module counts.

        Raises:
            TimeoutError: a pattern of the file needs too long.
        """
        if _listed(self.exclude_modules, module) or self.saves(module):
            return False
        if self.target_modules is None or self.all_linear:
            return True
        if isinstance(self.target_modules, str):
            return _matches(self.target_modules, module)
        if module in self.target_modules:
            return True
        return _listed(self.target_modules, module) and self._in_layers(module)

    def _in_layers(self, module: str) -> bool:
        if not self.layers_to_transform:
            return True
        named = [rf"(?:^|.*?\.){pattern}" for pattern in self.layers_pattern or ()]
        for start in named or [r".*?\.[^.]*"]:
            found = regex.match(rf"{start}\.(\d+)\.", module, timeout=_PATTERN_SECONDS)
            if found:
                return int(found[found.re.groups]) in self.layers_to_transform
        return False


def parse_lora_config(content: Mapping[str, Any]) -> tuple[LoraConfig | None, list[str]]:
    """The config, and what is wrong with it, a sentence each; None if it cannot be read at all."""
    kind = content.get("peft_type")
    if kind != "LORA":
        return None, [f"peft_type: {kind!r} is not supported; expected 'LORA'"]
    known = {*LoraConfig.model_fields, *_WITHOUT_EFFECT, "init_lora_weights"}
    problems = [
        f"{key}: {_shown(value)} is not supported"
        for key, value in content.items()
        if key not in known and value
    ]
    start = content.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        problems.append(
            f"init_lora_weights: {_shown(start)} is not supported: training began from changed weights of the base model"
        )
    try:
        return LoraConfig.model_validate(
            {key: content[key] for key in LoraConfig.model_fields if content.get(key) is not None}
        ), problems
    except ValidationError as error:
        return None, [*problems, *(_sentence(one) for one in error.errors())]


def _sentence(error: Mapping[str, Any]) -> str:
    key = ".".join(str(step) for step in error["loc"] if step != "function-before")
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}; found {_shown(error['input'])}" if key else message


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _by_pattern(patterns: Mapping[str, Number] | None, module: str, otherwise: Number) -> Number:
    """The value of the first pattern that matches the end of the name from a dot on, as in peft."""
    for pattern, value in (patterns or {}).items():
        if _matches(rf"(.*\.)?({pattern})", module):
            return value
    return otherwise


def _listed(names: str | Iterable[str] | None, module: str) -> bool:
    if not names:
        return False
    if isinstance(names, str):
        return _matches(names, module)
    return any(module == name or module.endswith(f".{name}") for name in names)


def _matches(pattern: str, module: str) -> bool:
    return regex.fullmatch(pattern, module, timeout=_PATTERN_SECONDS) is not None
