"""Many processes that make parts of one run in one folder: `shard.py` which parts, `members.py` who, `claims.py` who makes what."""
