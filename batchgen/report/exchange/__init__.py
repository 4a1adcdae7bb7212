"""Gates and comparisons for pull requests, mails and CI: Markdown and JUnit XML."""
