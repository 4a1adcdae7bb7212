"""A tiny model's folder, shared with the tests of models."""

from tests.models.conftest import write_model as write_model
