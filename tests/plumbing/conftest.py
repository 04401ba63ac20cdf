"""What all tests of the plumbing run in: the rendered repository's folder, with this environment's packages."""

import os
import sys
from collections.abc import Iterator

import pytest

from plumbing.rendered import ROOT

os.environ["COMPONENTS_PYTHON"] = sys.executable  # the rendered repository has an environment for components alone
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


@pytest.fixture(scope="session", autouse=True)
def _in_the_rendered_repository() -> Iterator[None]:
    before = os.getcwd()
    os.chdir(ROOT)
    yield
    os.chdir(before)
