"""The golden model against PyTorch, and against a scalar reference of NUMERICS.md in plain Python integers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmht.gen.integer import IntegerLayer, IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.rtl.projection import IMAGE, Pooling
from lmht.sim.golden import GoldenModel
from lmht.sim.golden_projection import GoldenProjection
from lmht.sim.random_networks import random_images, random_network


def round_shift(x, s):
    return (x + (1 << (s - 1))) >> s if s else x


def reference(network, image):
    """A, J, m, v, k of every layer for an image of shape (C, H, W), each a list over steps of flat lists in the order
    ``(y, x, channel)``; J is the logit of a classifier, which has no m, v, k."""
    maps = {IMAGE: [[[[int(value) for value in row] for row in channel] for channel in image]]}
    results = []
    for index, layer in enumerate(network.layers):
        A, J, m, v, k = reference_layer(layer, [maps[p.source] for p in layer.projections])
        results.append([None if part is None else [flat(step) for step in part] for part in (A, J, m, v, k)])
        maps[index] = k
    return results


def flat(maps):
    """Map[c][y][x] in hardware order."""
    C, H, W = len(maps), len(maps[0]), len(maps[0][0])
    return [maps[c][y][x] for y in range(H) for x in range(W) for c in range(C)]


def reference_layer(layer, sources):
    """A, J, m, v, k as [step][n][y][x], for source levels [u][c][y][x] of every projection."""
    N, H, W = layer.shape
    T, U = range(layer.steps), range(layer.input_steps)
    B, G = layer.bias.tolist(), layer.multipliers.tolist()
    sums = [
        [convolve(p, pool(p.pooling, source[u])) for u in U]
        for p, source in zip(layer.projections, sources, strict=True)
    ]

    def g(t, u, n):
        if len(G[t]) < layer.input_steps:  # diagonal
            return G[t][0][n] if t == u else 0
        return G[t][u][n]

    def per_neuron(value):
        return [[[value(n, y, x) for x in range(W)] for y in range(H)] for n in range(N)]

    A = [
        per_neuron(
            lambda n, y, x, u=u: sum(
                s[u][n][y][x] << p.shift for p, s in zip(layer.projections, sums, strict=True)
            )
        )
        for u in U
    ]
    J = [
        per_neuron(
            lambda n, y, x, t=t: (
                round_shift(sum(g(t, u, n) * A[u][n][y][x] for u in U), layer.shift) + B[t][n]
            )
        )
        for t in T
    ]
    if layer.levels is None:
        return A, J, None, None, None
    F, FL = layer.fraction_bits, layer.leak_bits
    q = [1 << FL for _ in T] if layer.leak is None else layer.leak.tolist()
    m, v, k = [], [], []
    before = per_neuron(lambda n, y, x: layer.initial_membrane)
    for t in T:
        m.append(
            per_neuron(lambda n, y, x, t=t, v=before: round_shift(q[t] * v[n][y][x], FL) + J[t][n][y][x])
        )
        k.append(per_neuron(lambda n, y, x, t=t: min(max(m[t][n][y][x] >> F, 0), layer.levels)))
        v.append(per_neuron(lambda n, y, x, t=t: m[t][n][y][x] - (k[t][n][y][x] << F)))
        before = v[t]
    return A, J, m, v, k


def pool(pooling, source):
    if pooling is None:
        return source
    rows, columns = pooling.size
    combine = {"sum": sum, "max": max}[pooling.kind]
    return [
        [
            [
                combine(channel[y * rows + j][x * columns + i] for j in range(rows) for i in range(columns))
                for x in range(len(channel[0]) // columns)
            ]
            for y in range(len(channel) // rows)
        ]
        for channel in source
    ]


def convolve(p, source):
    """Sums of products [n][y][x], zero outside the map."""
    w = p.weights.tolist()
    N, H, W = p.output_shape
    rows, columns = len(source[0]), len(source[0][0])
    sums = [[[0] * W for _ in range(H)] for _ in range(N)]
    for n in range(N):
        first = n // (N // p.groups) * len(w[n])
        for y in range(H):
            for x in range(W):
                for c in range(len(w[n])):
                    for ky in range(p.kernel[0]):
                        for kx in range(p.kernel[1]):
                            iy = y * p.stride[0] + ky - p.padding[0]
                            ix = x * p.stride[1] + kx - p.padding[1]
                            if 0 <= iy < rows and 0 <= ix < columns:
                                sums[n][y][x] += w[n][c][ky][kx] * source[first + c][iy][ix]
    return sums


@st.composite
def poolings(draw, shape):
    """None, or windows that need not divide the map."""
    if draw(st.booleans()):
        return None
    size = draw(st.integers(1, min(3, shape[1]))), draw(st.integers(1, min(3, shape[2])))
    return Pooling(kind=draw(st.sampled_from(["sum", "max"])), size=size)


@st.composite
def projections(draw, rng, source, channels, kernel=None, **options):
    """A convolution of any geometry from a source (index, shape, steps, largest level); `kernel` 0 covers the map."""
    index, shape, steps, max_level = source
    pooling = draw(poolings(shape))
    height, width = shape[1:] if pooling is None else pooling.pooled(*shape[1:])
    geometry = {"stride": (1, 1), "padding": (0, 0)}
    if kernel is None:
        padding = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        kernel = tuple(
            draw(st.integers(pad + 1, max(pad + 1, min(3, size + 2 * pad))))
            for pad, size in zip(padding, (height, width), strict=True)
        )
        stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 2), (4, 1)]))
        geometry = {"stride": stride, "padding": padding}
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if shape[0] % g == channels % g == 0]))
    rows, columns = kernel or (height, width)
    bits = options.get("weight_bits", 4)
    weights = rng.integers(
        -(2 ** (bits - 1)) + 1, 2 ** (bits - 1), (channels, shape[0] // groups, rows, columns)
    )
    return IntegerProjection(
        source=index,
        input_shape=shape,
        weights=weights,
        groups=groups,
        pooling=pooling,
        input_steps=steps,
        input_max_level=max_level,
        **geometry,
        **options,
    )


@st.composite
def layers(draw, rng, projections, classifier=False):
    """Neurons that are neither silent nor saturated, some far from a uniform mixing matrix."""
    first = projections[0]
    (channels, _, _), inputs = first.output_shape, first.input_steps
    reach = max(max(GoldenProjection(projection).reach) for projection in projections)
    GB = draw(st.integers(1, 16))
    if classifier:
        multipliers = np.broadcast_to(rng.integers(0, 2**GB, channels), (1, inputs, channels)).copy()
        return IntegerLayer(
            projections=projections,
            bias=rng.integers(-reach, reach, (1, channels), endpoint=True),
            multipliers=multipliers,
            shift=0,
            levels=None,
            multiplier_bits=GB,
        )
    steps, levels, F, FL = (draw(st.integers(*span)) for span in ((1, 4), (1, 15), (0, 12), (1, 12)))
    if inputs > 1 and draw(st.booleans()):
        steps = inputs
    terms = 1 if steps == inputs and draw(st.booleans()) else inputs
    multipliers = rng.integers(0, 2**GB, (steps, terms, channels))
    # A quarter of the reach is of the order of the highest level.
    shift = max(0, (reach * 2**GB // 8 // (levels << F)).bit_length())
    leak = rng.integers(0, 2 ** (FL + 1), steps) if draw(st.booleans()) else None
    return IntegerLayer(
        projections=projections,
        bias=rng.integers(-2 * levels << F, 2 * levels << F, (steps, channels), endpoint=True),
        multipliers=multipliers,
        shift=shift,
        levels=levels,
        fraction_bits=F,
        leak=leak,
        leak_bits=FL,
        initial_membrane=int(rng.integers(-(2**F), 2**F)),
        multiplier_bits=GB,
    )


@st.composite
def networks(draw):
    """Up to two convolutions, one of them with a residual branch, and a classifier."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    input_shape = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    source, before, stack = (IMAGE, input_shape, 1, 255), None, []
    for index in range(draw(st.integers(0, 2))):
        bits = draw(st.integers(2, 8))
        main = draw(projections(rng, source, draw(st.sampled_from([1, 2, 3, 4, 6])), weight_bits=bits))
        inputs = (main,)
        if before is not None and before[2] == source[2] and draw(st.booleans()):
            inputs = (replace(main, shift=draw(st.integers(0, 12))), _residual(rng, main, before))
        stack.append(draw(layers(rng, inputs)))
        layer, before = stack[-1], source
        source = (index, layer.shape, layer.steps, layer.levels)
    last = draw(projections(rng, source, draw(st.integers(1, 4)), kernel=0))
    return IntegerNetwork(
        name="random",
        input_shape=input_shape,
        layers=(*stack, draw(layers(rng, (last,), classifier=True))),
    )


