"""Settings for the tests of the model: one thread, since the tensors are too small to share out."""

import pytest
import torch
from hypothesis import settings

# The first use of a tensor operation may take longer than the default deadline on a busy machine.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
