"""Running a job. Read `work.py` first: the whole way of a row on one page."""
