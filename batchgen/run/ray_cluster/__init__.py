"""`--ray`: the parts of a run made on the nodes of a Ray cluster. `ray_run.py` is the driver, `shard_worker.py` runs on a node."""
