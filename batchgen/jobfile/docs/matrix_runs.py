"""The sections of the reference about matrices of runs and about crossed rows."""

MATRIX_RUNS = """
## Matrix

`matrix` lists values of keys; every combination of them is a run of its own, with one comparison at the end:

```yaml
matrix:
  prompt.file: [short.jinja, polite.jinja]
  decoding.temperature: [0, 0.7]
```

```bash
batchgen run job.yaml --matrix 'prompt.file=[short.jinja, polite.jinja]' --matrix 'decoding.temperature=[0, 0.7]'
```

- Each run has a folder below `output.path`, named after its values, such as `file-short.jinja_temperature-0.7`. Values that do not fit
  into a name are shortened and get a hash; `job.yaml` in each folder has all settings. A name depends on its own values alone: values can
  be added to a list later, and only their runs are new.
- A key is written with dots. Values are YAML; `null` is the default of the key, a mapping sets several keys at once
  (`decoding: [{temperature: 0}, {temperature: 0.7, top_p: 0.9}]`), and `vars.NAME` varies a variable. A profile may have a `matrix` too.
  `--matrix` replaces the list of the file for its key, `--set matrix=null` leaves all of them out, and a key that `--set` gives cannot vary.
- What decides no answer cannot vary (`output`, `batching`, `run` but for `run.seed`, `name`), nor `evaluate`, since scores are compared, nor `input`
  but for `input.columns.prompt` and `.messages`, since rows are. At most 1,000 combinations.
- All combinations are checked before the first row. Those with the same section `model` follow one another, and the model stays loaded. A judge
  or metric with another model takes its place, and it is loaded again. `engine.counted_runs` in the manifest: the utilization counts this
  many runs with one loaded model, this one included.
- A run that fails does not stop the others. The same command continues those that are not complete and skips the others. The exit code
  is the most severe of all runs, in this order: 1, 6, 5, 2, 75, 3, 4, 0; the summary has that of each. `run.max_runtime` is the limit of the
  whole command, `run.max_total_tokens` and `run.max_error_rate` are those of each run.
- With metrics, the runs are compared with the first one as by `batchgen compare --pair-changed-prompts` (p adjusted for all of them by Holm): rows
  are paired by id, also where prompts differ. `output.report: true` also writes the comparison to `report.html` in the common folder.
- `plan` shows answers and tokens of each run and in total, `validate` checks all, `status` of the common folder shows each. `--fresh`,
  `--retry-errors` and `--incremental-from` (the folder of an earlier matrix: answers are reused from the run with the same name) concern all
  runs. `--shard`, `--merge` and `--ray` are rejected. With `output.upload`, each run has a prefix of its own below the address.
- In Python: `batchgen.run_matrix(batchgen.load_matrix("job.yaml", options=["run.seed=[1, 2]"]))`.
"""

CROSSED_ROWS = """
## Crossed rows

`input.cross` adds columns with given values to every row. They are used like columns of the input: in templates, in
`decoding.columns`, slices and the output.

```yaml
input:
  path: questions.csv                                          # 100 rows
  cross:
    lang: [en, zh]                                             # 200 rows
    level: [child, adult]                                      # 400 rows
    persona: {sample: [nurse, teacher], weights: [3, 1]}       # still 400: one of them for each row
```

- A list multiplies the rows, in the order of the input; the last list varies fastest. The id gets a suffix for each list, such as
  `17/en/child`; a value with other characters than letters, digits and `. _ + -` is named by a hash of it. A suffix depends on its value alone:
  after a value was added, `--incremental-from` reuses all other rows.
- `sample` draws by a hash of `run.seed`, the name of the column and the row's id (with its suffix), not by position: a row keeps its value when
  others are added, removed or moved. Without an id column, the id is the row number. After a change of `sample` or `weights`, rows may get
  other values.
- `filter`, `sample` and `limit` select rows before they are multiplied, and do not see the new columns: `--limit 8` gives 8 rows in all
  combinations. A column of the input must not have the same name. Values are texts, numbers or booleans, of one type in each list.
- Rows that come from one row are not independent of each other. Give the id column another name than `id`, such as `question_id`
  (`input.columns.id`): it is then kept in the output, and `evaluate.cluster: question_id` makes intervals and p-values account for that.
- The product is not stored: each part is made from the rows that it needs, also with `--shard`. `run.json` records `cross`; another one is another run.
"""
