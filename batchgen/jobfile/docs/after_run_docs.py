"""The sections of the reference on scores, pages and comparisons of finished runs, and on what is guaranteed."""

AFTER_A_RUN = """
## After a run

A job with a section `evaluate` scores its answers at the end of the run: columns `score_<metric>`, `scores.parquet` (extracted
answers, and why a row has no score), `metrics.parquet` (value, coverage and confidence interval of each metric, over all rows and
by slice). Example: `jobs/education/job.yaml`.

- `batchgen score RUN` scores a finished run again, without generating. `batchgen score FILE --metric exact --reference gold
  --output FOLDER` scores any table of responses.
- `batchgen report RUN` writes one HTML file (extra `report`) that opens from disk and loads nothing: verdict, metrics with
  intervals, slices, distributions, health, judges, the worst answers with search and filters, provenance; in English and Chinese.
  With `--baseline RUN2` it shows the differences. `output.report: true` writes it at the end of a run.
- `batchgen compare BASE NEW` compares two runs row by row: changed settings, difference, interval, p-value, slices, changed rows.
  More runs are compared with the first (p adjusted for all). `-o page.html` writes a page, `--markdown` and `--junit` write files
  for pull requests and CI; `run` and `score` write the same two for gates. `--fail-if-worse` sets the exit code; `--repeat-runs A B`
  reports how many rows of two runs of one job differ by chance.
- `batchgen history FOLDER...` shows the metrics of all runs of a job over time, what changed between them, and whether the newest
  answers drift; `-o history.html` writes a page.
- `calibration` compares `choice_probabilities` with the reference: Brier score and expected calibration error. `multiple_choice`,
  `loglikelihood`, `perplexity` and `bits_per_byte` score given texts by their log-probability after the row's prompt; texts with the
  same prompt share its computation.
- `evaluate.judges`: a local model rates the answers, or compares them with those of a baseline run, in both orders. A score is
  computed from the probabilities of the verdicts, without sampling. `<name>_position_flip` reports how often the order decided.
- `evaluate.gates` are conditions on metrics. A gate fails if fewer than 95 % of the rows have a score, unless it sets
  `min_coverage`. A failed or undecided gate ends the run with exit code 4; with `output.publish: gated` the previous answers then
  stay published. A gate on drift, `{drift: length, max_p: 0.01, baseline: previous}`, compares answers with those of the run before:
  length, finish reason, refusal, language or duplicates.
- The manifest's `mfu` is useful FLOPs / measured peak; `useful_token_share` is the share of computed tokens that are neither
  padding nor recomputed. If the machine is busy while the peak is measured, MFU is overstated.
"""

GUARANTEES = """
## Guarantees

- **Batch-invariant.** When a model is loaded, a probe compares the bits of a row's logits in seven batch compositions;
  `engine.batch_invariant_reason` in the manifest lists them. Where a composition changes bits, two tokens that differ by less than
  the rounding (1e-3 in float32) may change places; for half precision, `plan` prints this. Attention with a window or a soft cap is
  such a case.
- **Durable.** A resumed run ends with the rows of an unbroken one, and is rejected, with the keys that differ, if the job or the
  input changed. A full disk stops the run with an error and the next step.
- **Isolated rows.** A row in flight at two crashes in a row is answered in a child process, and marked failed (`crash_suspect`)
  only if the child dies with this row alone.
- **Tiers.** Decoder models run with continuous batching; hybrid and state-space models, encoder-decoders and beam search in sorted
  static batches. `run` chooses by a parity test at start; the manifest gives the reason.
- **Memory and kernels.** On a CPU the fast forward replaces the weights by a packed copy if half of the free memory is enough for
  it. Attention, norms, rotary embedding and, with AVX-512, float32 products in workers use kernels compiled by numba
  (`engine.kernels` in the manifest).
"""
