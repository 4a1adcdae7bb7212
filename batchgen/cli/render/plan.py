"""A plan as lines for a terminal, and as an object for `--json`."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from batchgen.cli.render.terminal import format_bytes, format_count
from batchgen.engines.engine_registry import find_engine
from batchgen.evaluation.judging.prepare_judges import PreparedJudge
from batchgen.run.plan import Plan


def lines(plan: Plan) -> list[str]:
    """The plan as labelled lines."""
    labelled = [
        ("Job", [f"{plan.setup.job.name} · {plan.setup.loaded.file}"]),
        ("Input", _input(plan)),
        ("Model", _model(plan)),
        ("Prompt", _prompt(plan)),
        ("Redact", _redact(plan)),
        ("Decoding", _decoding(plan)),
        ("Tokens", _tokens(plan)),
        ("Batches", _batches(plan)),
        ("Memory", _memory(plan)),
        ("Judges", [_judge(one) for one in plan.setup.evaluation.judges]),
        ("Output", _output(plan)),
    ]
    rows = [(label, *row) for label, texts in labelled for row in enumerate(texts)]
    return [f"{'' if number else label:<10}{text}" for label, number, text in rows]


def _input(plan: Plan) -> list[str]:
    setup, source = plan.setup, plan.setup.checked_input.source
    selection = setup.job.input
    paths = [selection.path] if isinstance(selection.path, str) else selection.path
    id_column = f"id column: {source.id_column or 'none, row numbers'}"
    rows = format_count(setup.survey.rows, "row")
    lines = [", ".join(paths), f"{rows} · {source.describe()} · {id_column}"]
    values = {name: getattr(selection, name) for name in ("filter", "sample", "limit")}
    if chosen := [f"{name} {value}" for name, value in values.items() if value is not None]:
        lines.append(" · ".join(chosen))
    used = {*setup.request_builder.columns, source.id_column}
    if unused := [column for column in source.columns if column not in used]:
        lines.append(f"unused columns: {', '.join(unused)}")
    if plan.failures:
        counted = " · ".join(f"{count:,} {code}" for code, count in sorted(plan.failures.items()))
        lines.append(f"rows that will fail: {counted}")
    return lines


def _model(plan: Plan) -> list[str]:
    setup = plan.setup
    info = find_engine(setup.job.model.engine).info
    if setup.model is None:
        return [f"none · engine {info.name}: {info.summary}"]
    resolved = setup.model.resolved
    name = resolved.name + (f" @ {resolved.revision[:12]}" if resolved.revision else "")
    if setup.model.lock is not None:
        name += f", pinned by {setup.model.lock.name}"
    where = {"folder": "your folder", "demo": "demo model", "cache": "cached", "hub": "downloaded"}
    if info.needs != "weights":
        return [name, f"engine {info.name} uses only its tokenizer"]
    facts = plan.engine.model_facts(setup.loaded.origin)
    context = f"context {setup.request_builder.context_length:,} tokens"
    parameters = f"{setup.model.info.parameters / 1e6:,.0f}M parameters"
    head = f"{name} ({where[resolved.source]}, {parameters})"
    return [head, " · ".join([info.name, *facts, context])]


def _prompt(plan: Plan) -> list[str]:
    prompt = plan.setup.job.prompt
    template = {"auto": "the model's chat template", "none": "no chat template: plain text"}
    text = template.get(prompt.chat_template, f"chat template {prompt.chat_template}")
    if plan.setup.model is None:
        text = "no model: the messages as UTF-8 bytes"
    variables = ", ".join(f"{k}={v}" for k, v in prompt.chat_template_kwargs.items())
    longest = plan.setup.request_builder.max_input_tokens
    limit = f" · at most {longest:,} tokens, else {prompt.on_overflow}" if longest < 1 << 40 else ""
    return [text + (f", {variables}" if variables else "") + limit]


def _judge(one: PreparedJudge) -> str:
    judge, model = one.judge, one.model.model
    mode = f"rubric, {judge.labels[0]} to {judge.labels[-1]}"
    if judge.mode != "rubric":
        mode = f"pairwise against {judge.baseline or f'column {judge.column}'}"
    name = model.resolved.name if model else f"engine {one.model.job.model.engine}, without a model"
    own = ", which judges its own answers" if one.is_self_judge else ""
    return f"{judge.name}: {mode} · {name}{own}"


def _redact(plan: Plan) -> list[str]:
    redact = plan.setup.job.redact
    if redact is None:
        return []
    kinds = "all kinds" if redact.entities == "all" else ", ".join(redact.entities)
    lines = [f"{kinds} in {' and '.join(redact.apply_to)} · as {redact.replacement}"]
    if "input" in redact.apply_to:
        covered = plan.setup.redacted_columns
        others = [name for name in plan.setup.survey.schema.names if name not in covered]
        lines.append(f"columns: {', '.join(covered) or 'none'}")
        lines += [f"unchanged: {', '.join(others)}"] if others else []
    return lines


def _decoding(plan: Plan) -> list[str]:
    resolution = plan.setup.resolution
    decoding = asdict(resolution.decoding)
    further = dict(resolution.decoding.generation_kwargs)
    shown = []
    for name, origin in resolution.origins.items():
        if origin == "default" and name not in ("max_new_tokens", "temperature"):
            continue
        value = further.get(name.removeprefix("generation_kwargs."), decoding.get(name))
        where = plan.setup.loaded.origin(f"decoding.{name}") if origin == "job" else origin
        text = " ".join(map(repr, value)) if isinstance(value, tuple) else str(value)
        shown.append(f"{name} {text} ({where})")
    job = plan.setup.job.decoding
    head = "greedy" if resolution.decoding.greedy else f"sampled, seed {plan.setup.job.run.seed}"
    if resolution.decoding.num_beams > 1:
        head = "beam search"
    lines = [" · ".join([f"{head} (preset {job.preset})", *shown])]
    if job.columns:
        lines.append("by row: " + ", ".join(f"{k} from {v}" for k, v in job.columns.items()))
    if job.num_return_sequences > 1:
        lines.append(f"{job.num_return_sequences} answers per row")
    if ends := sorted(resolution.decoding.end_token_ids):
        lines.append(f"ends at token {', '.join(map(str, ends))}")
    return lines


def _tokens(plan: Plan) -> list[str]:
    tokens, samples = plan.tokens, plan.setup.samples
    partial = plan.rows_counted < plan.setup.survey.rows
    first = f" (first {format_count(plan.rows_counted, 'row')})" if partial else ""
    total = f"{tokens.total:,} in total" + (f" for {samples} answers each" if samples > 1 else "")
    lengths = f"in {tokens.least:,} / {tokens.median:,} / {tokens.most:,} (min / median / max)"
    return [f"{lengths}, {total} · out at most {tokens.most_new:,}{first}"]


def _batches(plan: Plan) -> list[str]:
    batches, limits, origin = plan.batches, plan.engine.limits, plan.setup.loaded.origin
    parts = f"parts of {format_count(plan.setup.job.batching.part_rows, 'row')}"
    workers = plan.engine.workers
    used = f"{format_count(workers.count, 'worker')} ({workers.reason})"
    if len(workers.gpus) > 1:
        used += f", each with these limits on a GPU of its own: {', '.join(workers.gpus)}"
    if own := plan.engine.batch_lines(origin):
        return [f"{own[0]} · {parts}", *own[1:], used]
    return [
        f"{batches.count:,} of up to {format_count(batches.most_rows, 'row')} · padding {batches.padding:.0%} "
        f"(unsorted: {batches.padding_unsorted:.0%}) · {parts}",
        f"limits: {format_count(limits.rows, 'row')} ({origin('batching.max_rows')}), "
        f"{limits.tokens:,} tokens ({origin('batching.max_tokens')})",
        used,
    ]


def _memory(plan: Plan) -> list[str]:
    job_tokens = plan.tokens.total + plan.tokens.most_new
    memory = plan.engine.memory(batch_tokens=plan.batches.most_tokens, job_tokens=job_tokens)
    if memory is None:
        return ["no model is loaded"]
    parts = " + ".join(f"{format_bytes(count)} {name}" for name, count in memory.parts)
    per_token, free = format_bytes(memory.bytes_per_token), format_bytes(memory.free_bytes)
    return [f"{parts} ({per_token} per token) of {free} free"]


def _output(plan: Plan) -> list[str]:
    state, path = plan.output, plan.setup.job.output.path
    if state.refusal:
        return [f"{path}: `run` will reject it", *state.refusal.splitlines()]
    sealed = f", {format_count(state.sealed_parts, 'part')} saved" if state.sealed_parts else ""
    return [f"{path}, {state.state}{sealed}"]


def summary(plan: Plan) -> Mapping[str, Any]:
    """The object that `plan --json` prints."""
    setup = plan.setup
    return {
        "ok": not plan.output.refusal,
        "exit_code": 0,
        "job": setup.job.name,
        "rows": setup.survey.rows,
        "rows_counted": plan.rows_counted,
        "tokens": asdict(plan.tokens),
        "batches": asdict(plan.batches),
        "engine": asdict(plan.engine),
        "failures": dict(plan.failures),
        "decoding": setup.settings["decoding"],
        "output": {"path": str(Path(setup.job.output.path)), **asdict(plan.output)},
    }
