"""The Jinja sandbox for templates of jobs and models."""
