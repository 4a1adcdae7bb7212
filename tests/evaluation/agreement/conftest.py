"""The runs and votes of the tests of feedback."""

from tests.feedback.conftest import made_runs as made_runs
from tests.feedback.conftest import make_run as make_run
