"""Score any table with a response column into a folder of its own, which then has the same files as a scored run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from batchgen.errors import UsageError
from batchgen.evaluation.answers import ColumnMap, check_grouped_by_prompt, regroup_by_prompt
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.evaluation.scorer import Scorer
from batchgen.evaluation.scoring.join import JoinSpec, open_input_table, open_join, read_tables
from batchgen.evaluation.scoring.score_run import ScoreResult, check_evaluation, score_folder
from batchgen.evaluation.scoring_models import ScoringModelOptions, model_of_file, scoring_passes
from batchgen.evaluation.staging import StagedAnswers, stage_answers
from batchgen.job.evaluate import Evaluate
from batchgen.metrics.human import HumanOptions
from batchgen.metrics.likelihood_columns import is_model_metric
from batchgen.output.publish import Stage, finish_release
from batchgen.output.score_tables import SCORE_PREFIX
from batchgen.state.likelihood_cache import LikelihoodCache
from batchgen.state.lock import hold_lock
from batchgen.storage.failpoints import arm


def score_file(
    path: Path,
    evaluate: Evaluate,
    *,
    response: str,
    output: Path,
    join_spec: JoinSpec | None = None,
    options: ScoringModelOptions,
) -> ScoreResult:
    """Score the rows of a file; see `score`.

    Three columns are optional: `id`; `sample`, the number of the answer to a prompt, whose rows must be contiguous; and
    `messages`, the prompt.
    """
    arm()
    folder = score_folder(output)
    source = open_input_table(path)
    schema = source.schema()
    join = open_join(join_spec, schema) if join_spec else None
    joined = schema if join is None else join.schema(schema)
    evaluation = _evaluation(evaluate, response, joined)
    origin = _origin(joined, response, evaluation)
    replaced = {SCORE_PREFIX + name for name in evaluation.names}
    own = pa.schema([field for field in schema if field.name not in replaced])

    def tables() -> Iterator[pa.Table]:
        grouped = regroup_by_prompt(read_tables(source, schema), origin.id)
        for table in check_grouped_by_prompt(grouped, origin.id):
            yield join.add_columns(table) if join else table

    folder.create()
    with hold_lock(folder.lock):
        folder.clear_scratch()
        finish_release(folder)
        scorer = Scorer(evaluation, origin, joined)
        stage = Stage(folder, "zstd", 0o600, {"scored": path.name, "response": response})
        model = model_of_file(options, evaluation)
        passes = scoring_passes(
            LikelihoodCache(folder),
            options,
            model,
            evaluation=evaluation,
            origin=origin,
            schema=joined,
        )
        answers = StagedAnswers(passes.add_likelihood_columns(tables), own, "file")
        rows = stage_answers(stage, answers, scorer)
        stage.release(None)
        passes.cache.delete_unused()
    return ScoreResult(folder, rows, ())


def _evaluation(evaluate: Evaluate, response: str, schema: pa.Schema) -> Evaluation:
    if response not in schema.names:
        raise UsageError(
            f"the column {response!r} to score does not exist",
            hint=f"Choose one with --response: {', '.join(schema.names)}.",
        )
    if not pa.types.is_string(schema.field(response).type):
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        raise UsageError(
            f"the column {response!r} is {schema.field(response).type}; expected text",
            hint=f"Choose a text column with --response: {', '.join(texts) or 'there is none'}.",
        )
    evaluation = check_evaluation(evaluate, schema, messages_hint=_MESSAGES)
    for measure in evaluation.measures:
        if isinstance(measure.options, HumanOptions):
            raise UsageError(
                f"{measure.name}: a file has no votes",
                hint="Score the run that people have reviewed.",
            )
    querying = [measure.name for measure in evaluation.measures if is_model_metric(measure.metric)]
    if querying and not _is_messages_type(schema.field("messages").type):
        raise UsageError(
            f"{querying[0]}: the model needs the row's prompt, but the column 'messages' is "
            f"{schema.field('messages').type}; expected a list of {{role, content}}",
            hint=_MESSAGES,
        )
    return evaluation


_MESSAGES = (
    'Add a column messages with the prompts, such as [{"role": "user", "content": "Hi"}], '
    "or join it from another file with --join."
)


def _origin(schema: pa.Schema, response: str, evaluation: Evaluation) -> ColumnMap:
    def column(name: str, fits: Callable[[pa.DataType], bool] = lambda _: True) -> str | None:
        return name if name in schema.names and fits(schema.field(name).type) else None

    return ColumnMap(
        response=response,
        id=column("id"),
        sample=column("sample"),
        messages=column("messages", _is_messages_type),
        output_tokens=column("output_tokens", pa.types.is_integer),
        finish_reason=column("finish_reason", pa.types.is_string),
        references=evaluation.references,
        reasoning=evaluation.section.reasoning,
    )


def _is_messages_type(kind: pa.DataType) -> bool:
    if not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type):
        return False
    names = [kind.value_type.field(i).name for i in range(kind.value_type.num_fields)]
    return "content" in names
