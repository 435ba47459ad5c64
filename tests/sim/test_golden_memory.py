"""The golden model's convolutions read nothing but their maps: small shapes of all kinds in memory full of junk.

PyTorch 2.13 reads beyond a permuted map of one channel where the strides of the kernel differ; with memory fresh from
the system, which is zero, nothing shows.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from lmht.gen.integer_projection import IntegerProjection
from lmht.rtl.projection import IMAGE
from lmht.sim.golden_projection import GoldenProjection

CASES = 250


def wrong_convolutions(convolve) -> int:
    """How often the float convolution differs from that of integers."""
    rng = np.random.default_rng(0)
    wrong = 0
    for case in range(CASES):
        groups = int(rng.choice([1, 1, 1, 2]))
        inputs, outputs = (groups * int(count) for count in rng.integers(1, 4, 2))
        kernel = tuple(int(size) for size in rng.choice([1, 3, 5], 2))
        padding = tuple(int(rng.integers(0, size)) for size in kernel)
        height, width = (
            int(rng.integers(max(1, k - 2 * p), 7)) for k, p in zip(kernel, padding, strict=True)
        )
        projection = IntegerProjection(
            weights=rng.integers(-7, 8, (outputs, inputs // groups, *kernel)),
            source=IMAGE,
            input_shape=(inputs, height, width),
            input_steps=1,
            input_max_level=4,
            stride=(1, 2) if case % 2 else (1, 1),
            padding=padding,
            groups=groups,
        )
        levels = torch.from_numpy(rng.integers(0, 5, (1, 8, height, width, inputs)).astype(np.uint8))
        model = GoldenProjection(projection)
        assert model.type == torch.float32
        found = convolve(model, levels)
        expected = functional.conv2d(
            levels[0].permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format).double(),
            torch.from_numpy(projection.weights.copy()).double(),
            stride=projection.stride,
            padding=projection.padding,
            groups=groups,
        ).permute(0, 2, 3, 1)
        wrong += not torch.equal(found[0].double(), expected)
    return wrong


def golden(model: GoldenProjection, levels: torch.Tensor) -> torch.Tensor:
    return model.run(levels, torch.int64)


def off_by_one(model: GoldenProjection, levels: torch.Tensor) -> torch.Tensor:
    return golden(model, levels) + 1


@pytest.mark.parametrize("perturbation", [85, 170])
def test_convolutions_in_memory_full_of_junk(perturbation):
    run = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"MALLOC_PERTURB_": str(perturbation), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "0\n"), run.stdout + run.stderr


def test_a_wrong_convolution_is_counted():
    assert wrong_convolutions(off_by_one) == CASES


if __name__ == "__main__":
    print(wrong_convolutions(golden))
