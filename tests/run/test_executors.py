"""A run makes its parts through an executor; any order of parts, and any number of tasks, give the same answers."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from batchgen.engines.engine_registry import open_engine
from batchgen.evaluation.model_queries.scoring_model import LazyEngine
from batchgen.jobfile.load import load_job
from batchgen.run.executors.executor import MadeParts, PartsTask
from batchgen.run.executors.this_process import LocalExecutor
from batchgen.run.run import run
from batchgen.state.journal import NoJournal

OF_THE_RUN = ("run_id", "created_at")


@dataclass
class OneByOne:
    """Makes each part in a task of its own, in another order, as machines do that take parts from one queue."""

    order: Callable[[list[int]], list[int]]
    most: int = 1_000_000
    made: list[int] = field(default_factory=list)
    publishes: bool = True

    def make_parts(self, task: PartsTask) -> MadeParts:
        engine = LazyEngine(lambda: task.setup.scoring_model.open(open_engine, lambda: False))
        local = LocalExecutor(NoJournal(), engine, open_engine)
        made = MadeParts({}, 0)
        for number in self.order(list(task.numbers))[: self.most]:
            one = local.make_parts(replace(task, numbers=[number]))
            made = replace(one, sealed={**made.sealed, **one.sealed})
            self.made.append(number)
        return made


@pytest.mark.parametrize("order", [sorted, lambda numbers: sorted(numbers, reverse=True)])
def test_the_answers_do_not_depend_on_the_executor(
    make_job: Callable[..., Path], order: Callable[[list[int]], list[int]]
) -> None:
    job = make_job([{"q": "x" * (n % 9)} for n in range(50)], batching={"part_rows": 8})
    whole = run(load_job(job, overrides=["output.path=whole"])).frame()
    executor = OneByOne(order)
    done = run(load_job(job), executor=executor)
    assert done.outcome == "done"
    assert executor.made == order([*range(7)])
    assert done.frame().drop(OF_THE_RUN).equals(whole.drop(OF_THE_RUN))


def test_what_an_executor_leaves_is_made_by_the_next_start(make_job: Callable[..., Path]) -> None:
    job = make_job([{"q": "x" * (n % 9)} for n in range(50)], batching={"part_rows": 8})
    whole = run(load_job(job, overrides=["output.path=whole"])).frame()
    stopped = run(load_job(job), executor=OneByOne(lambda numbers: numbers[::-2], most=2))
    assert (stopped.outcome, stopped.counts.rows) == ("stopped", 2 + 8)
    done = run(load_job(job))
    assert (done.outcome, done.resumed_rows) == ("done", 10)
    assert done.frame().drop(OF_THE_RUN).equals(whole.drop(OF_THE_RUN))
