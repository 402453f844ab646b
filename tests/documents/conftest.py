"""The small training that the commands' tests have."""

from tests.commands.conftest import trained

__all__ = ["trained"]
