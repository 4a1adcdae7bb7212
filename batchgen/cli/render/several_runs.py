"""Several runs compared with the first one, as a table for a terminal."""

from collections.abc import Iterator, Sequence

from batchgen.cli.render.comparison import comparison_line, comparison_numbers
from batchgen.cli.render.terminal import format_count, printable
from batchgen.evaluation.comparing.compare import Comparison
from batchgen.evaluation.comparing.compare_several import run_names

_SHOWN = 30
"""Characters of the name of a run in the table."""


def several_runs_lines(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What differs in the settings of each run, and for each metric a line per run."""
    base = comparisons[0].base
    for comparison in comparisons:
        changed = comparison.changed_settings
        rows = format_count(comparison.common, "row")
        yield f"{printable(str(comparison.new))}: {rows} in common with {printable(str(base))}"
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
    names = dict.fromkeys(one.metric for comparison in comparisons for one in comparison.metrics)
    for name in names:
        yield printable(name)
        runs = zip(run_names(comparisons), comparisons, strict=True)
        for run, metric in ((run, one) for run, all_of in runs for one in all_of.metrics):
            if metric.metric == name:
                values = comparison_numbers(metric, metric.p, metric.unit)
                reason = f": {metric.reason}" if metric.reason else ""
                yield comparison_line(f"  {_shortened(run)}", values, f"{metric.verdict}{reason}")


def _shortened(name: str) -> str:
    """A long name without its middle: runs of a matrix often differ at the end."""
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN // 2]}…{name[-_SHOWN // 2 + 1 :]}"
