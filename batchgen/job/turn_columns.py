"""Conversations of several turns: the columns that they add, and the keys that do not go together with them."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from batchgen.section import NonEmptyText

TURN = "turn"
"""Column with the number of the turn, from 1."""
RECORDED = "recorded"
"""Column with the answer that the data has to a turn, in a job with `prompt.replay`."""


def _named(columns: dict[str, str]) -> dict[str, str]:
    if reserved := columns.keys() & {TURN, RECORDED}:
        raise ValueError(f"{min(reserved)!r} is a column that batchgen adds; use another name")
    return columns


PerTurn = Annotated[dict[NonEmptyText, NonEmptyText], AfterValidator(_named)]
"""New columns, and the columns whose lists have a value for each turn."""
Replay = Literal["recorded"]


def turn_problem(
    *, source: str, replay: Replay | None, per_turn: object, on_overflow: str
) -> str | None:
    """What is wrong with the keys of turns, given the key that defines the prompt; None if nothing is."""
    has_turns = source.endswith(".turns") or replay is not None
    if replay is not None and source != "input.columns.messages":
        return "prompt.replay has no effect without input.columns.messages, which has the recorded answers"
    if per_turn and not has_turns:
        return "input.columns.per_turn has no effect without turns; give prompt.turns or input.columns.turns"
    if has_turns and on_overflow.startswith("truncate"):
        return "prompt.on_overflow: a conversation of turns is not cut; use error or skip"
    return None
