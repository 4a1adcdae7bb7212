"""Compares the tokenizer and the chat template of this machine with those of a server, where it shows them.

/detokenize (llama.cpp, vLLM)                          token ids that are sent must mean the same text there
/apply-template (llama.cpp), /tokenize of messages (vLLM)    whether the server would render the same prompt
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from batchgen.engines.openai.answer_json import parse_json
from batchgen.engines.openai.server_settings import ServerSettings
from batchgen.engines.openai.transport.base_url import BaseUrl
from batchgen.engines.openai.transport.http_connection import ConnectionLostError, HttpConnection
from batchgen.engines.served_tokenizer_sample import TokenizerSample

_SECONDS = 30.0


def open_root(settings: ServerSettings, url: BaseUrl) -> HttpConnection:
    """A connection to the paths of a server outside OpenAI's API."""
    root = replace(url, path=url.path.removesuffix("/v1"))
    return HttpConnection(root, settings.key(), _SECONDS, settings.tls())


def compare_tokenizer(
    connection: HttpConnection,
    served_name: str,
    sample: TokenizerSample,
    report: Callable[[str], None],
) -> str:
    """How the server's tokenizer differs; empty if it does not, or does not show itself, which is reported."""
    server, url = _Shown(connection, served_name), connection.url
    try:
        text = server.text(sample.token_ids)
        if text is None:
            report(f"{url} does not show its tokenizer: it is not compared with that of model.path")
            return ""
        if _letters(text) != _letters(sample.text):
            return f"token ids mean another text to {url} than to this tokenizer"
        same = server.renders(sample)
    finally:
        connection.close()
    if same is None:
        report(f"{url} does not show its chat template: it is not compared with the local one")
    if same is False:
        report(
            f"{url} has another chat template: prompts are rendered here, with the one that plan shows"
        )
    return ""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a server shows of its tokenizer."""

    connection: HttpConnection
    served_name: str

    def text(self, token_ids: tuple[int, ...]) -> str | None:
        """The text of tokens; None if the server has no such path."""
        answer = self._post("/detokenize", {"tokens": list(token_ids)})
        found = answer.get("content", answer.get("prompt"))
        return found if isinstance(found, str) else None

    def renders(self, sample: TokenizerSample) -> bool | None:
        """Whether the server renders the messages of the sample as this process does; None if it does not show that."""
        messages = [{"role": role, "content": content} for role, content in sample.messages]
        text = self._post("/apply-template", {"messages": messages}).get("prompt")
        if isinstance(text, str):
            # The server's tokenizer writes the mark of a beginning, if there is one.
            return bool(text.strip()) and sample.rendered.strip().endswith(text.strip())
        tokens = self._post("/tokenize", {"messages": messages}).get("tokens")
        return tokens == list(sample.rendered_ids) if isinstance(tokens, list) else None

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer; empty if there is none."""
        sent = json.dumps({"model": self.served_name, **body}).encode()
        try:
            reply = self.connection.send("POST", path, sent)
        except ConnectionLostError:
            return {}
        return (parse_json(reply.body) or {}) if reply.status == 200 else {}


def _letters(text: str) -> str:
    """The text without white space, which tokenizers add and remove at the start of a text."""
    return "".join(text.split())
