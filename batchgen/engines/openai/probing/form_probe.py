"""Whether a server enforces the form of answers: each form is requested where a free answer would not have it.

Some servers accept every field and enforce none, and llama.cpp answers freely where it cannot read a grammar.
"""

from collections.abc import Mapping

from batchgen.decoding_settings import AnswerGrammar, GrammarKind
from batchgen.engines.openai.form_fields import WAYS, FormWay, form_fields
from batchgen.engines.openai.probing.dialect_probe import DialectProbe
from batchgen.structured.answer_check import has_form

_LENGTH = 48
"""New tokens of an answer."""
_PROMPT = "Reply with the single word yes. Do not write JSON."
_SCHEMA = '{"type":"object","properties":{"zq":{"enum":[7]}},"required":["zq"],"additionalProperties":false}'
_TRIALS: Mapping[GrammarKind, AnswerGrammar] = {
    "json_schema": AnswerGrammar("json_schema", _SCHEMA),
    "json_object": AnswerGrammar("json_object", ""),
    "regex": AnswerGrammar("regex", "[0-9]{3}zq"),
    "choice": AnswerGrammar("choice", '["zebra","quartz"]'),
    "grammar": AnswerGrammar("grammar", 'start: "zebra" | "quartz"'),
}


class FormProbe:
    """Sends requests with a form."""

    def __init__(self, probe: DialectProbe) -> None:
        self._probe = probe

    def find(self, kinds: frozenset[str]) -> dict[str, FormWay]:
        """The kinds that the server enforces, and how each is requested."""
        wanted = [(kind, trial) for kind, trial in _TRIALS.items() if kind in kinds]
        found = {kind: self._way(trial) for kind, trial in wanted}
        return {kind: way for kind, way in found.items() if way is not None}

    def objection(self, grammar: AnswerGrammar, way: FormWay) -> str:
        """Why the server cannot enforce the form of the job; empty if it can, as far as a short answer shows."""
        answer = self._probe.ask(
            _PROMPT, length=_LENGTH, temperature=0, **form_fields(grammar, way)
        )
        if answer.text is None:
            return f"is refused by the server (HTTP {answer.status})"
        if answer.finish == "stop" and not has_form(grammar, answer.text):
            return "is not enforced by the server: its answer to a short prompt has another form"
        return ""

    def _way(self, trial: AnswerGrammar) -> FormWay | None:
        return next((way for way in WAYS[trial.kind] if self._is_enforced(trial, way)), None)

    def _is_enforced(self, trial: AnswerGrammar, way: FormWay) -> bool:
        answer = self._probe.ask(_PROMPT, length=_LENGTH, temperature=0, **form_fields(trial, way))
        text = answer.text or ""
        if trial.kind == "json_object" and answer.finish == "length":
            return text.lstrip().startswith("{")
        return has_form(trial, text)
