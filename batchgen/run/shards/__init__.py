"""`--shard` and `--merge`: one run on many machines that share a folder. `shard_run.py` makes parts, `merge_shards.py` publishes."""
