"""What SageMaker asks of the images, as a pytest plugin; and the components' whole way in one process, for tests."""

import pytest

pytest.register_assert_rewrite("batchloop.contract.suite", "batchloop.contract.flow", "batchloop.contract.containers")
