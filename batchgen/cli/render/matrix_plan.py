"""The runs of a matrix and their tokens, as lines for a terminal."""

from collections.abc import Iterator, Sequence

from batchgen.cli.render.planned_work import planned_cost
from batchgen.cli.render.terminal import display_width, fit_width, format_count
from batchgen.jobfile.matrix.load_matrix import LoadedMatrix
from batchgen.run.plan import Plan


def matrix_plan_lines(matrix: LoadedMatrix, plans: Sequence[Plan]) -> Iterator[str]:
    """A line for each run, and the total."""
    names = [one.name for one in matrix.combinations]
    width = max(map(display_width, [*names, "total"]))
    yield f"{'Matrix':<10}{format_count(len(plans), 'run')} in {matrix.folder}"
    yield f"{'':<10}{'run':<{width}}  {'answers':>9}  {'prompt tokens':>13}  {'new at most':>11}  state"
    counts = [_counts(plan) for plan in plans]
    for name, plan, count in zip(names, plans, counts, strict=True):
        state = "`run` will reject it" if plan.output.refusal else plan.output.state
        yield f"{'':<10}{fit_width(name, width)}  {_numbers(count)}  {state}"
    total = [sum(column) for column in zip(*counts, strict=True)]
    yield f"{'':<10}{'total':<{width}}  {_numbers(total)}"
    for name, plan in zip(names, plans, strict=True):
        for line in plan.output.refusal.splitlines():
            yield f"{'':<10}{name}: {line}"


def _counts(plan: Plan) -> list[int]:
    """Answers, prompt tokens and largest number of new tokens of all rows, from those that were counted."""
    cost = planned_cost(plan)
    answers = plan.setup.survey.rows * plan.setup.samples
    return [answers, cost["input_tokens"], cost["output_tokens"]]


def _numbers(counts: Sequence[int]) -> str:
    answers, read, made = counts
    return f"{answers:>9,}  {read:>13,}  {made:>11,}"
