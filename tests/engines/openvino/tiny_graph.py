"""A tiny Llama with random weights, as a folder that OpenVINO GenAI loads: about 200 kB, made in a second.

The graph has the form that optimum-intel gives to a model for text generation: keys and values are states of the graph.
"""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from openvino import opset13 as ops
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 97
_HEADS, _WIDTH = 4, 8


def tiny_llama(seed: int = 0) -> Any:
    """The model as transformers computes it."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=_HEADS * _WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        head_dim=_WIDTH,
        max_position_embeddings=256,
        initializer_range=0.4,  # so that the most likely token is clear
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    model: Any = LlamaForCausalLM(config)
    return model.eval()


def write_tiny_folder(folder: Path, seed: int = 0) -> Any:
    """Write graph, config and tokenizer; returns the same model of transformers."""
    model = tiny_llama(seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    graph = _GraphBuilder(model).build()
    openvino.save_model(graph, folder / "openvino_model.xml", compress_to_fp16=False)
    letters = {chr(33 + n): n + 3 for n in range(VOCABULARY - 4)}
    tokens = {"<unk>": 0, "<s>": 1, "</s>": 2, **letters, " ": VOCABULARY - 1}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    make: Any = PreTrainedTokenizerFast
    fast = make(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    return model


class _GraphBuilder:
    """Builds the graph of a Llama."""

    def __init__(self, model: Any) -> None:
        self._weights = {name: one.detach().numpy() for name, one in model.named_parameters()}
        self._layers = model.config.num_hidden_layers
        self._assigned: list[Any] = []
        self._ids, self._mask, self._positions = (
            _input(name, np.int64, 2) for name in ("input_ids", "attention_mask", "position_ids")
        )
        self._beams = _input("beam_idx", np.int32, 1)
        self._batch = ops.gather(ops.shape_of(self._ids), _ints(0), _ints(0))
        inverse = 1.0 / 10_000 ** (np.arange(0, _WIDTH, 2, dtype=np.float32) / _WIDTH)
        angles = ops.multiply(
            ops.unsqueeze(ops.convert(self._positions, "f32"), _ints(2)),
            ops.constant(np.tile(inverse, 2)[None, None].astype(np.float32)),
        )
        self._turn = [ops.unsqueeze(one(angles), _ints(1)) for one in (ops.cos, ops.sin)]
        seen = ops.subtract(ops.convert(self._mask, "f32"), _float(1.0))
        self._hidden = ops.unsqueeze(ops.multiply(seen, _float(1e9)), ops.constant([1, 2]))

    def build(self) -> openvino.Model:
        embedding = ops.constant(self._weights["model.embed_tokens.weight"])
        values = ops.gather(embedding, self._ids, _ints(0))
        for number in range(self._layers):
            values = self._layer(number, values)
        values = _norm(values, self._weights["model.norm.weight"])
        logits = ops.result(_product(values, self._weights["lm_head.weight"]))
        logits.output(0).get_tensor().set_names({"logits"})
        inputs = [self._ids, self._mask, self._positions, self._beams]
        return openvino.Model([logits], self._assigned, inputs, "tiny")

    def _layer(self, number: int, values: Any) -> Any:
        def weight(name: str) -> Any:
            return self._weights[f"model.layers.{number}.{name}.weight"]

        normed = _norm(values, weight("input_layernorm"))
        queries, keys, contents = (
            _heads(_product(normed, weight(f"self_attn.{n}_proj"))) for n in "qkv"
        )
        keys = self._kept(f"{number}.key", _turned(keys, self._turn))
        contents = self._kept(f"{number}.value", contents)
        queries = _turned(queries, self._turn)
        read = ops.scaled_dot_product_attention(queries, keys, contents, self._hidden)
        read = ops.transpose(read, ops.constant([0, 2, 1, 3]))
        joined = ops.reshape(read, ops.constant([0, 0, _HEADS * _WIDTH]), special_zero=True)
        values = ops.add(values, _product(joined, weight("self_attn.o_proj")))
        normed = _norm(values, weight("post_attention_layernorm"))
        gate = ops.swish(_product(normed, weight("mlp.gate_proj")))
        inner = ops.multiply(gate, _product(normed, weight("mlp.up_proj")))
        return ops.add(values, _product(inner, weight("mlp.down_proj")))

    def _kept(self, name: str, now: Any) -> Any:
        """Keys or values of all tokens so far: a state of the graph."""
        info = openvino.op.util.VariableInfo()
        info.data_shape = openvino.PartialShape([-1, _HEADS, -1, _WIDTH])
        info.data_type, info.variable_id = (
            openvino.Type.f32,
            f"past_key_values.{name}present.{name}",
        )
        variable = openvino.op.util.Variable(info)
        batch = ops.unsqueeze(self._batch, _ints(0))
        sizes = ops.concat([batch, ops.constant([_HEADS, 0, _WIDTH])], 0)
        before = ops.read_value(ops.broadcast(_float(0.0), sizes), variable)
        whole = ops.concat([ops.gather(before, self._beams, _ints(0)), now], 2)
        self._assigned.append(ops.assign(whole, variable))
        return whole


def _heads(values: Any) -> Any:
    split = ops.reshape(values, ops.constant([0, 0, _HEADS, _WIDTH]), special_zero=True)
    return ops.transpose(split, ops.constant([0, 2, 1, 3]))


def _input(name: str, kind: Any, rank: int) -> Any:
    made = ops.parameter(openvino.PartialShape([-1] * rank), kind)
    made.set_friendly_name(name)
    made.output(0).get_tensor().set_names({name})
    return made


def _ints(value: int) -> Any:
    return ops.constant(np.int64(value))


def _float(value: float) -> Any:
    return ops.constant(np.float32(value))


def _product(values: Any, weight: Any) -> Any:
    return ops.matmul(values, ops.constant(np.ascontiguousarray(weight)), False, True)


def _norm(values: Any, weight: Any) -> Any:
    mean = ops.reduce_mean(ops.power(values, _float(2.0)), _ints(-1), keep_dims=True)
    scale = ops.divide(_float(1.0), ops.sqrt(ops.add(mean, _float(1e-6))))
    return ops.multiply(ops.multiply(values, scale), ops.constant(weight))


def _turned(values: Any, turn: list[Any]) -> Any:
    """Rotary positions."""
    first, second = ops.split(values, _ints(3), 2).outputs()
    swapped = ops.concat([ops.multiply(second, _float(-1.0)), first], 3)
    return ops.add(ops.multiply(values, turn[0]), ops.multiply(swapped, turn[1]))
