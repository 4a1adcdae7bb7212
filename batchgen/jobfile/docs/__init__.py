"""Documents generated from the job's schema: jobs/README.md, the JSON Schema, the list of metrics."""
