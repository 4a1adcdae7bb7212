"""The section of the reference on what changed between versions."""

CHANGELOG = """
## Changes

### 0.2.0

- **Engines**: `openai` (any server that speaks this protocol), `vllm`, `openvino` and `echo`, in addition to the built-in `transformers`.
- **Formats**: bfloat16 on processors with units for it, GGUF files, LoRA adapters.
- **ModelScope**: `model.path: modelscope:OWNER/NAME` (extra `modelscope`), for users whom the hub does not reach.
- **Speed**: float32 products by kernels that are compiled on the machine, where they are faster than oneDNN's. With AMX, all layers of
  a bfloat16 model in one such kernel, and answers that do not depend on the batch.
- **Answers of a given form**: `decoding.response_format`, probabilities of labels, log-probabilities of tokens, `output.parse`.
- **Many machines**: `run --shard`, `--merge` and `--ray`, whose workers also query judges; input and output in object storage.
- **Pages**: `batchgen report`, `compare` of several runs, `history`, `review`, with Markdown and JUnit for CI.
- **Feedback**: `batchgen feedback` imports, measures and exports what people think of answers.
- **Prompts**: `run --matrix` and `input.cross` try combinations.
- **Conversations**: `prompt.turns`, `input.columns.turns` and `prompt.replay: recorded` ask the turns of a row one after the other. A turn computes only what the turn before it has not.
- **First hour**: `init`, `doctor`, `completion`, an introduction in Chinese (README.zh.md); `batchgen.generate` in Python.
- **Time**: `plan` estimates how long a run takes, from earlier runs on this machine or with `--measure`; the bar's estimate counts tokens.
- `Plan`, `RunResult` and `Comparison` show the summary of the command line, by `print` and in notebooks.
- **Nights**: `run --notify`, `run --prometheus`, examples for schedulers, `purge --older-than`.
- `export` to CSV puts an apostrophe before a text that a spreadsheet program would run as a formula, and counts these cells.
- `plan` and `run` warn of forms in a column (`decoding.response_format.columns`) for which no answer that ends is found.
- Gates with `baseline: previous` find the run of an earlier day where `output.path` contains `${date}`. The manifest contains conditions and findings of gates as values (`condition`, `facts`) next to their text, and the report words them in its language.
- `review --mask` and `report --mask` mask personal data on the page. A restart of `review` has the same link for a day.
- A gate on a metric with coverage below 0.95 fails unless it sets `min_coverage`; equal differences no longer count as certain.

Runs of 0.1 are read by all commands that read; a run that 0.1 began is not continued.

### 0.1.0

- `run`, `plan`, `validate`, `status`, `show`, `verify`, `purge`, `score`, `compare`, `models`, `metrics`, `schema` and `bench`.
"""
