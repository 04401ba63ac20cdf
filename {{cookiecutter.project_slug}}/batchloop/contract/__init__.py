"""What SageMaker asks of the images, as tests; and the components' whole way in one process, for tests."""

import pytest

pytest.register_assert_rewrite("batchloop.contract.suite", "batchloop.contract.flow")
