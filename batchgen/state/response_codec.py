"""Lossless encoding of a Response as bytes, for the journal."""

import json
from array import array
from base64 import b64decode, b64encode
from dataclasses import fields
from datetime import datetime
from typing import Any

from batchgen.records import Failure, Message, Response, TokenLogprobs

_NAMES = tuple(field.name for field in fields(Response))


def encode(response: Response) -> bytes:
    """JSON in ASCII: an array with the fields in the order of `Response`."""
    values: list[Any] = [getattr(response, name) for name in _NAMES]
    return json.dumps(values, default=_plain, separators=(",", ":")).encode("ascii")


def decode(content: bytes) -> Response:
    """Inverse of `encode`. Fields that an earlier version did not have are last and keep their defaults."""
    values: dict[str, Any] = dict(zip(_NAMES, json.loads(content), strict=False))
    values["messages"] = tuple(Message(**message) for message in values["messages"])
    values["failure"] = Failure(**values["failure"]) if values["failure"] else None
    values["created_at"] = datetime.fromisoformat(values["created_at"])
    if recorded := values.get("token_logprobs"):
        values["token_logprobs"] = TokenLogprobs(
            recorded["width"],
            array("f", b64decode(recorded["logprobs"])),
            array("i", b64decode(recorded["token_ids"])),
            tuple(recorded["texts"]),
        )
    if labels := values.get("label_logprobs"):
        values["label_logprobs"] = tuple((label, logprob) for label, logprob in labels)
    return Response(**values)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Message | Failure):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, TokenLogprobs):
        return {
            "width": value.width,
            "logprobs": b64encode(value.logprobs.tobytes()).decode(),
            "token_ids": b64encode(value.token_ids.tobytes()).decode(),
            "texts": value.texts,
        }
    raise TypeError(f"a response cannot hold {type(value).__name__}")