def _residual(rng, main, source):
    """A projection with wide weights from another source onto the map of `main`."""
    index, shape, steps, max_level = source
    channels, height, width = main.output_shape
    # Whatever the sizes: pool to one pixel, and spread it by padding.
    return IntegerProjection(
        source=index,
        input_shape=shape,
        weights=rng.integers(-(2**15) + 1, 2**15, (channels, shape[0], height, width)),
        weight_bits=16,
        padding=(height - 1, width - 1),
        pooling=Pooling(kind="sum", size=shape[1:]),
        input_steps=steps,
        input_max_level=max_level,
    )


@settings(max_examples=80, deadline=None)
@given(network=networks(), seed=st.integers(0, 2**31), density=st.floats(0, 1))
def test_every_internal_value_equals_the_scalar_reference(network, seed, density):
    images = random_images(np.random.default_rng(seed), 3, network.input_shape, density)
    model = GoldenModel(network)
    result = model.run(images, batch_size=2, keep_levels=True)
    for number, image in enumerate(images):
        expected = reference(network, image)
        for trace, wanted in zip(model.trace(image), expected, strict=True):
            found = (trace.accumulators, trace.currents, trace.charged, trace.membranes, trace.levels)
            for have, want in zip(found, wanted, strict=True):
                assert (None if have is None else have.tolist()) == want
        logits = expected[-1][1][0]
        assert result.logits[number].tolist() == logits
        assert result.predictions[number] == logits.index(max(logits))
        levels = [layer[4] for layer in expected[:-1]]
        assert [layer[:, number].tolist() for layer in result.levels] == levels
        packed = [sum(any(k) for k in zip(*layer, strict=True)) for layer in levels]
        assert result.events[number].tolist() == [np.count_nonzero(image), *packed]
        assert result.spikes[number].tolist() == [sum(map(sum, layer)) for layer in levels]


