"""Score any table with a response column into a folder of its own.

FILE ──(join)──> Scorer ──> OUTPUT/responses.parquet, scores.parquet, metrics.parquet
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from batchgen.errors import UsageError
from batchgen.evaluation.answers import ColumnMap, check_grouped_by_prompt, regroup_by_prompt
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.evaluation.scorer import Scorer
from batchgen.evaluation.scoring.join import JoinSpec, open_input_table, open_join, read_tables
from batchgen.evaluation.scoring.score_run import ScoreResult, check_evaluation
from batchgen.evaluation.scoring_models import ScoringModelOptions, model_of_file, scoring_passes
from batchgen.evaluation.staging import StagedAnswers, stage_answers
from batchgen.job.evaluate import Evaluate
from batchgen.metrics.likelihood_columns import is_model_metric
from batchgen.output.publish import Stage, finish_release
from batchgen.output.score_tables import SCORE_PREFIX
from batchgen.state.lock import hold_lock
from batchgen.state.run_folder import RunFolder
from batchgen.storage.failpoints import arm


def score_file(
    path: Path,
    evaluate: Evaluate,
    *,
    response: str,
    output: Path,
    join_spec: JoinSpec | None = None,
    asking: ScoringModelOptions | None = None,
) -> ScoreResult:
    """Score the rows of a file; see `score`.

    Three columns are optional: `id`; `sample`, the number of the answer to a prompt, whose rows must be contiguous; and
    `messages`, the prompt.
    """
    arm()
    folder = RunFolder(output.absolute())
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file", hint="Choose a folder with --output.")
    if folder.run.exists() or folder.manifest.exists():
        raise UsageError(
            f"{output} is the output folder of a run", hint="Choose another folder with --output."
        )
    source = open_input_table(path)
    schema = source.schema()
    join = open_join(join_spec, schema) if join_spec else None
    wide = schema if join is None else join.schema(schema)
    evaluation = _evaluation(evaluate, response, wide)
    origin = _origin(wide, response, evaluation)
    replaced = {SCORE_PREFIX + name for name in evaluation.names}
    own = pa.schema([field for field in schema if field.name not in replaced])

    def tables() -> Iterator[pa.Table]:
        for table in check_grouped_by_prompt(
            regroup_by_prompt(read_tables(source, schema), origin.id), origin.id
        ):
            yield join.add_columns(table) if join else table

    folder.create()
    with hold_lock(folder.lock):
        folder.clear_scratch()
        finish_release(folder)
        scorer = Scorer(evaluation, origin, wide)
        stage = Stage(folder, "zstd", 0o600, {"scored": path.name, "response": response})
        asking = asking or ScoringModelOptions()
        model = model_of_file(asking, evaluation)
        passes = scoring_passes(
            folder, asking, model, evaluation=evaluation, origin=origin, schema=wide
        )
        answers = StagedAnswers(passes.add_likelihood_columns(tables), own, "file")
        rows = stage_answers(stage, answers, scorer)
        stage.release(None)
        passes.cache.delete_unused()
    return ScoreResult(folder, rows, ())


def _evaluation(evaluate: Evaluate, response: str, schema: pa.Schema) -> Evaluation:
    if response not in schema.names:
        raise UsageError(
            f"there is no column {response!r} to score",
            hint=f"Choose one with --response: {', '.join(schema.names)}.",
        )
    if not pa.types.is_string(schema.field(response).type):
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        raise UsageError(
            f"the column {response!r} is {schema.field(response).type}; expected text",
            hint=f"Choose a text column with --response: {', '.join(texts) or 'there is none'}.",
        )
    evaluation = check_evaluation(evaluate, schema, messages_hint=_MESSAGES)
    asking = [measure.name for measure in evaluation.measures if is_model_metric(measure.metric)]
    if asking and not _is_messages_type(schema.field("messages").type):
        raise UsageError(
            f"{asking[0]}: the model needs the row's prompt, but the column 'messages' is "
            f"{schema.field('messages').type}; expected a list of {{role, content}}",
            hint=_MESSAGES,
        )
    return evaluation


_MESSAGES = (
    'Add a column messages with the prompts, such as [{"role": "user", "content": "Hi"}], '
    "or join it from another file with --join."
)


def _origin(schema: pa.Schema, response: str, evaluation: Evaluation) -> ColumnMap:
    def known(name: str, fits: Callable[[pa.DataType], bool] = lambda _: True) -> str | None:
        return name if name in schema.names and fits(schema.field(name).type) else None

    return ColumnMap(
        response=response,
        id=known("id"),
        sample=known("sample"),
        messages=known("messages", _is_messages_type),
        output_tokens=known("output_tokens", pa.types.is_integer),
        finish_reason=known("finish_reason", pa.types.is_string),
        references=evaluation.references,
        reasoning=evaluation.reasoning,
    )


def _is_messages_type(kind: pa.DataType) -> bool:
    if not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type):
        return False
    names = [kind.value_type.field(i).name for i in range(kind.value_type.num_fields)]
    return "content" in names
