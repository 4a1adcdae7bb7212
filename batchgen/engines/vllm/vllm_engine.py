"""Requests go to vLLM as it has room, and completions come back as they end. Runs in the process that imports vLLM.

requests ──pulled──> add_request ─┐
completions <── step <────────────┴── at most twice as many requests as vLLM computes at a time
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from batchgen.engines.pulled import Pulled
from batchgen.engines.vllm.answer_task import AnswerTask
from batchgen.engines.vllm.engine_death import CoreWatch, death_error
from batchgen.engines.vllm.label_task import label_tasks
from batchgen.engines.vllm.request_settings import form_settings
from batchgen.engines.vllm.text_score import STEP_TOKENS, TextScore
from batchgen.engines.vllm.vllm_arguments import is_computed
from batchgen.engines.vllm.vllm_task import Result, VllmOutput, VllmTask
from batchgen.errors import ModelError
from batchgen.records import (
    AnswerDecoder,
    Completion,
    Continuation,
    InFlight,
    Likelihood,
    Request,
)

NAME = "vllm"
_OTHER_VERSION = "Report it to vLLM, and use another version of it."


class VllmEngine:
    """One engine of vLLM."""

    name = NAME

    def __init__(
        self,
        engine: Any,  # noqa: ANN401  vLLM's LLMEngine: it has no types here
        *,
        decode: AnswerDecoder,
        should_stop: Callable[[], bool],
        facts: Mapping[str, object],
        adapter: Any = None,  # noqa: ANN401  vLLM's LoRARequest
    ) -> None:
        self._engine, self._decode, self._should_stop = engine, decode, should_stop
        self._facts, self._adapter = facts, adapter
        self._window = 2 * engine.vllm_config.scheduler_config.max_num_seqs
        self._requests = 0
        self._scored_tokens = 0
        self._is_dead = False
        self._watch = CoreWatch(lambda: _has_lost_its_core(engine))
        self._running: Mapping[str, VllmTask[object]] = {}

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """As `Engine.generate`.

        Raises:
            DeathError: vLLM's engine has died.
            ModelError: vLLM returns something else than it was asked for.
        """
        return self._perform(self._answer_tasks(requests))

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
        """As `Engine.likelihoods`; a context is computed once for each of its continuations. Raises as `generate`."""
        return self._perform(TextScore(one) for one in continuations)

    def in_flight(self) -> InFlight:
        tasks = list(self._running.values())
        return InFlight(len(tasks), sum(one.new_tokens for one in tasks))

    def facts(self) -> Mapping[str, object]:
        return {**self._facts, "requests": self._requests}

    def close(self) -> None:
        """End the processes of vLLM."""
        self._engine.engine_core.shutdown()

    def _answer_tasks(self, requests: Iterable[Request]) -> Iterator[VllmTask[Completion]]:
        source, waiting = iter(requests), deque[VllmTask[Completion]]()

        def pull() -> VllmTask[Completion] | None:
            if not waiting and (request := next(source, None)) is not None:
                one = AnswerTask(request, self._decode)
                waiting.extend(label_tasks(request) if request.label_tokens else [one])
            return waiting.popleft() if waiting else None

        return Pulled(pull)

    def _perform(self, tasks: Iterator[VllmTask[Result]]) -> Iterator[Result]:
        """The results of all tasks, in the order in which they end."""
        running: dict[str, VllmTask[Result]] = {}
        self._running, self._scored_tokens = running, 0
        try:
            while not self._should_stop():
                yield from self._fill(running, tasks)
                if not running:
                    return
                yield from self._step(running)
        finally:
            if running and not self._is_dead:
                self._engine.abort_request(list(running))
            running.clear()

    def _fill(
        self, running: dict[str, VllmTask[Result]], tasks: Iterator[VllmTask[Result]]
    ) -> Iterator[Result]:
        """Hand tasks to vLLM; yields the results of those that it refuses."""
        while len(running) < self._window and self._scored_tokens < STEP_TOKENS:
            if (task := next(tasks, None)) is None:
                return
            if not self._add(running, task):
                yield from task.refused()

    def _add(self, running: dict[str, VllmTask[Result]], task: VllmTask[Result]) -> bool:
        """Whether vLLM takes the task."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        self._requests += 1
        key, settings = str(self._requests), task.settings()
        kind = RequestOutputKind.DELTA if task.every_step else RequestOutputKind.FINAL_ONLY
        if not is_computed(settings["temperature"]):
            return False
        try:
            if task.form is not None:
                form = StructuredOutputsParams(**form_settings(task.form))
                settings["structured_outputs"] = form
            params = SamplingParams(**settings, output_kind=kind)
            prompt = {"prompt_token_ids": list(task.prompt)}
            self._engine.add_request(key, prompt, params, lora_request=self._adapter)
        except _refusals():
            return False
        except Exception as error:
            self._is_dead = True
            raise death_error(error) from error
        running[key] = task
        self._scored_tokens += task.scored_tokens
        return True

    def _step(self, running: dict[str, VllmTask[Result]]) -> Iterator[Result]:
        """Compute a step; yields the results of the tasks that end with it."""
        outputs = self._outputs()
        if not outputs and not self._engine.has_unfinished_requests():
            raise ModelError(f"vLLM has lost {len(running)} requests", hint=_OTHER_VERSION)
        for output in outputs:
            key = output.request_id
            if not (key.isdecimal() and 1 <= int(key) <= self._requests):
                raise ModelError(
                    "vLLM answered a request that it was not sent", hint=_OTHER_VERSION
                )
            if (task := running.get(key)) is None:
                continue  # stopped before
            results = task.advance(_read(output))
            if results is None and not output.finished:
                continue
            del running[key]
            self._scored_tokens -= task.scored_tokens
            if results is None:
                self._add(running, task)  # vLLM took it before
            else:
                if not output.finished:
                    self._engine.abort_request([key])
                yield from results

    def _outputs(self) -> list[Any]:
        try:
            with self._watch.waiting():
                outputs: list[Any] = self._engine.step()
        except Exception as error:
            self._is_dead = True
            raise death_error(error) from error
        return outputs


def _has_lost_its_core(engine: Any) -> bool:  # noqa: ANN401
    """What vLLM's own thread has noticed; False where the core is not a process."""
    resources = getattr(engine.engine_core, "resources", None)
    return bool(getattr(resources, "engine_dead", False))


def _read(output: Any) -> VllmOutput:  # noqa: ANN401  vLLM's RequestOutput
    part = output.outputs[0]
    reason = str(part.finish_reason) if output.finished else None
    return VllmOutput(part.token_ids, part.logprobs, reason, output.prompt_logprobs)


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it cannot compute. Some versions raise ValueError, others a class of their own."""
    from vllm import exceptions

    own: type[Exception] = getattr(exceptions, "VLLMClientError", ValueError)
    return (ValueError, TypeError, own)
