"""Runs to review, and the server of a review in a thread."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import uvicorn

from batchgen.feedback.vote import Vote
from batchgen.feedback.votes_file import read_votes
from batchgen.jobfile.load import load_job
from batchgen.review.queue.review_queue import QueueOptions
from batchgen.review.queue.review_setup import ReviewOptions, ReviewSetup, prepare_review
from batchgen.review.server.review_session import ReviewSession
from batchgen.review.server.serve_review import ReviewServer, open_review
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder

MakeJob = Callable[..., Path]
MakeRun = Callable[..., Path]
Serve = Callable[..., ReviewServer]

QUESTIONS = [f"question number {n}" for n in range(10)]


@pytest.fixture
def answered(make_job: MakeJob, tmp_path: Path) -> MakeRun:
    """Run prompts; ids are `r0`, `r1` …, each answer is its prompt, of which `tokens` limits the length; `stored`: with prompts."""

    def made(
        name: str = "out",
        prompts: Sequence[str] = QUESTIONS,
        *,
        tokens: int = 256,
        columns: Mapping[str, Sequence[Any]] | None = None,
        evaluate: Mapping[str, Any] | None = None,
        stored: bool = True,
        **sections: Any,
    ) -> Path:
        table = [
            {"id": f"r{n}", "q": q, "gold": q if n % 2 else "other"}
            | {key: values[n] for key, values in (columns or {}).items()}
            for n, q in enumerate(prompts)
        ]
        scores = {"reference": "gold", "metrics": ["exact"]} if evaluate is None else evaluate
        job = make_job(
            table,
            evaluate=scores,
            output={"path": name, "store_prompt": stored},
            decoding={"max_new_tokens": tokens},
            **sections,
        )
        run(load_job(job))
        return tmp_path / name

    return made


def prepared(path: Path, other: Path | None = None, **options: Any) -> ReviewSetup:
    """A review with these options of the queue; rows in the order of the file unless `order` differs."""
    names = ("reviewer", "labels", "rubric", "masked")
    own = {name: options.pop(name) for name in names if name in options}
    queue = QueueOptions(**{"order": "file"} | options)
    return prepare_review(path, other, ReviewOptions(queue, **own))


def saved(path: Path) -> list[Vote]:
    """The votes in the folder of a run."""
    return list(read_votes(RunFolder(path.absolute())).votes)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a review in a thread until the test ends."""
    running: list[tuple[uvicorn.Server, Thread]] = []

    def started(setup: ReviewSetup, overlap: float | None = None) -> ReviewServer:
        opened = open_review(ReviewSession(setup, overlap), 0)
        ready = Event()
        server = opened.build(ready.set)
        thread = Thread(target=server.run, kwargs={"sockets": [opened.listener]})
        thread.start()
        running.append((server, thread))
        assert ready.wait(60)
        return opened

    yield started
    for server, thread in running:
        server.should_exit = True
        thread.join()
