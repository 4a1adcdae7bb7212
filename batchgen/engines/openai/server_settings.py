"""The keys of a job's model section that are about servers: read and checked, without a connection."""

import importlib.util
import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from batchgen.engines.contract import SERVED
from batchgen.engines.openai.transport.base_url import BaseUrl, parse_base_url
from batchgen.errors import AddressError, JobKeyError, Problem
from batchgen.job.spec import Job, ModelSpec
from batchgen.section import DURATION_PATTERN, parse_duration

_ARGUMENTS = ("give_up", "timeout", "insecure")
_OF_A_TOKENIZER = ("tokenizer", "revision", "max_model_len")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the servers are and how long to wait for them, in seconds.

    Attributes:
        tokens: whether prompts are sent as token ids.
        key_variable: the environment variable with the key; None for servers without one.
    """

    urls: tuple[BaseUrl, ...]
    served_name: str | None
    tokens: bool
    key_variable: str | None
    give_up: float
    timeout: float

    def key(self) -> str:
        """The key, from the environment; empty for none."""
        return os.environ.get(self.key_variable, "") if self.key_variable else ""

    def tls(self) -> ssl.SSLContext | None:
        """How certificates are checked; None without https."""
        secure = any(url.scheme == "https" for url in self.urls)
        return ssl.create_default_context() if secure else None


def read_server_settings(model: ModelSpec) -> ServerSettings:
    """The settings of a section.

    Raises:
        JobKeyError: one is invalid.
    """
    given = {name: v for name, v in model.engine_args.items() if name != SERVED}
    for problem in section_problems(model.model_copy(update={"engine_args": given}), "model"):
        raise JobKeyError(problem.key, problem.message, hint=problem.hint)
    return ServerSettings(
        urls=tuple(map(parse_base_url, _url_texts(model))),
        served_name=model.served_name,
        tokens=model.path is not None,
        key_variable=model.api_key_env,
        give_up=_seconds(model.engine_args.get("give_up", "10m")),
        timeout=_seconds(model.engine_args.get("timeout", "10m")),
    )


def section_problems(model: ModelSpec, key: str) -> Iterator[Problem]:
    """What is wrong in a model section; `key` is its dotted key."""
    yield from _url_problems(model, key)
    yield from _key_problems(model, key)
    for name, value in model.engine_args.items():
        if (found := _argument_problem(name, value)) is not None:
            yield Problem(f"{key}.engine_args.{name}", *found)
    if model.path is None:
        for name in _OF_A_TOKENIZER:
            if getattr(model, name) is not None:
                message = f"has no effect without {key}.path: the server applies its own tokenizer"
                yield Problem(f"{key}.{name}", message, f"Remove it, or set {key}.path.")


def form_problems(job: Job) -> Iterator[Problem]:
    """What servers cannot do with the form of answers, or this process cannot check."""
    spec = job.decoding.response_format
    if spec is None:
        return
    if spec.after is not None:
        message = "is not supported by engine openai: the server decides where the form begins"
        yield Problem("decoding.response_format.after", message, "Remove it.")
    checked = "json_schema" in (spec.form, *spec.columns)
    if checked and importlib.util.find_spec("jsonschema_rs") is None:
        message = "needs the package jsonschema_rs, which checks the answers and is not installed"
        hint = "Run in batchgen's folder: pip install -e '.[structured]'."
        yield Problem("decoding.response_format", message, hint)


def prompt_problems(job: Job) -> Iterator[Problem]:
    """Keys of the prompt section that have no effect if the server applies the chat template."""
    if job.model.path is not None:
        return
    prompt = job.prompt
    given = {
        "chat_template": prompt.chat_template != "auto",
        "chat_template_kwargs": bool(prompt.chat_template_kwargs),
        "prefill": prompt.prefill is not None,
        "max_input_tokens": prompt.max_input_tokens is not None,
        "on_overflow": prompt.on_overflow != "error",
    }
    for name, is_given in given.items():
        if is_given:
            yield Problem(
                f"prompt.{name}",
                "needs the model's tokenizer: without model.path, messages are sent, and the server renders them",
                "Set model.path to the model's folder or id, or remove it.",
            )


def _url_texts(model: ModelSpec) -> tuple[str, ...]:
    url = model.base_url
    return () if url is None else (url,) if isinstance(url, str) else url


def _url_problems(model: ModelSpec, key: str) -> Iterator[Problem]:
    where = f"{key}.base_url"
    if model.base_url is None:
        hint = "Write the address of the server, such as http://127.0.0.1:8000/v1."
        yield Problem(where, "is required by engine openai", hint)
    insecure = model.engine_args.get("insecure") is True
    seen: set[BaseUrl] = set()
    for text in _url_texts(model):
        try:
            url = parse_base_url(text)
        except AddressError as error:
            yield Problem(where, error.message, error.hint)
            continue
        if url in seen:
            yield Problem(where, f"names {url} twice", "Name each server once.")
        seen.add(url)
        if url.scheme == "http" and not url.is_local and not insecure:
            message = f"{url} is a public address, and http:// sends prompts and key unencrypted"
            hint = f"Use https://, or set {key}.engine_args: {{insecure: true}}."
            yield Problem(where, message, hint)


def _key_problems(model: ModelSpec, key: str) -> Iterator[Problem]:
    name = model.api_key_env
    if name is None:
        return
    value = os.environ.get(name, "")
    if not value:
        message = f"the environment variable {name} is not set, or empty"
        yield Problem(f"{key}.api_key_env", message, f"Export {name}=...")
    elif not all("!" <= c <= "~" for c in value):
        message = f"the environment variable {name} contains spaces, line breaks or letters that are not ASCII"
        yield Problem(f"{key}.api_key_env", message, "Export the key alone.")


def _argument_problem(name: str, value: object) -> tuple[str, str] | None:
    """Message and hint."""
    if name not in _ARGUMENTS:
        return "unknown option of engine openai", f"Use one of {', '.join(_ARGUMENTS)}."
    if name == "insecure":
        return None if isinstance(value, bool) else ("expected true or false", "Write true.")
    if isinstance(value, str) and re.fullmatch(DURATION_PATTERN, value) and parse_duration(value):
        return None
    return "expected a length of time", "Write a number with d, h, m or s, such as 10m."


def _seconds(value: Any) -> float:  # noqa: ANN401  # of a free mapping
    return float(parse_duration(value))
