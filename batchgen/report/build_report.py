"""From a scored run to its page."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from batchgen.evaluation.comparing.scored_run import ScoredRun
from batchgen.records import MetricRow
from batchgen.report.charts.draw_charts import (
    Interval,
    bar_chart,
    bin_values,
    histogram_chart,
    interval_chart,
)
from batchgen.report.differences import comparison_values
from batchgen.report.number_text import format_share, format_value
from batchgen.report.page import render_page
from batchgen.report.page_text import ENDINGS, LANGUAGES, TEXTS, chart_label
from batchgen.report.provenance import provenance_groups
from batchgen.report.report_baseline import Baseline
from batchgen.report.reported_run import ReportedRun
from batchgen.report.rows.answer_survey import AnswerSurvey, survey_answers
from batchgen.report.rows.masked_texts import TextMask
from batchgen.report.rows.row_choice import MAX_WORST, ShownAnswer, choose_answers
from batchgen.report.rows.row_records import RowRecords, cut_records, read_records
from batchgen.report.rows.score_survey import ScoreSurvey, survey_scores
from batchgen.report.sections import health_checks, heat_table, interval_text, judge_sections
from batchgen.report.translation.gate_sentences import gate_texts
from batchgen.report.translation.provenance_keys import PROVENANCE_KEYS
from batchgen.report.translation.reasons import reason_texts

_MAX_HISTOGRAMS = 12


def build_report(
    run: ReportedRun, baseline: Baseline | None = None, *, masked: bool = False
) -> str:
    """The page about a run, compared with a baseline if there is one. `masked`: without personal data in its texts."""
    answers = survey_answers(run.scored)
    scores = survey_scores(run.scored, run.ranked, MAX_WORST)
    flips = baseline.flips if baseline else ()
    shown = choose_answers(run.scored, answers, scores, flips)
    read = read_records(run.scored, shown)
    read = baseline.add_to(read, shown, run.scored) if baseline else read
    records = cut_records(list(map(TextMask().record, read)) if masked else read)
    values = {
        **(comparison_values(baseline.comparison) if baseline else {"comparison": None}),
        "run": run,
        "title": run.name,
        "version": version("batchgen-llm"),
        "verdict": _verdict(run),
        "gates": [{**gate_texts(gate), "verdict": gate["verdict"]} for gate in run.gates],
        "facts": list(_facts(run)),
        "answers": answers,
        "ok": answers.rows - answers.failures - answers.skipped - answers.cut,
        "overall": run.overall,
        "level": f"{100 * run.overall[0].ci_level:.3g} %" if run.overall else "",
        "metric_charts": list(_metric_charts(run)),
        "heat": heat_table(run),
        "histograms": list(_histograms(run, answers, scores)),
        "finish_charts": _finish_charts(answers),
        "health": list(health_checks(run, answers)),
        "judges": judge_sections(run),
        "shown": _shown(shown, records, answers),
        "provenance": provenance_groups(run),
        "provenance_keys": PROVENANCE_KEYS,
        "format_value": format_value,
        "format_share": format_share,
        "interval_text": interval_text,
        "reason_texts": reason_texts,
    }
    return render_page("report.html.jinja", values, _data(run.scored, run, records))


def _verdict(run: ReportedRun) -> Mapping[str, Any]:
    """The tone and the text of the verdict: a key of the page's texts, and its values."""
    counts, allowed = run.manifest.get("counts", {}), _allowed_failures(run.manifest)
    if allowed is not None and counts.get("failed", 0) > allowed:
        values = {"failed": counts["failed"], "allowed": allowed}
        return {"tone": "bad", "key": "too_many_failed", "values": values}
    if not run.gates:
        return {"tone": "neutral", "key": "no_gates", "values": {}}
    failed = sum(gate["verdict"] != "passed" for gate in run.gates)
    if failed:
        values = {"failed": failed, "all": len(run.gates)}
        return {"tone": "bad", "key": "failed", "values": values}
    return {"tone": "good", "key": "passed", "values": {}}


