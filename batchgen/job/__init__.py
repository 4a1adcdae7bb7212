"""What a job may contain: the sections of the job file."""
