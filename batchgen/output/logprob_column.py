"""The column `logprobs`: for each token of an answer its id, text and log-probability, and those of the most likely tokens.

[{token_id: 9, token: " is", logprob: -0.25, top_logprobs: [{token_id: 9, token: " is", logprob: -0.25}, ...]}, ...]
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchgen.records import TokenLogprobs

_TOKEN = [("token_id", pa.int32()), ("token", pa.string()), ("logprob", pa.float32())]
TOP_LOGPROBS = pa.list_(pa.struct(_TOKEN))
LOGPROBS = pa.list_(pa.struct([*_TOKEN, ("top_logprobs", TOP_LOGPROBS)]))


def logprob_column(answers: Sequence[TokenLogprobs | None]) -> pa.Array:
    """The column of these answers; null where nothing was recorded, tokens null where they are withheld."""
    known = [one for one in answers if one is not None]
    counts = [np.full(one.positions, one.width - 1) for one in known]
    tops = pa.ListArray.from_arrays(
        _offsets(counts),
        pa.StructArray.from_arrays(
            _columns(known, slice(1, None)), fields=list(TOP_LOGPROBS.value_type)
        ),
    )
    positions = pa.StructArray.from_arrays(
        [*_columns(known, slice(0, 1)), tops], fields=list(LOGPROBS.value_type)
    )
    lengths = np.array([0 if one is None else one.positions for one in answers], np.int64)
    missing = pa.array([one is None for one in answers], pa.bool_())
    return pa.ListArray.from_arrays(_offsets([lengths]), positions, mask=missing)


def read_logprobs(cell: Sequence[Mapping[str, Any]] | None) -> TokenLogprobs | None:
    """The log-probabilities in a cell of the column; inverse of `logprob_column`."""
    if not cell:
        return None
    entries = [entry for position in cell for entry in (position, *position["top_logprobs"])]
    withheld = cell[0]["token_id"] is None
    return TokenLogprobs(
        width=1 + len(cell[0]["top_logprobs"]),
        logprobs=array("f", [entry["logprob"] for entry in entries]),
        token_ids=array("i", () if withheld else [entry["token_id"] for entry in entries]),
        texts=() if withheld else tuple(entry["token"] for entry in entries),
    )


def _offsets(lengths: Sequence[npt.NDArray[np.int64]]) -> pa.Array:
    return pa.array(np.concatenate([[0], *lengths]).cumsum(), pa.int32())


def _columns(answers: Sequence[TokenLogprobs], entries: slice) -> list[pa.Array]:
    """Ids, texts and log-probabilities of some entries of each position."""

    def picked(values: Sequence[npt.NDArray[Any]], kind: type) -> npt.NDArray[Any]:
        tables = zip(values, answers, strict=True)
        cut = [one.reshape(-1, answer.width)[:, entries].ravel() for one, answer in tables]
        return np.concatenate([np.empty(0, kind), *cut])

    def or_zeros(one: TokenLogprobs) -> npt.NDArray[Any]:
        return np.array(one.token_ids or np.zeros(len(one.logprobs)), np.int32)

    withheld = picked([np.full(len(one.logprobs), not one.token_ids) for one in answers], bool)
    texts = [np.array(one.texts or np.full(len(one.logprobs), None), object) for one in answers]
    logprobs = [np.array(one.logprobs, np.float32) for one in answers]
    return [
        pa.array(picked([or_zeros(one) for one in answers], np.int32), mask=withheld),
        pa.array(picked(texts, object), pa.string()),
        pa.array(picked(logprobs, np.float32)),
    ]
