"""A plan as lines for a terminal, and as an object for `--json`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from batchgen.cli.render.planned_work import cost_lines, planned_cost, token_lines
from batchgen.cli.render.terminal import format_answers, format_bytes, format_count, shorten
from batchgen.engines.engine_registry import find_engine
from batchgen.evaluation.judging.prepare_judges import PreparedJudge
from batchgen.job.cross_section import Cross, DrawnValues
from batchgen.job.model_section import model_title
from batchgen.models.local_model import LocalModel
from batchgen.run.plan import Plan
from batchgen.run.setup import Setup

_MOST_NAMES = 8
_LONGEST_NAME = 40
_WHERE = {"folder": "your folder", "demo": "demo model", "cache": "cached", "hub": "downloaded"}


def lines(plan: Plan) -> list[str]:
    """The plan as labelled lines."""
    labelled = [
        ("Job", [f"{plan.setup.job.name} · {plan.setup.loaded.file}"]),
        ("Input", _input(plan)),
        ("Model", _model(plan)),
        ("Prompt", _prompt(plan)),
        ("Redact", _redact(plan)),
        ("Decoding", _decoding(plan)),
        ("Tokens", token_lines(plan)),
        ("Cost", cost_lines(plan)),
        ("Batches", _batches(plan)),
        ("Memory", _memory(plan)),
        ("Time", plan.time.describe()),
        ("Judges", [_judge(one) for one in plan.setup.evaluation.judges]),
        ("Reuse", _reuse(plan)),
        ("Output", _output(plan)),
    ]
    rows = [(label, *row) for label, texts in labelled for row in enumerate(texts)]
    return [f"{'' if number else label:<10}{text}" for label, number, text in rows]


def _reuse(plan: Plan) -> list[str]:
    reuse = plan.reuse
    if reuse is None:
        return []
    counted = f"{reuse.reused:,} of {format_count(reuse.counted, 'answer')}"
    if plan.rows_counted < plan.setup.survey.rows:
        counted += f", in the first {plan.rows_counted:,} rows"
    first = [f"{counted} from {reuse.folder} (run {reuse.run_id})"]
    later = "these are first turns; later ones are reused if the answers before them are the same"
    return [*first, later] if plan.later_turns.count else first


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
    lines += [f"cross {' · '.join(_crossed(selection.cross))}"] if selection.cross else []
    used = {*setup.request_builder.columns, source.id_column}
    if unused := [column for column in source.columns if column not in used]:
        lines.append(f"columns not in the prompts: {_few(unused)}")
    if plan.failures:
        counted = " · ".join(f"{count:,} {code}" for code, count in sorted(plan.failures.items()))
        lines.append(f"rows that will fail: {counted}")
    return lines


def _crossed(cross: Cross) -> Iterator[str]:
    for name, values in cross.items():
        if isinstance(values, DrawnValues):
            yield f"{name} (1 of {len(values.sample):,}, drawn)"
        else:
            yield f"{name} ({format_count(len(values), 'value')})"


def _few(names: Sequence[str]) -> str:
    """Names on about one line; further ones are only counted."""
    shown = names if len(names) <= _MOST_NAMES else names[: _MOST_NAMES - 1]
    text = ", ".join(shorten(name, _LONGEST_NAME) for name in shown)
    return text if len(shown) == len(names) else f"{text} and {len(names) - len(shown):,} more"


def _model(plan: Plan) -> list[str]:
    setup = plan.setup
    info = find_engine(setup.job.model.engine).info
    if own := plan.engine.model_lines():
        return own
    if setup.model is None:
        return [f"none · engine {info.name}: {info.summary}"]
    resolved = setup.model.resolved
    name = resolved.name + (f" @ {resolved.revision[:12]}" if resolved.revision else "")
    if setup.model.lock is not None:
        name += f", pinned by {setup.model.lock.name}"
    if info.needs != "weights":
        return [name, f"engine {info.name} uses only its tokenizer"]
    facts = plan.engine.model_facts(setup.loaded.origin)
    context = f"context {setup.request_builder.context_length:,} tokens"
    parameters = f"{setup.model.info.parameters / 1e6:,.0f}M parameters"
    head = f"{name} ({_WHERE[resolved.source]}, {parameters})"
    described = " · ".join([info.name, *facts, context])
    adapter = _adapter(setup.model)
    return [head, *adapter, described, *_dtype(setup), *plan.engine.warnings()]


def _adapter(model: LocalModel) -> list[str]:
    if model.adapter is None:
        return []
    resolved = model.adapter.resolved
    name = resolved.name + (f" @ {resolved.revision[:12]}" if resolved.revision else "")
    head = f"adapter {name} ({_WHERE[resolved.source]}, {model.adapter.adapter.describe()})"
    return [head, *model.notes]


def _dtype(setup: Setup) -> list[str]:
    """Why the model is computed in its dtype, unless the job names it."""
    if setup.dtype is None or setup.job.model.dtype != "auto":
        return []
    note = setup.continuation_note
    return [str(setup.dtype), note] if note else [str(setup.dtype)]


def _prompt(plan: Plan) -> list[str]:
    prompt = plan.setup.job.prompt
    template = {"auto": "the model's chat template", "none": "no chat template: plain text"}
    text = template.get(prompt.chat_template, f"chat template {prompt.chat_template}")
    if plan.setup.model is None:
        on_server = bool(plan.engine.model_lines())
        text = "no model: the messages as UTF-8 bytes"
        text = "the server's chat template" if on_server else text
    variables = ", ".join(f"{k}={v}" for k, v in prompt.chat_template_kwargs.items())
    longest = plan.setup.request_builder.max_input_tokens
    limit = f" · at most {longest:,} tokens, else {prompt.on_overflow}" if longest < 1 << 40 else ""
    return [text + (f", {variables}" if variables else "") + limit]


def _judge(one: PreparedJudge) -> str:
    judge = one.judge
    mode = f"rubric, {judge.labels[0]} to {judge.labels[-1]}"
    if judge.mode != "rubric":
        mode = f"pairwise against {judge.baseline or f'column {judge.column}'}"
    name = (
        model_title(one.model.job.model) or f"engine {one.model.job.model.engine}, without a model"
    )
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
        lines.append(f"columns: {_few(covered) or 'none'}")
        lines += [f"unchanged: {_few(others)}"] if others else []
    return lines


def _decoding(plan: Plan) -> list[str]:
    resolution = plan.setup.resolution
    decoding = asdict(resolution.decoding)
    if decoding["top_logprobs"] is not None:
        decoding["logprobs"] = decoding["top_logprobs"]
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
    lines += _form(plan.setup.settings["decoding"].get("response_format"))
    if job.columns:
        lines.append("by row: " + ", ".join(f"{k} from {v}" for k, v in job.columns.items()))
    if job.num_return_sequences > 1:
        count = job.num_return_sequences
        answers = format_answers(plan.setup.survey.rows * count, count)
        lines.append(f"{count} answers per row: {answers}")
    if ends := sorted(resolution.decoding.end_token_ids):
        lines.append(f"ends at token {', '.join(map(str, ends))}")
    return lines


def _form(recorded: Mapping[str, Any] | None) -> list[str]:
    """The form of answers, as the generation fingerprint has it."""
    if recorded is None:
        return []
    shown = f"{recorded['kind']} (sha256 {recorded['sha256'][:12]})" if recorded["kind"] else "free"
    columns = [f"{kind} from column {name}" for kind, name in recorded["columns"].items()]
    after = [f"after {recorded['after']!r}"] if recorded["after"] else []
    return [" · ".join([f"form: {shown}", *columns, *after])]


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
    again = ": `run` publishes it again, without generating" if state.changes else ""
    return [f"{path}, {state.state}{sealed}{again}", *state.changes]


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
        "later_turns": asdict(plan.later_turns),
        "cost": planned_cost(plan) if plan.engine.model_lines() else None,
        "batches": asdict(plan.batches),
        "engine": asdict(plan.engine),
        "dtype_reason": setup.dtype.reason if setup.dtype else None,
        "failures": dict(plan.failures),
        "decoding": setup.settings["decoding"],
        "time": asdict(plan.time),
        "reuse": asdict(plan.reuse) | {"folder": str(plan.reuse.folder)} if plan.reuse else None,
        "output": {"path": str(Path(setup.job.output.path)), **asdict(plan.output)},
    }
