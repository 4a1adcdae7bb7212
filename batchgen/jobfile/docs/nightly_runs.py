"""The section of the reference on runs that a scheduler starts."""

NIGHTLY_RUNS = """
## Every night

A run is resumed by the command that started it, so a scheduler only repeats that command: a complete run ends at once with exit code 0,
and two starts never overlap, since a run locks its output folder (75). Name the day in `output.path`, as in `out/nightly-${date}`, for
a run of its own every night. `jobs/schedulers/` has files to copy, each of which starts a run again after exit code 75:

- cron: `batchgen.cron`, a line for `crontab -e`.
- systemd: `batchgen.service`, `batchgen.timer`, `batchgen-failed@.service`. A night in which the machine was off is made up for.
- Airflow 3 and Dagster: `airflow_dag.py`, `dagster_job.py`.
- Slurm: `slurm-run.sh` for one node, `slurm-shards.sh` for many.

- `run --notify URL` posts one JSON object when the run has ended, or could not start: outcome, exit code, counts, tokens, seconds, gates by
  verdict, and the values of metrics; no text of a row, a slice or an error. `--notify-format` writes the message of Slack, Feishu (Lark),
  DingTalk or WeCom instead; by default their hosts are recognised. The address may contain a secret: give it as `BATCHGEN_NOTIFY`. A
  failed notification is a message on stderr, and changes no result.
- `run --prometheus FILE` writes the same numbers for the textfile collector of node_exporter (extra `prometheus`):
  `batchgen_run_exit_code`, `_success`, `_end_time_seconds`, `_duration_seconds`, `_rows`, `_tokens`, `_gates`, `_metric`.
- `batchgen models pin job.yaml` writes the commit and SHA-256 of each model file to `job.lock.json`; `run` and `plan` then reject a
  model that differs.
- `batchgen run job.yaml --incremental-from out/replies/2026-11-23` reuses answers from an earlier run for rows whose prompt, id and
  settings are unchanged, whatever their position. `latest` instead of a folder is the newest published run of the same job next to
  the output folder. `batchgen plan` with this option counts the answers.
- With `${date}` in `output.path`, a run that stopped before midnight is resumed after it. `--fresh` starts that of today.
- `output.layout`, `keep_columns`, `store_prompt`, `parse`, `choice_probabilities`, `compression`, `prefix` and `file_mode` decide no
  answer. After a change, `batchgen run` publishes the saved answers again, loading a model only to add probabilities; the input must
  be unchanged.
- `batchgen purge RUN` deletes a run's private state (`.batchgen/`), `--older-than 30d` that of all old runs.
"""
