"""`--ray`: parts made on the nodes of a Ray cluster. `ray_run.py` the story, `ray_driver.py` its workers, `shard_worker.py` runs on a node."""
