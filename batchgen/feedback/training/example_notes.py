"""Whether runs may train a model, and what a reader should know about the examples before training."""

from collections.abc import Sequence
from statistics import fmean

from batchgen.errors import UsageError
from batchgen.feedback.run_votes import RunVotes
from batchgen.feedback.training.examples import AnswerContents, Example, LabelledAnswer, Preference
from batchgen.feedback.training.formats import PromptForm
from batchgen.jobfile.load import load_stored_job
from batchgen.output.published_run import PublishedRun

EVALUATION = "evaluation"
"""Value of `input.role` for prompts that measure models, and must not train them."""


def check_not_evaluation(runs: Sequence[PublishedRun], *, allowed: bool) -> list[str]:
    """Notes about runs that may be evaluation sets.

    Raises:
        UsageError: a run is one, and that is not `allowed`.
    """
    notes = []
    for run in runs:
        job = load_stored_job(run.folder.job).job
        if job.input.role == EVALUATION and not allowed:
            raise UsageError(
                f"{run.folder.path}: its prompts are an evaluation set (input.role: evaluation): a model that is trained on "
                "them cannot be measured with them",
                hint="Export votes about other prompts, or add --allow-eval-set.",
            )
        if job.input.role != EVALUATION and job.evaluate.reference is not None:
            notes.append(
                f"{run.folder.path} has references: if its prompts are an evaluation set, set input.role: evaluation"
            )
    return notes


def prompt_form(runs: Sequence[PublishedRun]) -> PromptForm:
    """How the prompts of the runs were written.

    Raises:
        UsageError: they differ, or the start of the answers is not known.
    """
    forms = set()
    for run in runs:
        prompt = load_stored_job(run.folder.job).job.prompt
        prefill = prompt.prefill or ""
        if "{{" in prefill or "{%" in prefill:
            raise UsageError(
                f"{run.folder.path}: prompt.prefill has variables, whose values the run does not keep",
                hint="Export runs whose prefill is the same text for all rows.",
            )
        forms.add(PromptForm(prompt.chat_template == "none", prefill))
    if len(forms) > 1:
        raise UsageError(
            "the runs have different prompt.prefill or chat_template: their answers are not alternatives",
            hint="Export them one by one.",
        )
    return forms.pop()


def vote_notes(votes: Sequence[RunVotes]) -> list[str]:
    """Notes about votes that do not count."""
    notes: list[str] = []
    for one in votes:
        notes += one.notes
        if gone := len(one.problems.votes):
            notes.append(
                f"{one.run.folder.path}: {gone:,} votes are about other answers than it has, and were left out"
            )
    return notes


def count_lengths(examples: Sequence[Example], texts: AnswerContents) -> dict[str, float]:
    """Mean characters of the chosen and the rejected texts, and how often the chosen one is longer; empty without pairs."""
    pairs = [one for one in examples if isinstance(one, Preference)]
    if not pairs:
        return {}
    lengths = [tuple(len(texts.text(side)) for side in one.sides) for one in pairs]
    return {
        "chosen": fmean(chosen for chosen, _ in lengths),
        "rejected": fmean(rejected for _, rejected in lengths),
        "chosen_longer": fmean(chosen > rejected for chosen, rejected in lengths),
    }


def count_labels(examples: Sequence[Example]) -> dict[str, int]:
    """How many texts are good, and bad; empty without labels."""
    labels = [one.label for one in examples if isinstance(one, LabelledAnswer)]
    return {"good": labels.count(True), "bad": labels.count(False)} if labels else {}


_BIAS = 0.7
"""From this share of chosen texts that are longer (or shorter) on, a model mostly learns length."""


def balance_notes(examples: Sequence[Example], texts: AnswerContents) -> list[str]:
    """Notes about preferences that follow length, and about labels that are rare."""
    notes = []
    lengths = count_lengths(examples, texts)
    if lengths and len(examples) >= 10:
        share = lengths["chosen_longer"]
        if share >= _BIAS or share <= 1 - _BIAS:
            notes.append(
                f"length bias: the chosen text is longer in {share:.0%} of the rows; --max-length-ratio limits it"
            )
    labels = count_labels(examples)
    if labels and len(set(labels.values())) > 1 and 0 not in labels.values():
        ratio = labels["good"] / labels["bad"]
        if not 0.75 <= ratio <= 4 / 3:
            notes.append(
                f"{labels['good']:,} good and {labels['bad']:,} bad: for KTO, weigh the classes "
                "(desirable_weight, undesirable_weight)"
            )
    return notes
