"""What the tests of the report share."""

import pytest

from tests.report.phantom_report import write_phantom_report


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """(page, names of its three cases, worst first); nothing is written beside it."""
    return write_phantom_report(tmp_path_factory.mktemp("report"))
