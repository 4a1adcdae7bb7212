"""A stand-in for the package vllm, without a model: it repeats prompts, one token a step, and misbehaves on demand.

`write_package` writes a package `vllm` whose modules import this one. The environment variable FAKE_VLLM holds JSON: what
happens to a request whose prompt contains a token, by the token's id, and `load` for what happens at the start.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SECRET = "the text of a row"
ARGUMENTS = {
    "model": "''",
    "tokenizer": "None",
    "dtype": "'auto'",
    "seed": "0",
    "max_model_len": "None",
    "max_num_seqs": "None",
    "tensor_parallel_size": "1",
    "trust_remote_code": "False",
    "generation_config": "'auto'",
    "disable_log_stats": "False",
    "enable_prefix_caching": "None",
    "logprobs_mode": "'raw_logprobs'",
    "max_logprobs": "20",
    "gpu_memory_utilization": "0.9",
    "kv_cache_memory_bytes": "None",
    "structured_outputs_config": "None",
    "enable_lora": "False",
    "max_loras": "1",
    "max_lora_rank": "16",
    "enforce_eager": "False",
    "quantization": "None",
}
_MODULES = {
    "__init__": "from tests.engines.vllm.fake_vllm import SamplingParams, announce\n"
    "from vllm.engine.arg_utils import EngineArgs\nannounce()\n",
    "config": "from tests.engines.vllm.fake_vllm import StructuredOutputsConfig\n",
    "exceptions": "from tests.engines.vllm.fake_vllm import VLLMClientError\n",
    "sampling_params": "from tests.engines.vllm.fake_vllm import RequestOutputKind, StructuredOutputsParams\n",
    "engine/__init__": "",
    "lora/__init__": "",
    "lora/request": "from tests.engines.vllm.fake_vllm import LoRARequest\n",
    "usage/__init__": "",
    "usage/usage_lib": "from tests.engines.vllm.fake_vllm import UsageContext\n",
    "v1/__init__": "",
    "v1/engine/__init__": "",
    "v1/engine/exceptions": "from tests.engines.vllm.fake_vllm import EngineDeadError\n",
    "v1/engine/llm_engine": "from tests.engines.vllm.fake_vllm import LLMEngine\n",
}


def write_package(folder: Path, *, without: str = "", version: str = "0.99.0+cpu") -> None:
    """Write the package and its metadata; `without` is an argument that its `EngineArgs` does not have."""
    for name, text in _MODULES.items():
        file = folder / "vllm" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    lines = [f"    {n}: object = {value}\n" for n, value in ARGUMENTS.items() if n != without]
    head = "from dataclasses import dataclass\n\n\n@dataclass\nclass EngineArgs:\n"
    (folder / "vllm/engine/arg_utils.py").write_text(head + "".join(lines), "utf-8")
    metadata = folder / f"vllm-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n", "utf-8")


def announce() -> None:
    """What vLLM does when it is imported: it prints, and it would send statistics."""
    say("imported")
    needed = ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_OFFLINE")
    if absent := [name for name in needed if os.environ.get(name) != "1"]:
        raise ImportError(f"{absent} must be set before vLLM is imported")


def say(text: str) -> None:
    os.write(1, f"stdout: {text}\n".encode())
    os.write(2, f"stderr: {text}\n".encode())


class VLLMClientError(Exception):
    """Not a ValueError, as in vLLM 0.32."""


class EngineDeadError(Exception):
    pass


class UsageContext(Enum):
    LLM_CLASS = "LLM_CLASS"


class RequestOutputKind(Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class StructuredOutputsConfig:
    backend: str


@dataclass
class StructuredOutputsParams:
    json: str | None = None
    regex: str | None = None
    grammar: str | None = None


@dataclass
class LoRARequest:
    name: str
    number: int
    folder: str


@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 16
    min_tokens: int = 0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    detokenize: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    structured_outputs: StructuredOutputsParams | None = None


@dataclass
class Logprob:
    logprob: float
    rank: int


@dataclass
class _Running:
    key: str
    prompt: list[int]
    params: SamplingParams
    made: list[int] = field(default_factory=list)
    sent: int = 0

    def next_token(self) -> int:
        ends = self.params.stop_token_ids or []
        place = len(self.made)
        if place >= len(self.prompt) and ends and place >= self.params.min_tokens:
            return ends[0]
        return self.prompt[place % len(self.prompt)]

    def finish(self) -> str | None:
        if self.made[-1] in (self.params.stop_token_ids or []):
            return "stop"
        return "length" if len(self.made) >= self.params.max_tokens else None

    def output(self, reason: str | None) -> Any:
        tokens = self.made[self.sent :]
        self.sent = len(self.made)
        part = SimpleNamespace(
            token_ids=tokens,
            finish_reason=reason,
            logprobs=[self._likely(token) for token in tokens]
            if self.params.logprobs is not None
            else None,
        )
        return SimpleNamespace(
            request_id=self.key,
            finished=reason is not None,
            outputs=[part],
            prompt_logprobs=self._prompt_logprobs(),
        )

    def _likely(self, token: int) -> dict[int, Logprob]:
        others = range(1, 1 + (self.params.logprobs or 0))
        return {token: Logprob(-0.5, 1)} | {token + n: Logprob(-0.5 - n, 1 + n) for n in others}

    def _prompt_logprobs(self) -> list[dict[int, Logprob] | None] | None:
        if self.params.prompt_logprobs is None:
            return None
        rest = self.prompt[1:]
        return [None, *({token: Logprob(-float(token), 1 + token % 2)} for token in rest)]


class _Core:
    """The process of the engine core."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"])

    @property
    def resources(self) -> SimpleNamespace:
        return SimpleNamespace(engine_dead=self.process.poll() is not None)

    def shutdown(self) -> None:
        self.process.terminate()
        self.process.wait()


