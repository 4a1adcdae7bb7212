"""A job's model, open to answer one prompt at a time, whose text is shown while it grows."""

import gc
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Self

from batchgen.decoding.rng import row_seed
from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.jobfile.load import LoadedJob
from batchgen.progress import SILENT, Reporter
from batchgen.records import Completion, Failure, FinishReason, Message, Prompt, Request
from batchgen.run.setup import Setup, set_up

Show = Callable[[str], None]
"""Receives the next piece of an answer's text."""
_SECONDS_BETWEEN_PIECES = 0.05


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """The answer to one prompt.

    Attributes:
        finish_reason: None if it was stopped by Ctrl-C.
        failure: why the row failed; None with an answer.
        completion: what the engine gave; None if it was stopped.
    """

    text: str
    tokens: int
    finish_reason: FinishReason | None
    failure: Failure | None = None
    completion: Completion | None = None


class LiveModel:
    """An engine and what turns messages into its requests. Opened by `open_live_model`."""

    def __init__(self, setup: Setup, engine: Engine, stop: threading.Event) -> None:
        self.setup = setup
        self._engine = engine
        self._stop = stop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the engine, whose objects refer to each other, and its memory."""
        self._engine.close()
        del self._engine
        gc.collect()

    def with_job(self, loaded: LoadedJob) -> "LiveModel | None":
        """The same engine for a job with other prompts or decoding; None if its model is another one."""
        old = self.setup.job
        same = (old.model, old.batching) == (loaded.job.model, loaded.job.batching)
        return LiveModel(set_up(_alone(loaded)), self._engine, self._stop) if same else None

    def encode(self, messages: Sequence[Message], attempt: int = 0) -> Request | Failure:
        """The request for the next answer of a conversation; sampled answers differ by `attempt`."""
        prompt = Prompt(0, "chat", tuple(messages))
        (token_ids,) = self.setup.tokenizer.encode([prompt])
        if isinstance(token_ids, Failure):
            return token_ids
        builder = self.setup.request_builder
        room = builder.context_length - builder.decoding.max_new_tokens
        if len(token_ids) > room:
            text = (
                f"{len(token_ids):,} tokens, expected at most {max(room, 0):,}: {builder.context_owner} is "
                f"{builder.context_length:,} tokens and max_new_tokens {builder.decoding.max_new_tokens:,}"
            )
            return Failure("prompt_too_long", text)
        seed = row_seed(self.setup.job.run.seed, f"chat {len(messages)}", attempt)
        return Request(0, 0, token_ids, builder.decoding, seed, prompt)

    def answer(self, request: Request, show: Show) -> LiveAnswer:
        """Answer a request. `show` receives the text in pieces; Ctrl-C ends the answer, not the program."""
        growing = _GrowingText(self._engine, self.setup, request, show)
        self._stop.clear()
        with _interrupts_set(self._stop), growing.drawn():
            done = next(iter(self._engine.generate([request])), None)
        if done is None:
            return LiveAnswer(growing.shown, growing.tokens, None)
        if done.failure is None:
            growing.finish(done)
        return LiveAnswer(done.text, done.new_tokens, done.finish_reason, done.failure, done)


def open_live_model(loaded: LoadedJob, reporter: Reporter = SILENT) -> LiveModel:
    """Load the model of a job into this process.

    Raises:
        BatchgenError: the job cannot run on this machine.
    """
    stop = threading.Event()
    setup = set_up(_alone(loaded), reporter)
    reporter.info("loading the model")
    return LiveModel(setup, setup.scoring_model.open(open_engine, stop.is_set), stop)


def _alone(loaded: LoadedJob) -> LoadedJob:
    """The job with one worker: the tokens of a row that another process computes cannot be shown while it grows."""
    job = loaded.job
    run = job.run.model_copy(update={"workers": 1})
    return replace(loaded, job=job.model_copy(update={"run": run}))


class _GrowingText:
    """The text of an answer so far, read from the engine while it computes."""

    def __init__(self, engine: Engine, setup: Setup, request: Request, show: Show) -> None:
        self._engine, self._request, self._show = engine, request, show
        self._decode = setup.tokenizer.decode
        self.shown, self.tokens = "", 0

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Show new text twenty times a second, from a thread, until the block ends."""
        ended = threading.Event()

        def draw() -> None:
            while not ended.wait(_SECONDS_BETWEEN_PIECES):
                self._update()

        thread = threading.Thread(target=draw, name="batchgen answer", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def finish(self, done: Completion) -> None:
        """Show the rest of the whole answer; all of it again if what was shown is not its start, such as a stop string."""
        if done.text.startswith(self.shown):
            self._show(done.text[len(self.shown) :])
        else:
            self._show(f"\n{done.text}")

    def _update(self) -> None:
        request = self._request
        tokens = self._engine.in_flight().answers.get((request.index, request.sample), ())
        if len(tokens) <= self.tokens:
            return
        text = self._decode.decode_complete(tokens, request.token_ids)
        self.tokens = len(tokens)
        if text.startswith(self.shown):
            self._show(text[len(self.shown) :])
            self.shown = text


@contextmanager
def _interrupts_set(stop: threading.Event) -> Iterator[None]:
    """While the block runs in the main thread, SIGINT sets `stop`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
