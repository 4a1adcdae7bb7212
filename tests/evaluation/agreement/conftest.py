"""The runs and votes of the tests of feedback."""

from tests.feedback.conftest import make_run as make_run
