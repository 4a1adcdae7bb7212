"""Several runs, each compared with the first one. p is adjusted for the number of all comparisons."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from batchgen.errors import UsageError
from batchgen.evaluation.comparing.common_rows import MAX_EXAMPLE_IDS
from batchgen.evaluation.comparing.compare import Comparison, compare_runs, with_verdict
from batchgen.evaluation.comparing.scored_run import open_scored_run
from batchgen.metrics.statistics.paired_results import adjust_holm


def compare_several(
    base: Path | str,
    others: Sequence[Path | str],
    *,
    metrics: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
    max_examples: int = MAX_EXAMPLE_IDS,
    pair_changed_prompts: bool = False,
) -> list[Comparison]:
    """Compare each of `others` with `base`; see `compare`.

    With `pair_changed_prompts`, rows are paired by id and sample alone, to compare prompts.

    The p-values of primary metrics are adjusted over all runs together (Holm): among many runs, one is better by chance.
    """
    _check_different(others)
    before = open_scored_run(Path(base))
    runs = [open_scored_run(Path(path)) for path in others]
    compared = [
        compare_runs(
            before,
            run,
            metrics=metrics,
            margins=margins,
            cuts=run.slices,
            max_examples=max_examples,
            pair_changed_prompts=pair_changed_prompts,
        )
        for run in runs
    ]
    return adjust_over_all(compared)


def _check_different(runs: Sequence[Path | str]) -> None:
    """Reject a run that is given twice: p would be adjusted for comparisons that are not made."""
    counts = Counter(Path(run).resolve() for run in runs)
    twice = [str(path) for path, count in counts.items() if count > 1]
    if twice:
        raise UsageError(f"given more than once: {', '.join(twice)}", hint="Name each run once.")


def run_names(comparisons: Sequence[Comparison]) -> list[str]:
    """The names of the folders of the new runs; their paths if two have one name."""
    names = [comparison.new.name for comparison in comparisons]
    if len({*names, comparisons[0].base.name}) <= len(names):
        return [str(comparison.new) for comparison in comparisons]
    return names


def run_numbers(names: Sequence[str], shown: int) -> list[str]:
    """What stands before each name: its number where only `shown` characters fit, since names that are cut may be equal."""
    if max(map(len, names)) <= shown:
        return [""] * len(names)
    return [f"{number} " for number in range(1, len(names) + 1)]


def adjust_over_all(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same with p-values adjusted for the number of primary metrics of all comparisons, and verdicts by them."""
    family = [one for comparison in comparisons for one in comparison.metrics if one.primary]
    adjusted = iter(adjust_holm([one.difference.p for one in family]))
    return [
        replace(
            comparison,
            metrics=[
                with_verdict(one, next(adjusted)) if one.primary else one
                for one in comparison.metrics
            ],
        )
        for comparison in comparisons
    ]
