"""What a plan prints about its work: tokens of prompts and answers, and what a server costs."""

from typing import Any

from batchgen.cli.render.terminal import format_count
from batchgen.run.plan import Plan, PlannedTurns
from batchgen.run.timing.later_turns import BYTES_PER_TOKEN


def token_lines(plan: Plan) -> list[str]:
    """Lengths of prompts, and how those of later turns were estimated."""
    tokens, samples = plan.tokens, plan.setup.samples
    partial = plan.rows_counted < plan.setup.survey.rows
    first = f" (first {format_count(plan.rows_counted, 'row')})" if partial else ""
    total = f"{tokens.total:,} in total" + (f" for {samples} answers each" if samples > 1 else "")
    if not plan.setup.response_builder.counts_tokens:
        line = f"prompt tokens are counted by the server · out at most {tokens.most_new:,}{first}"
        return [line, *_later_turns(plan.later_turns)]
    lengths = f"in {tokens.least:,} / {tokens.median:,} / {tokens.most:,} (min / median / max)"
    line = f"{lengths}, {total} · out at most {tokens.most_new:,}{first}"
    return [line, *_later_turns(plan.later_turns)]


def _later_turns(turns: PlannedTurns) -> list[str]:
    """How the prompts of turns were counted that are asked after answers."""
    if not turns.count:
        return []
    mean = turns.answer_tokens
    each = "max_new_tokens" if mean is None else f"{mean:,.0f} tokens, the mean of those measured"
    lines = [f"{format_count(turns.count, 'later turn')}: each earlier answer counts with {each}"]
    if turns.too_long:
        lines.append(f"with such answers {turns.too_long:,} of them exceed the context and fail")
    return lines


def cost_lines(plan: Plan) -> list[str]:
    """What a server is sent at most; nothing if a model on this machine answers."""
    if not plan.engine.model_lines():
        return []
    cost = planned_cost(plan)
    estimated = "" if plan.setup.response_builder.counts_tokens else "about "
    parts = [
        format_count(cost["requests"], "request"),
        f"{estimated}{cost['input_tokens']:,} prompt tokens",
        f"at most {cost['output_tokens']:,} new tokens",
    ]
    if cost["cost"] is not None:
        parts.append(f"cost at most {estimated}{cost['cost']:,.4g}")
    if (limit := plan.setup.job.run.max_total_tokens) is not None:
        parts.append(f"stops before {limit:,} tokens (run.max_total_tokens)")
    return [" · ".join(parts)]


def planned_cost(plan: Plan) -> dict[str, Any]:
    """Requests, tokens and cost of all rows, from those that were counted."""
    setup, counted = plan.setup, max(1, plan.rows_counted)
    rows, samples = setup.survey.rows, setup.samples
    read = plan.tokens.total * samples * rows // counted
    if not setup.response_builder.counts_tokens:
        read //= BYTES_PER_TOKEN
    made = plan.tokens.most_new * rows // counted
    failing = sum(plan.failures.values()) * rows // counted
    price = setup.job.model.price
    return {
        "requests": (rows - failing) * samples,
        "input_tokens": read,
        "output_tokens": made,
        "cost": (read * price.input + made * price.output) / 1e6 if price else None,
    }
