"""Several runs compared with the first one, as a table for a terminal."""

from collections.abc import Iterator, Sequence

from batchgen.cli.render.comparison import comparison_line, comparison_numbers
from batchgen.cli.render.terminal import format_count, printable
from batchgen.evaluation.comparing.compare import Comparison
from batchgen.evaluation.comparing.compare_several import run_names, run_numbers

_SHOWN = 30
"""Characters of the name of a run in the table."""
_ALWAYS_SHOWN = 10
"""Characters that fit into the narrowest table."""


def several_runs_lines(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What differs in the settings of each run, and for each metric a line per run."""
    base, names = comparisons[0].base, run_names(comparisons)
    numbers = run_numbers(names, _ALWAYS_SHOWN)
    for number, comparison in zip(numbers, comparisons, strict=True):
        changed = comparison.changed_settings
        rows = format_count(comparison.common, "row")
        yield f"{number}{printable(str(comparison.new))}: {rows} in common with {printable(str(base))}"
        for one in changed:
            yield f"  {printable(one.key)}: {printable(one.old)} -> {printable(one.new)}"
        if excluded := comparison.changed_prompts.count:
            rows = format_count(excluded, "row")
            if comparison.pairs_changed_prompts:
                yield f"  {rows} with another prompt, paired by id"
            else:
                yield f"  {rows} excluded, because their prompt changed"
    yield "\np is adjusted for all primary metrics of all runs (Holm)\n"
    yield comparison_line("metric", ("base", "new", "change", "interval", "p"), "verdict")
    labels = [f"{number}{_shortened(name)}" for number, name in zip(numbers, names, strict=True)]
    for name in dict.fromkeys(one.metric for of in comparisons for one in of.metrics):
        yield printable(name)
        runs = zip(labels, comparisons, strict=True)
        for label, metric in ((label, one) for label, all_of in runs for one in all_of.metrics):
            if metric.metric == name:
                values = comparison_numbers(metric, metric.p, metric.unit)
                reason = f": {metric.reason}" if metric.reason else ""
                yield comparison_line(f"  {label}", values, f"{metric.verdict}{reason}")


def _shortened(name: str) -> str:
    """A long name without its middle: runs of a matrix often differ at the end."""
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN // 2]}…{name[-_SHOWN // 2 + 1 :]}"
