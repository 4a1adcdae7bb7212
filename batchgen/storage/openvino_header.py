"""What an OpenVINO model consists of, from `openvino_model.xml`, without reading its weights."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchgen.errors import ModelError
from batchgen.storage.entries import is_file

WeightFormat = Literal["safetensors", "openvino"]
"""The format of a model's weights; an engine reads one of them."""
OPENVINO_GRAPH = "openvino_model.xml"
OPENVINO_WEIGHTS = "openvino_model.bin"
_MOST_BYTES = 512 << 20
"""Of the graph; one of 100 layers has about 20 MB."""
_ATTRIBUTE = re.compile(rb'(\w+)="([^"]*)"')
_INPUT = re.compile(rb'name="(\w+)" type="Parameter"')
_STATE = re.compile(rb'variable_shape="([\d?,]+)"')
_FORMATS = {
    "f32": "float32", "f16": "float16", "bf16": "bfloat16",
    "u8": "int8", "i8": "int8", "u4": "int4", "i4": "int4", "u2": "int2",
}  # fmt: skip
_AGAIN = "Download or convert the model again; its two files belong together."


@dataclass(frozen=True, slots=True)
class OpenvinoHeader:
    """A graph and the sizes of its weights.

    Attributes:
        parameters: elements of the matrices.
        weight_bytes: size of the file with the weights.
        stored_as: the format of most elements, such as float16 or int4.
        cache_per_token: numbers that the model keeps for each token: keys and values.
        cache_per_row: those that it keeps for each row, whatever its length.
    """

    parameters: int
    weight_bytes: int
    stored_as: str
    cache_per_token: int
    cache_per_row: int

    @property
    def files(self) -> tuple[str, str]:
        """Names of the files."""
        return OPENVINO_GRAPH, OPENVINO_WEIGHTS


def is_openvino_folder(folder: Path) -> bool:
    """Whether a folder contains a graph of OpenVINO."""
    return is_file(folder / OPENVINO_GRAPH)


def read_openvino_header(folder: Path) -> OpenvinoHeader:
    """Read the graph of a folder, and check that the file with the weights is as long as the graph requires.

    Raises:
        ModelError: a file is missing, truncated or not OpenVINO's, or the graph is not that of a language model.
    """
    graph, weights = folder / OPENVINO_GRAPH, folder / OPENVINO_WEIGHTS
    if not is_file(graph):
        raise _no_graph(folder)
    if not is_file(weights):
        raise ModelError(f"{folder}: {OPENVINO_WEIGHTS} is missing", hint=_AGAIN)
    size, read = weights.stat().st_size, _read_graph(graph)
    if "input_ids" not in read.inputs:
        raise ModelError(
            f"{graph}: not the graph of a language model: no input input_ids",
            hint="Give the folder of a language model that optimum-intel has converted "
            "for text generation.",
        )
    if size < read.end:
        raise ModelError(
            f"{weights}: truncated: {size:,} bytes, but {OPENVINO_GRAPH} requires {read.end:,}",
            hint=_AGAIN,
        )
    if not read.kept:
        raise ModelError(
            f"{graph}: the graph keeps no keys and values between steps",
            hint="Convert the model again for text generation: "
            "`optimum-cli export openvino --task text-generation-with-past`.",
        )
    elements, kept = read.elements, read.kept
    stored_as = elements.most_common(1)[0][0] if elements else "float32"
    return OpenvinoHeader(elements.total(), size, stored_as, kept[True], kept[False])


def _read_graph(graph: Path) -> "_GraphReader":
    read = _GraphReader()
    try:
        for line in _lines(graph):
            read.add(line)
    except OSError as error:
        raise ModelError(f"{graph}: {error.strerror or error}") from error
    except (KeyError, ValueError) as error:
        raise ModelError(f"{graph}: damaged: a constant without its size", hint=_AGAIN) from error
    return read


class _GraphReader:
    """Collects what the lines of a graph state.

    Attributes:
        inputs: names of the graph's inputs.
        elements: of the matrices, by the format in which they are stored.
        kept: numbers between steps, for each token (True) and for each row.
        end: of the last constant in the file with the weights.
    """

    def __init__(self) -> None:
        self.inputs: set[str] = set()
        self.elements: Counter[str] = Counter()
        self.kept: Counter[bool] = Counter()
        self.end = 0

    def add(self, line: bytes) -> None:
        """Read a line. KeyError or ValueError if it is damaged."""
        if b"<data " in line and b'offset="' in line:
            self._add_constant(dict(_ATTRIBUTE.findall(line)))
        elif found := _INPUT.search(line):
            self.inputs.add(found[1].decode())
        elif found := _STATE.search(line):
            # The batch is one unknown size; the state of a token has another one.
            sizes = found[1].split(b",")
            known = math.prod(int(one) for one in sizes if one != b"?")
            self.kept[sizes.count(b"?") > 1] += known

    def _add_constant(self, constant: dict[bytes, bytes]) -> None:
        self.end = max(self.end, int(constant[b"offset"]) + int(constant[b"size"]))
        shape = [int(one) for one in constant[b"shape"].split(b",") if one.strip()]
        if len(shape) > 1 and shape[-1] > 1:  # a matrix, and not the scales of one
            kind = constant[b"element_type"].decode()
            self.elements[_FORMATS.get(kind, kind)] += math.prod(shape)


def _lines(graph: Path) -> Iterator[bytes]:
    if (size := graph.stat().st_size) > _MOST_BYTES:
        raise ModelError(f"{graph}: {size:,} bytes, expected at most {_MOST_BYTES:,}")
    with graph.open("rb") as opened:
        start = opened.read(256)
        if b"<net" not in start:
            raise ModelError(f"{graph}: not a graph of OpenVINO: no <net> element", hint=_AGAIN)
        opened.seek(0)
        yield from opened


def _no_graph(folder: Path) -> ModelError:
    if any(folder.glob("*.safetensors")):
        return ModelError(
            f"{folder}: the weights are in safetensors; engine openvino reads {OPENVINO_GRAPH}",
            hint="Set model.engine: transformers, or convert the model: "
            "`optimum-cli export openvino --model FOLDER NEW_FOLDER`.",
        )
    return ModelError(
        f"{folder}: not a folder of an OpenVINO model: no {OPENVINO_GRAPH}",
        hint=f"Give the folder that contains {OPENVINO_GRAPH}, {OPENVINO_WEIGHTS}, config.json "
        "and the tokenizer.",
    )
