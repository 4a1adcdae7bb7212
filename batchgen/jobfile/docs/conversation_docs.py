"""The section of the reference on conversations."""

CONVERSATIONS = """
## Conversations

A row may have several turns. Each is asked after the model's own answers to those before it, with the same chat template.

```yaml
input:
  path: mt_bench.jsonl               # {"question_id": 81, "turns": ["Write a blog post …", "Rewrite it …"], "reference": [null, "…"]}
  columns:
    id: question_id
    turns: turns                     # a list of the user's messages, of any length, or JSON text of one
    per_turn: {gold: reference}      # the column `gold`: the item of `reference` for this turn
prompt:
  system: Be brief.
evaluate:
  reference: gold
  cluster: question_id
  slices: [turn]
  metrics:
    - {type: token_f1, where: turn = 2}
```

`prompt.turns` is a list of templates instead of a column, such as `["{{ question }}", "Check your answer, then give it again."]`; they may
read `turn`. With `prompt.replay: recorded`, each message of the user in a messages column follows the *recorded* messages before it; the
column `recorded` then has the answer of the data, such as for `evaluate.reference`.

- The output has a row for each turn (and sample), with the number of the turn in the column `turn`, from 1. Its id has the number as a suffix,
  such as `81/2`, so that `compare`, `review`, `score`, `feedback` and `--incremental-from` pair turns like rows. `turn` is a column like those of the
  input: in templates, `where`, slices, gates. The input must not have a column of this name. `--limit 8` gives eight conversations.
- The column `messages` has the conversation so far: judges, `show`, `report` and `review` show it. With `num_return_sequences`, each sample is a
  conversation of its own. Each turn has its own seed.
- The next turn gets the answer as it is published: without reasoning, unless `output.reasoning: inline`, behind `prompt.prefill`, and with personal
  data redacted if the job has `redact`. So a resumed run continues with the same text.
- If a turn fails, for example since the conversation no longer fits (`prompt_too_long`), the later turns of the row fail with
  `error_code: earlier_turn_failed`; after a skipped one they are skipped. `on_overflow: truncate_…` is rejected. `--retry-errors` generates failed
  turns again.
- Rows in different turns share batches: a turn is handed to the engine as soon as the answer before it is saved. All turns of a row are in one
  part, so that `--shard` and `--ray` work. `--incremental-from` reuses a turn if its conversation up to there is the same.
- With continuous batching, `transformers` keeps the keys and values of a turn for the next one, which then computes only its own message. They
  never take memory from rows that run: if those need it, the next turn computes the conversation again, with the same bits
  where the manifest states that a row that is computed again has them (`engine.batch_invariant_reason`). `engine.continued` counts the turns that began so.
  On the 80 conversations of MT-Bench (two turns of at most 64 new tokens, demo model, float32), prompts take 8,945 computed tokens instead of 19,971,
  and all rows are the same.
- Two models give different answers to a turn, so that the prompts of the turns after it differ: `compare` pairs these with
  `--pair-changed-prompts`.
- `try` and `/row` in `chat` hold the conversation; `--row 81` takes all turns of a row, `--row 81/2` those up to the second. `plan` counts each
  earlier answer with the mean length of this job's answers in earlier runs or of `--measure`, else with `max_new_tokens`, and prints which.
  `bench` rejects such a job, since its prompts depend on the engine's answers.
- Turns of one row are not independent of each other: `evaluate.cluster` with the id column of the input makes intervals account for that. Give
  this column another name than `id`: the output has its own column of that name.
"""