class LLMEngine:
    def __init__(self, arguments: Any) -> None:
        self.behaviour = json.loads(os.environ.get("FAKE_VLLM", "{}"))
        if (error := self.behaviour.get("load")) is not None:
            prefix = "(EngineCore pid=17) ERROR 11-30 02:53:43 [core.py:99] "
            for line in ("Traceback (most recent call last):", '  File "x.py", line 3', error):
                say(f"{prefix}{line}" if line != error else line)
                os.write(2, f"{prefix}{line}\n".encode())
            raise RuntimeError("Engine core initialization failed. See root cause above.")
        self.engine_core = _Core()
        if file := os.environ.get("FAKE_VLLM_PIDS"):
            pids = f"{os.getpid()} {self.engine_core.process.pid}"
            Path(file).write_text(pids, "utf-8")
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(dtype="torch.float32", quantization=None),
            scheduler_config=SimpleNamespace(max_num_seqs=arguments.max_num_seqs or 4),
        )
        self._context = arguments.max_model_len or 512
        self._adapter = arguments.enable_lora
        self._waiting: deque[_Running] = deque()
        self._extra: list[Any] = []
        self._failed: set[tuple[int, ...]] = set()

    @classmethod
    def from_engine_args(cls, arguments: Any, usage_context: UsageContext) -> "LLMEngine":
        assert usage_context is UsageContext.LLM_CLASS
        assert arguments.structured_outputs_config.backend == "guidance"
        return cls(arguments)

    def add_request(
        self, key: str, prompt: Any, params: SamplingParams, lora_request: LoRARequest | None
    ) -> None:
        ids = prompt["prompt_token_ids"]
        if self.engine_core.process.poll() is not None:
            raise EngineDeadError
        if len(ids) + 1 > self._context or self._does(ids) == "refuse":
            raise VLLMClientError(SECRET)
        assert (lora_request is not None) == self._adapter
        assert len(self._waiting) < 2 * self.vllm_config.scheduler_config.max_num_seqs
        self._waiting.append(_Running(key, ids, params))

    def abort_request(self, keys: list[str]) -> None:
        assert self.engine_core.process.poll() is None
        self._waiting = deque(one for one in self._waiting if one.key not in keys)

    def has_unfinished_requests(self) -> bool:
        return bool(self._waiting)

    def step(self) -> list[Any]:
        if self.engine_core.process.poll() is not None:
            time.sleep(900)  # vLLM 0.32 waits for ever
        outputs, self._extra = self._extra, []
        for one in list(self._waiting)[: self.vllm_config.scheduler_config.max_num_seqs]:
            outputs += self._advance(one)
        return outputs

    def _does(self, ids: list[int]) -> str:
        return next((self.behaviour[str(n)] for n in ids if str(n) in self.behaviour), "")

    def _advance(self, one: _Running) -> list[Any]:
        does, reason = self._does(one.prompt), None
        self._misbehave(does)
        if does == "lose":
            self._waiting.remove(one)
            return []
        if does == "error" or (does == "error once" and tuple(one.prompt) not in self._failed):
            self._failed.add(tuple(one.prompt))
            reason = "error"
        else:
            one.made.append(one.next_token())
            reason = one.finish()
        if reason is not None:
            self._waiting.remove(one)
        if reason is None and one.params.output_kind is RequestOutputKind.FINAL_ONLY:
            return []
        output = one.output(reason)
        if does == "twice" and reason is not None:
            self._extra.append(output)
        if does == "wrong id":
            output.request_id = "another-1"
        return [output]

    def _misbehave(self, does: str) -> None:
        if does == "print":
            say(SECRET)
        elif does == "die":
            say(f"Traceback\ntorch.OutOfMemoryError: {SECRET}")
            raise EngineDeadError
        elif does == "crash":
            raise RuntimeError(SECRET)
        elif does == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif does == "kill core":
            self.engine_core.process.kill()
            self.engine_core.process.wait()
            time.sleep(900)  # vLLM 0.32 waits for ever
        elif does == "hang":
            time.sleep(900)
