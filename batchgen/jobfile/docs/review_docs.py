"""The text about `batchgen review` in the reference."""

REVIEW = """
## Review

`batchgen review RUN` serves a page on this machine (127.0.0.1, extra `review`) and prints its link, which contains a token: who has
the link can read the answers and vote. For 24 hours, a restart with the same options has the same link (its secret is in `RUN/.batchgen/review.json`, 0600): an open page continues. `batchgen review RUN RUN2` shows two answers to the same prompt (same id, sample and prompt)
as A and B, on sides that are drawn for each reviewer and pair; nothing on the page names the run. Equal answers are left out.

- `1` to `5`: rating, 1 is the worst
- `y` `x`: pass, fail
- `a` `b` `t` `x`, with RUN2: A is better, B is better, tie, both bad
- `l`: labels, those of `--labels "too long,impolite"`
- `e` `f` `c`: edit the answer; flag it as unsafe, private or wrong; comment
- `s` `u`: skip; undo the last vote
- `n` `p`: next, previous
- `q` `r` `m`: show or hide prompt, reference, scores

Scores are hidden until the answer is rated; a vote records whether they were visible (`blind`). The rubric is the text of `--rubric
FILE`, or else that of the run's first judge, or a general one; after a change of rubric, answers are rated again.

- `--where SQL`: only these answers, such as `"score_exact = 0 AND lang = 'zh'"`
- `--sample N`: N answers; without it, up to 1,000
- `--by COLUMN`: its values take turns, so that each has the same number of answers; also a field such as `parsed.label`
- `--order`: `random` (with `--seed`), `file`, or `uncertain`: first answers where a judge changed its verdict with the order, where judge and metric disagree, or whose score is close to a gate
- `--overlap 20%`: every reviewer gets this share, for agreement; each other answer goes to one reviewer. Without it, all answers go to all
- `--reviewer NAME`: otherwise it is entered on the page
- `--mask`: personal data in prompts, answers and references is masked (`j***@example.com`), as `redact` with `replacement: mask` does it, also in an exported file. Votes are about the answers as they are; an edit is of the masked text. Ids are not masked. `batchgen report --mask` does the same
- `--port N`: otherwise that of the last start, or a free port. Through ssh: `ssh -L N:127.0.0.1:N HOST`, the same N on both sides
- `--export FILE`: one HTML file instead, for people without batchgen: it keeps votes in the browser and downloads `ratings.jsonl` for `batchgen feedback import`

Votes are lines of `RUN/feedback/REVIEWER.jsonl`, only ever appended, with the permissions of the answers. The page shows a vote as
saved when it is on disk; until then it keeps it in the browser, tries again, and sends it when the page is opened again. Undo is
a vote too. An edit or a flag of RUN2's answer is a vote in RUN2's folder. A vote names the hash of its answer, so that it
does not count for an answer that changed. Runs in object storage take no votes; `--export` works for them. An exported page contains
its answers, and with RUN2 their order: who reads its source can find out which run an answer is from.
"""