def _allowed_failures(manifest: Mapping[str, Any]) -> int | None:
    if "max_error_rate" not in manifest:
        return None
    limits = [int(manifest["max_error_rate"] * manifest["counts"]["rows"])]
    if manifest.get("max_error_count") is not None:
        limits.append(manifest["max_error_count"])
    return min(limits)


def _facts(run: ReportedRun) -> Iterator[tuple[str, str]]:
    """What the run is, in a few words: keys of texts, and values."""
    manifest = run.manifest
    if not manifest:
        yield "scored_file", str(run.scored.facts.get("scored", run.path.name))
        return
    yield "in_brief", str(manifest["run_id"])
    if name := manifest.get("model", {}).get("name"):
        yield "model", str(name)
    if finished := manifest.get("finished_at"):
        yield "time", str(finished).replace("T", " ").replace("+00:00", " UTC")


def _metric_charts(run: ReportedRun) -> Iterator[str]:
    """A chart of all fractions on one axis, and one of each other metric, whose values have no common scale."""
    rows = [row for row in run.overall if row.value is not None]
    fractions = [row for row in rows if row.unit == "fraction"]
    if fractions:
        label = chart_label("chart_fractions")
        yield interval_chart([_interval(row) for row in fractions], label, domain=(0, 1))
    for row in rows:
        if row.unit != "fraction" and row.ci_low is not None:
            yield interval_chart([_interval(row)], chart_label("chart_metric", metric=row.metric))


def _interval(row: MetricRow) -> Interval:
    return Interval(row.metric, float(row.value or 0), row.ci_low, row.ci_high)


def _histograms(
    run: ReportedRun, answers: AnswerSurvey, scores: ScoreSurvey
) -> Iterator[Mapping[str, Any]]:
    """Of lengths, and of each metric with more than two different values."""
    named = [("characters", answers.characters), ("tokens", answers.tokens)]
    found: list[tuple[str | None, str, Any]] = [(key, "", v) for key, v in named if len(v)]
    for row in run.overall:
        values = scores.values.get(row.metric)
        is_length = values is not None and np.array_equal(values, answers.characters)
        if values is not None and not is_length and len(np.unique(values[:5000])) > 2:
            found.append((None, row.metric, values))
    for key, metric, values in found[:_MAX_HISTOGRAMS]:
        bins, median = bin_values(values), float(np.median(values))
        label = chart_label("chart_distribution", name=TEXTS[key] if key else metric)
        yield {
            "key": key,
            "metric": metric,
            "svg": histogram_chart(bins, label),
            "above": bins.above,
            "median": format_value(median, ""),
        }


def _finish_charts(answers: AnswerSurvey) -> Mapping[str, str]:
    """The chart in each language; empty without finish reasons. Reasons of other tools keep their names."""
    if not answers.finish_reasons:
        return {}
    ordered = sorted(answers.finish_reasons.items(), key=lambda pair: -pair[1])
    charts = {}
    for number, language in enumerate(LANGUAGES):
        known = {key: texts[number] for key, texts in ENDINGS.items()}
        counts = [(known.get(f"end_{reason}", reason), count) for reason, count in ordered]
        charts[language] = bar_chart(counts, TEXTS["finish"])
    return charts


def _shown(
    shown: Sequence[ShownAnswer], records: RowRecords, answers: AnswerSurvey
) -> Mapping[str, Any]:
    counts = Counter(one.reasons[0] for one in shown)
    parts = [(f"why_{why}", counts[why]) for why in ("flip", "worst", "failed", "random")]
    return {
        "count": len(shown),
        "all": answers.rows,
        "parts": [(key, n) for key, n in parts if n],
        "characters": records.characters,
    }


def _data(scored: ScoredRun, run: ReportedRun, records: RowRecords) -> dict[str, Any]:
    """The data of the script."""
    slices = sorted({name for one in records.records for name in one["slices"]})
    metrics = [
        {
            "name": row.metric,
            "unit": row.unit,
            "higher": row.higher_is_better,
            "ranked": row.metric in {one.metric for one in run.ranked},
        }
        for row in run.overall
        if scored.metrics
    ]
    return {"rows": records.records, "slices": slices, "metrics": metrics}
