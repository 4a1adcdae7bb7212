"""How much arithmetic a job needs, and what this machine can do: their ratio is the MFU.

    floating-point operations of   a token through the layers      2 x weights of its products
                                   a token that draws              2 x weights of the head
                                   a token looking at a key        4 x heads x width, summed over layers

Useful is what an engine without any waste would compute: each distinct prompt token once, each new token once (the
last one of an answer never goes through the layers), no padding, nothing twice. Element-wise work is left out, as
usual. Formula: Chowdhery et al. 2022 (PaLM), appendix B, with grouped experts counted as chosen.
"""

import time
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

_PEAK_SIZE = 2048


@dataclass(frozen=True, slots=True)
class Costs:
    """Floating-point operations of a model.

    Attributes:
        token: of one token through all layers, without attention.
        draw: of the logits of one token.
        pair: of one token looking at one key, in all layers.
    """

    token: float
    draw: float
    pair: float


@dataclass(slots=True)
class Useful:
    """What answers needed, counted as they end."""

    tokens: int = 0
    draws: int = 0
    pairs: int = 0

    def add(self, first: int, last: int, draws: int) -> None:
        """A row's tokens first..last went through the layers; the ones before are shared and counted elsewhere."""
        self.tokens += last - first
        self.draws += draws
        self.pairs += (last * (last + 1) - first * (first + 1)) // 2

    def operations(self, costs: Costs) -> float:
        """Floating-point operations."""
        return self.tokens * costs.token + self.draws * costs.draw + self.pairs * costs.pair


@dataclass(slots=True)
class Clock:
    """Seconds of work, without the time that others take between two steps."""

    seconds: float = 0.0
    _since: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        """Work begins."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Work pauses."""
        self.seconds += time.perf_counter() - self._since


def costs(model: PreTrainedModel) -> Costs:
    """The costs of a model, from the shapes of its weights and its config."""
    config = model.config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    embeddings: nn.Module = model.get_input_embeddings()
    outside = {id(weight) for weight in embeddings.parameters()}
    head: nn.Module | None = model.get_output_embeddings()
    drawn = 0
    if head is not None:
        drawn = sum(weight.numel() for weight in head.parameters() if weight.dim() == 2)
        outside |= {id(weight) for weight in head.parameters()}
    inner = sum(
        weight.numel() * _chosen(name, weight.dim(), config)
        for name, weight in model.named_parameters()
        if weight.dim() >= 2 and id(weight) not in outside
    )
    return Costs(2.0 * inner, 2.0 * drawn, 4.0 * config.num_hidden_layers * heads * width)


def _chosen(name: str, dims: int, config: object) -> float:
    """Which share of a weight takes part in a token: of experts, those that are chosen."""
    del dims
    if "experts" not in name or "shared" in name:
        return 1.0
    known = ("num_local_experts", "num_experts", "n_routed_experts")
    experts = next((n for key in known if (n := getattr(config, key, None))), 1)
    return float(getattr(config, "num_experts_per_tok", experts)) / float(experts)


@torch.inference_mode()
def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of this process: the best of five products of 2048-square matrices."""
    one = torch.randn(_PEAK_SIZE, _PEAK_SIZE, device=device).to(dtype)
    other = torch.randn(_PEAK_SIZE, _PEAK_SIZE, device=device).to(dtype)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        product = one @ other
        # Reading a number waits for the device.
        float(product[0, 0])
        seconds.append(time.perf_counter() - begin)
    return 2.0 * _PEAK_SIZE**3 / min(seconds)
