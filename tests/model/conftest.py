"""Settings for the tests of the model: one thread, since the tensors are too small to share out."""

import pytest
import torch
from hypothesis import settings

from lmht.model import Dataset, native

# The first use of a tensor operation may take longer than the default deadline on a busy machine.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def use(monkeypatch):
    """Choose the passes in C or tensor operations; skips the former where there is no compiler."""

    def choose(path):
        if path == "tensors":
            monkeypatch.setattr(native, "library", lambda steps, dtype: None)
        elif not native.has_library():
            pytest.skip("no C++ compiler")

    return choose


def stripes(count):
    """Images of three classes: which rows are bright."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 100, (count, 2, 8, 8), generator=generator)
    for row in range(2):
        images[torch.arange(count), :, 1 + 2 * labels + row] += 120
    images, half = images.to(torch.uint8), count * 2 // 3
    return Dataset("stripes", ("a", "b", "c"), images[:half], labels[:half], images[half:], labels[half:])
