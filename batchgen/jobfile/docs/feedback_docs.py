"""The text about `batchgen feedback` in the reference."""

FEEDBACK = """
## Feedback

Votes are lines of `RUN/feedback/REVIEWER.jsonl`. Undo is a vote too, and of two votes of a person about the same answer the later one
counts. A vote about an answer whose text has changed does not count. `feedback/` is not in the manifest: `verify` holds before and
after a review.

- `batchgen feedback import RUN FILE...`: adds ratings files of exported pages, all or none. Votes that are there are counted. Votes
  about another run or about changed answers are errors; `--other RUN2` names the other run of an A|B review, `--same-answers` takes
  votes about other runs where RUN has the same text for the row, `--skip-changed` leaves votes about changed answers out
- `batchgen feedback stats RUN`: Cohen's kappa (quadratic weights for ratings) and Krippendorff's alpha with intervals, bootstrapped
  over prompts, among people and between people (their mean) and each judge and metric with a range, by slice and `--by COLUMN`; win
  rates of pairs, and how often the answer that was shown first won. `--where SQL`: only these answers. Runs in object storage have no votes
- `batchgen feedback join RUN`: scores RUN again with the metric `human` and the number of raters, `human_raters`. A job may list
  `human` in `evaluate.metrics`; then every `batchgen score` counts the votes. Gates on it need `min_coverage`, since people see few answers
- A gate `{metric: helpful, min: 3.5, min_agreement: 0.6, agreement_run: out/reviewed}` counts the judge `helpful` only if its
  agreement with people was at least 0.6 in the reviewed run, by the same rubric and model; otherwise the gate is undecided
- `batchgen feedback export RUN [RUN2] --format FORMAT -o FILE`: training data for TRL (`trl-dpo`, `trl-kto`, `trl-reward`,
  `trl-sft`) and LLaMA-Factory (`llamafactory-dpo`, `llamafactory-kto`, with its dataset_info.json), or `few-shot`: a base file for
  `extends` with edited answers as examples in the prompt

Preferences come from pair votes, from ratings of two answers to one prompt that differ by `--margin`, from edits, from a metric
(`--source metric:NAME`) and from a pairwise judge against RUN2 that prefers one answer in both orders (`--source judge:NAME`). Single texts are good
from `--good` (4) and bad up to `--bad` (2). Left out and counted: identical texts, answers that were truncated or flagged, examples
with personal data, with too little agreement (`--min-agreement`), or that contradict each other. `--split SHARE` divides by prompt.
Every row has its source, raters, agreement, row and runs. Prompts of an evaluation set, those of a job with `input.role: evaluation`,
are refused unless `--allow-eval-set`: set the role before the run. `jobs/customer_service/loop/` is a worked example.
"""
