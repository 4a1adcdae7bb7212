"""`--ray`: parts made on the nodes of a Ray cluster.

`ray_run.py` is the story, `ray_driver.py` its workers; `shard_worker.py` and its child `shard_process.py` run on a node.
"""
