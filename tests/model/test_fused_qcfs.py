"""QCFS as a window of one step, against its formula operation by operation: values, gradients, planted faults."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmht.model import LMHT, QCFS, fused_qcfs, window
from lmht.model.training_speed import count_saved_bytes

PATHS = ["native", "tensors"]


def run(activation, forward, z, upstream):
    """Output, and the gradients of z and θ."""
    activation.zero_grad()
    leaf = z.detach().requires_grad_()
    output = forward(leaf)
    output.backward(upstream)
    return output.detach(), leaf.grad, activation.theta.grad


def check_equal(activation, z, upstream, tolerance):
    """All to the last places: each number relative to what it is made up of."""
    output, gradient, theta = run(activation, activation.forward, z, upstream)
    expected = run(activation, activation.forward_plain, z, upstream)
    assert output.dtype == gradient.dtype == z.dtype
    end = activation.theta.abs().item()
    assert torch.all((output - expected[0]).abs() <= tolerance * end)
    assert torch.all((gradient - expected[1]).abs() <= tolerance * upstream.abs())
    terms = (upstream.abs() * (1 + z.abs() / end)).sum()
    assert (theta - expected[2]).abs() <= tolerance * terms


def draw(shape, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))


def beside_edges(z, activation):
    """The values, those that rounding could put on either side of an edge moved to the middle of a step."""
    unit = activation.theta.item() / activation.levels
    place = z / unit + 0.5
    near = (place - place.round()).abs() < 1e-3
    return torch.where(near, (place.round() * unit).to(z.dtype), z)


@pytest.mark.parametrize("path", PATHS)
def test_equals_plain(use, path):
    use(path)

    @settings(max_examples=100)
    @given(
        st.lists(st.integers(0, 6), max_size=4),
        st.integers(1, 60),
        st.floats(0.05, 20),
        st.booleans(),
        st.integers(0, 10**6),
    )
    def check(shape, levels, theta, double, seed):
        dtype = torch.float64 if double else torch.float32
        activation = QCFS(levels, theta).to(dtype)
        z, upstream = draw(shape, seed, dtype)
        z = beside_edges(theta * (1.2 * z + 0.5), activation)
        check_equal(activation, z, upstream, 1e-13 if double else 1e-5)

    check()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("theta", [3.0, 1.5, -1.5])
def test_edges(use, path, theta):
    """Every edge of the staircase, where all numbers are exact; also with a θ that training has turned below 0."""
    use(path)
    activation = QCFS(6, abs(theta))
    with torch.no_grad():
        activation.theta.fill_(theta)
    z = torch.arange(-64, 320) * abs(theta) / 192
    assert ((z * 6 / theta + 0.5) % 1 == 0).sum() > 10
    check_equal(activation, z, torch.ones_like(z), 1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_several_blocks(use, path):
    use(path)
    activation = QCFS(4, 2.0)
    z, upstream = draw((70_001,), 1, torch.float32)
    check_equal(activation, beside_edges(z, activation), upstream, 1e-6)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("levels", [1, 4, 8, 15])
def test_is_a_neuron_of_one_step(use, path, levels):
    """Theorem 4.2 with T = 1, to the bit also where θ is no power of two."""
    use(path)
    theta = torch.tensor(1.7).item()
    neuron = LMHT(levels, 1, theta / levels, theta / levels / 2, mixing="identity", leak=1.0)
    z = draw((5000,), levels, torch.float32)[0]
    assert torch.equal(QCFS(levels, theta)(z), neuron(z[None])[0])


@pytest.mark.parametrize("path", PATHS)
def test_memory_formats(use, path):
    """Permuted, strided and repeated inputs and gradients; channels-last comes back as channels-last."""
    use(path)
    activation = QCFS(4, 2.0)
    base, upstream = draw((3, 4, 5, 6), 2, torch.float32)
    base = beside_edges(base, activation)
    for z in (base.permute(0, 3, 1, 2), base[:, ::2, :, 1::2], base[0], base[:0], base.permute(3, 0, 2, 1)):
        check_equal(activation, z, upstream[0, 0, 0, 0].expand(z.shape), 1e-6)
        check_equal(activation, z, torch.ones(()).expand(z.shape), 1e-6)
    last = base.contiguous(memory_format=torch.channels_last)
    assert activation(last).is_contiguous(memory_format=torch.channels_last)
    check_equal(activation, last, upstream, 1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_bfloat16_is_computed_in_float32(use, path):
    """The operations one after the other lose what bfloat16 does not hold: θ's gradient comes out percents off.

    So it does if the output, which bfloat16 does not hold here, is taken for the levels: two large sums nearly cancel.
    """
    use(path)
    activation = QCFS(7, 1.7)
    z, upstream = (values.bfloat16() for values in draw((20_000,), 3, torch.float32))
    output, gradient, theta = run(activation, activation.forward, z, upstream)
    expected = run(activation, activation.forward, z.float(), upstream.float())
    assert output.dtype == gradient.dtype == torch.bfloat16
    assert torch.equal(output, expected[0].bfloat16())
    assert not torch.equal(output.float(), expected[0])
    assert torch.equal(gradient.float(), expected[1])
    torch.testing.assert_close(theta, expected[2])


def test_autocast_changes_nothing():
    activation = QCFS(4, 2.0)
    z, upstream = draw((3, 30), 4, torch.float32)
    expected = run(activation, activation.forward, z, upstream)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(activation, activation.forward, z, upstream)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_keeps_less_for_backward():
    """The input and the output, which the next layer keeps as well."""
    activation = QCFS(4, 2.0)
    z = torch.randn(100, 50).requires_grad_()
    kept = count_saved_bytes(lambda: activation(z))
    assert kept <= 2 * z.nbytes + 100
    assert kept < count_saved_bytes(lambda: activation.forward_plain(z))


def test_second_derivative_is_refused():
    activation = QCFS(4, 2.0)
    z = torch.rand(5, requires_grad=True)
    (gradient,) = torch.autograd.grad(activation(z).square().sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", ["surrogate of the neurons", "wrong sum for theta", "no shift"])
def test_planted_fault_is_noticed(use, monkeypatch, path, fault):
    use(path)
    activation = QCFS(4, 2.0)
    z, upstream = draw((500,), 5, torch.float32)
    z = beside_edges(2 * z, activation)
    check_equal(activation, z, upstream, 1e-6)
    staircase = fused_qcfs._ClippedStaircase
    if fault == "surrogate of the neurons":
        monkeypatch.setattr(staircase, "window", window.Staircase.window)
    elif fault == "wrong sum for theta":
        monkeypatch.setattr(
            fused_qcfs, "_level_sum", lambda upstream, output, unit: torch.dot(upstream, output)
        )
    else:
        monkeypatch.setattr(
            fused_qcfs, "_ClippedStaircase", lambda unit, levels, initial: staircase(unit, levels)
        )
    with pytest.raises(AssertionError):
        check_equal(activation, z, upstream, 1e-6)