@pytest.mark.parametrize("bits", [2, 4, 8, 24])
@pytest.mark.parametrize("groups", [1, 16])
def test_convolution_of_large_numbers_equals_pytorch_and_integers(bits, groups, monkeypatch):
    """Sums close to what float32 holds (8 bits: 2^23.2, in 16 channels of 3 x 3), and far beyond."""
    rng = np.random.default_rng(bits)
    limit = 2 ** (bits - 1) - 1
    weights = rng.choice([-limit, limit, limit - 1], (16, 16 // groups, 3, 3))
    weights[0] = limit
    projection = IntegerProjection(
        source=0,
        input_shape=(16, 12, 14),
        weights=weights,
        weight_bits=bits,
        padding=(1, 1),
        groups=groups,
        input_steps=2,
        input_max_level=255,
    )
    levels = torch.from_numpy(rng.integers(0, 256, (2, 20, 12, 14, 16), dtype=np.uint8))
    levels[:, :3] = 255
    golden = GoldenProjection(projection)
    found = golden.run(levels, torch.int64)
    with monkeypatch.context() as patched:
        patched.setattr("lmht.sim.golden_projection.exact_type", lambda bound: torch.int64)
        assert torch.equal(found, GoldenProjection(projection).run(levels, torch.int64))
    maps = levels.flatten(0, 1).permute(0, 3, 1, 2).double()
    pytorch = torch.nn.functional.conv2d(maps, torch.from_numpy(weights).double(), padding=1, groups=groups)
    assert torch.equal(found.flatten(0, 1).permute(0, 3, 1, 2), pytorch.long())
    assert found.abs().max() == max(golden.reach)


def test_batches_are_bounded_and_change_nothing():
    rng = np.random.default_rng(8)
    wide = single_layer(weights=rng.integers(-7, 8, (2, 1, 1024, 1024)), input_shape=(1, 1024, 1024))
    assert GoldenModel(wide).default_batch == 1
    network = random_network(rng, input_shape=(1, 4, 4), widths=(12, 10))
    assert GoldenModel(network).default_batch == 1000
    images = random_images(rng, 7, network.input_shape)
    one, all_at_once = (GoldenModel(network).run(images, size, keep_levels=True) for size in (1, 7))
    assert torch.equal(one.logits, all_at_once.logits)
    assert torch.equal(one.levels[0], all_at_once.levels[0])


def single_layer(weights=((1,), (2,)), input_shape=(1, 1, 1), **changes):
    weights = np.asarray(weights)
    projection = IntegerProjection(
        source=IMAGE,
        input_shape=input_shape,
        weights=weights if weights.ndim == 4 else weights.reshape(*weights.shape, 1, 1),
    )
    values = {
        "projections": (projection,),
        "bias": np.array([[0, 0]]),
        "multipliers": np.ones((1, 1, 2), dtype=np.int64),
        "shift": 0,
        "levels": None,
    }
    return IntegerNetwork(name="tiny", input_shape=input_shape, layers=(IntegerLayer(**(values | changes)),))


def image(pixel):
    return np.full((1, 1, 1, 1), pixel, dtype=np.uint8)


def test_ties_go_to_the_lowest_class():
    result = GoldenModel(single_layer(weights=[[1], [1]])).run(image(9))
    assert result.logits.tolist() == [[9, 9]]
    assert result.predictions.tolist() == [0]


@pytest.mark.parametrize("bias", [0, 2**24 - 1, 2**30 + 1, 2**46 + 1])
def test_sums_are_exact_whatever_their_size(bias):
    network = single_layer(bias=np.array([[bias, -bias]]), weights=[[7], [-7]])
    assert GoldenModel(network).run(image(255)).logits.tolist() == [[1785 + bias, -1785 - bias]]


def test_a_swapped_time_step_is_seen():
    rng = np.random.default_rng(4)
    network = random_network(rng, input_shape=(1, 4, 4), widths=(12, 12, 10))
    first, second, last = network.layers
    images = random_images(rng, 20, network.input_shape)
    # Not in the logits: without a leak the sum over the steps may stay the same.
    right = GoldenModel(network).run(images, keep_levels=True).levels[1]
    for name in ("multipliers", "bias"):
        swapped = replace(second, **{name: getattr(second, name)[::-1]})
        other = replace(network, layers=(first, swapped, last))
        assert not torch.equal(GoldenModel(other).run(images, keep_levels=True).levels[1], right)


def test_run_wrong_images():
    model = GoldenModel(random_network(np.random.default_rng(0), input_shape=(1, 4, 4)))
    with pytest.raises(TypeError, match=r"^images must be of uint8, not torch\.float32$"):
        model.run(torch.zeros(1, 1, 4, 4))
    with pytest.raises(
        ValueError, match=r"^images must have shape \(at least 1, 1, 4, 4\), not \(1, 1, 4, 5\)$"
    ):
        model.run(torch.zeros(1, 1, 4, 5, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"^batch_size must be at least 1, not 0$"):
        model.run(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), batch_size=0)


def test_values_beyond_64_bits_are_refused():
    network = single_layer(
        weights=np.full((2, 256, 1, 1), 7),
        input_shape=(256, 1, 1),
        multipliers=np.full((1, 1, 2), 2**24 - 1),
        multiplier_bits=24,
    )
    (layer,) = network.layers
    GoldenModel(network)
    layer = replace(layer, projections=(replace(layer.projections[0], shift=24),))
    with pytest.raises(ValueError, match=r"^layer 0: values of the golden model must fit 64 bits, not 68$"):
        GoldenModel(replace(network, layers=(layer,)))
