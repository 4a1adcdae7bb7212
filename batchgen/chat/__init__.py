"""`batchgen chat` and `batchgen try`: answers on the screen as they are generated; no run, and no file of one."""
