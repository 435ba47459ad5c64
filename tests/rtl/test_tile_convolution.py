"""Tile of a convolution: every output word against NUMERICS.md, with strides, padding, groups, slices, pooling and
residual branches; planted faults are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Const

import lmht.rtl.pooler as pooler
from lmht.gen.choose_widths import choose_widths
from lmht.gen.integer import IntegerLayer, IntegerNetwork
from lmht.gen.plan import PlanOptions, expected_events, plan
from lmht.gen.quiet import quiet_levels
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.pixel_walk import PixelWalk
from lmht.rtl.projection import Pooling
from lmht.rtl.update_sequencer import UpdateSequencer
from lmht.sim.random_networks import random_layer, random_neurons, random_projection
from lmht.sim.runner import BenchFailure

SEED = 3
STEPS, LEVELS = 2, 2

RunTile = Callable[..., None]


def classifier(rng: np.random.Generator, layers: list[IntegerLayer], **projection: Any) -> IntegerLayer:
    """A fully connected layer of 3 classes behind the last layer."""
    return random_layer(
        rng,
        source=len(layers) - 1,
        inputs=layers[-1].shape,
        neurons=3,
        steps=1,
        levels=None,
        input_steps=layers[-1].steps,
        input_max_level=layers[-1].levels,
        **projection,
    )


def planned(
    layers: list[IntegerLayer], input_shape: tuple[int, int, int], **options: Any
) -> tuple[IntegerNetwork, DesignParameters]:
    network = IntegerNetwork(name="convolution", input_shape=input_shape, layers=tuple(layers))
    return network, plan(
        network,
        choose_widths(network),
        name="convolution",
        options=PlanOptions(**options),
        events=expected_events(network),
    )


def convolution(
    *,
    shape: tuple[int, int, int] = (3, 7, 6),
    channels: int = 5,
    kernel: tuple[int, int] = (3, 3),
    lanes: int = 5,
    source_channels: int | None = 4,
    pooled: Pooling | None = None,
    folded: Pooling | None = None,
    steps: int = STEPS,
    levels: int = LEVELS,
    leak: bool = False,
    quiet: bool = True,
    options: dict[str, Any] | None = None,
    **projection: Any,
) -> tuple[IntegerNetwork, DesignParameters, int]:
    """A network and the number of the layer under test.

    With `source_channels` it stands behind a 1x1 convolution with so many channels, otherwise at the image. `pooled` is
    what follows it, in its tile; `folded` a sum pooling of its own input that others do not share.
    """
    rng = np.random.default_rng(SEED)
    layers: list[IntegerLayer] = []
    inputs, input_steps, highest = shape, 1, 255
    if source_channels is not None:
        layers.append(
            random_layer(
                rng, inputs=shape, neurons=source_channels, kernel=(1, 1), steps=steps, levels=levels
            )
        )
        inputs, input_steps, highest = layers[0].shape, steps, levels
    under_test = len(layers)
    layers.append(
        random_layer(
            rng,
            source=under_test - 1,
            inputs=inputs,
            neurons=channels,
            kernel=kernel,
            steps=steps,
            levels=levels,
            leak=leak,
            quiet=quiet,
            input_steps=input_steps,
            input_max_level=highest,
            pooling=folded,
            **projection,
        )
    )
    assert quiet_levels(layers[under_test]).any() != quiet
    if folded is None:
        layers.append(classifier(rng, layers, pooling=pooled))
    else:
        main, other = (
            random_projection(
                rng,
                channels=3,
                source=source,
                input_shape=layers[source].shape,
                input_steps=steps,
                input_max_level=levels,
            )
            for source in (1, 0)
        )
        layers.append(random_neurons(rng, main, other, steps=1, levels=None))
    counts = [lanes if index == under_test else 2 for index in range(len(layers))]
    network, design = planned(layers, shape, lanes=counts, **(options or {}))
    return network, design, under_test


def residual(
    *, downsampled: bool, options: dict[str, Any] | None = None
) -> tuple[IntegerNetwork, DesignParameters, int]:
    """A block whose second convolution also sees what went into the first one: as it is, or through a 1x1
    convolution with stride 2."""
    rng = np.random.default_rng(SEED)
    shape, channels = (2, 6, 6), 6 if downsampled else 4
    stride = (2, 2) if downsampled else (1, 1)
    spiking = {"input_steps": STEPS, "input_max_level": LEVELS, "kernel": (3, 3), "padding": (1, 1)}
    first = random_layer(rng, inputs=shape, neurons=4, kernel=(1, 1), steps=STEPS, levels=LEVELS)
    inner = random_layer(
        rng,
        source=0,
        inputs=first.shape,
        neurons=channels,
        steps=STEPS,
        levels=LEVELS,
        stride=stride,
        quiet=True,
        **spiking,
    )
    main = random_projection(rng, channels=channels, input_shape=inner.shape, source=1, shift=7, **spiking)
    branch = random_projection(
        rng,
        channels=channels,
        input_shape=first.shape,
        source=0,
        kernel=(1, 1),
        stride=stride,
        groups=1 if downsampled else 4,
        weight_bits=11,
        input_steps=STEPS,
        input_max_level=LEVELS,
    )
    outer = random_neurons(rng, main, branch, steps=STEPS, levels=LEVELS, quiet=True)
    layers = [first, inner, outer]
    layers.append(classifier(rng, layers))
    network, design = planned(layers, shape, lanes=[2, 2, 2, 2], **(options or {}))
    return network, design, 2


CASES: dict[str, dict[str, Any]] = {
    "image": {"source_channels": None, "padding": (1, 1), "options": {"update_lanes": 5}},
    "3x3": {"padding": (1, 1), "lanes": 5},
    "groups of lanes": {"padding": (1, 1), "lanes": 2, "options": {"update_lanes": 1}},
    "not quiet": {"padding": (1, 1), "lanes": 2, "quiet": False},
    "updates every pixel": {"padding": (1, 1), "lanes": 2, "options": {"skip_quiet": False}},
    "stride 2": {"padding": (1, 1), "stride": (2, 2), "lanes": 3},
    "1x1, stride 2": {"kernel": (1, 1), "stride": (2, 2), "lanes": 5},
    "5x3, no padding": {"kernel": (5, 3), "lanes": 5, "leak": True},
    "1x3, wide": {"shape": (1, 2, 40), "kernel": (1, 3), "padding": (0, 1), "lanes": 5, "channels": 5},
    "depthwise": {"padding": (1, 1), "channels": 4, "groups": 4, "lanes": 1},
    "two groups": {"padding": (1, 1), "channels": 6, "groups": 2, "lanes": 2, "options": {"update_lanes": 2}},
    "average pooling": {"padding": (1, 1), "pooled": Pooling(kind="sum", size=(2, 2)), "lanes": 5},
    "max pooling": {
        "padding": (1, 1),
        "pooled": Pooling(kind="max", size=(3, 2)),
        "lanes": 2,
        "options": {"update_lanes": 2, "mix_multipliers": 4},
    },
    "pooling of all": {"padding": (1, 1), "pooled": Pooling(kind="sum", size=(7, 6)), "quiet": False},
    "folded pooling": {"folded": Pooling(kind="sum", size=(2, 2)), "padding": (1, 1), "shape": (2, 9, 8)},
    "folded 3x2": {"folded": Pooling(kind="sum", size=(3, 2)), "kernel": (2, 2), "shape": (2, 9, 8)},
    "all taps at once": {"padding": (1, 1), "lanes": 2, "options": {"tap_unroll": {1: True}}},
    "all taps of a depthwise one": {
        "padding": (1, 1),
        "stride": (1, 2),
        "channels": 4,
        "groups": 4,
        "lanes": 1,
        "pooled": Pooling(kind="max", size=(2, 3)),
        "options": {"tap_unroll": {1: True}},
    },
    "three steps": {"padding": (1, 1), "steps": 3, "levels": 3, "options": {"mix_multipliers": 3}},
}


@pytest.mark.parametrize("case", CASES)
def test_every_word_of_every_frame(case: str, run_tile: RunTile) -> None:
    network, design, layer = convolution(**CASES[case])
    (tile,) = design.layers[layer]
    run_tile(network, design, tile, idle=["bursts"], ready="half", malformed=0.02, corners=True)


@pytest.mark.parametrize("downsampled", [False, True])
@pytest.mark.parametrize("idle", [("always", "always"), ("rarely", "always"), ("half", "bursts")])
def test_residual_branch(downsampled: bool, idle: tuple[str, str], run_tile: RunTile) -> None:
    network, design, layer = residual(downsampled=downsampled)
    (tile,) = design.layers[layer]
    run_tile(network, design, tile, idle=idle, ready="often", malformed=0.01, corners=True)


@pytest.mark.parametrize(
    ("idle", "ready"), [("always", "always"), ("rarely", "always"), ("always", "rarely")]
)
def test_idle_and_back_pressure(idle: str, ready: str, run_tile: RunTile) -> None:
    network, design, layer = convolution(
        padding=(1, 1),
        pooled=Pooling(kind="max", size=(2, 2)),
        options={"update_lanes": 5, "mix_multipliers": 4},
    )
    (tile,) = design.layers[layer]
    run_tile(network, design, tile, idle=[idle], ready=ready, density=0.15, malformed=0.01)


def test_slices_of_one_layer(run_tile: RunTile) -> None:
    network, design, layer = convolution(padding=(1, 1), channels=7, lanes=2, options={"split": {1: 3}})
    for tile in design.layers[layer]:
        run_tile(network, design, tile, frames=5, malformed=0.02)


def test_slices_of_groups(run_tile: RunTile) -> None:
    """A slice that some input channels do not meet at all."""
    network, design, layer = convolution(
        padding=(1, 1), channels=8, groups=4, lanes=2, options={"split": {1: 2}}
    )
    for tile in design.layers[layer]:
        run_tile(network, design, tile, frames=5)


def test_a_pixel_skipped_that_is_not_silent_is_found(
    run_tile: RunTile, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = PixelWalk._to_visit
    monkeypatch.setattr(PixelWalk, "_to_visit", lambda self, touched, every: visit(self, touched, Const(0)))
    network, design, layer = convolution(**CASES["not quiet"])
    with pytest.raises(BenchFailure, match="expected Event"):
        run_tile(network, design, design.layers[layer][0])


def test_a_token_sent_early_is_found(run_tile: RunTile, monkeypatch: pytest.MonkeyPatch) -> None:
    elaborate = UpdateSequencer.elaborate

    def early(self: UpdateSequencer, platform: object) -> Any:
        m = elaborate(self, platform)
        m.d.comb += self.o.payload.last.eq(1)
        return m

    monkeypatch.setattr(UpdateSequencer, "elaborate", early)
    network, design, layer = convolution(**CASES["3x3"])
    with pytest.raises(BenchFailure, match="expected Event"):
        run_tile(network, design, design.layers[layer][0])


def test_a_pooling_window_off_by_one_is_found(run_tile: RunTile, monkeypatch: pytest.MonkeyPatch) -> None:
    divide = pooler.divide

    def moved(m: Any, enable: Any, value: Any, divisor: int, **options: Any) -> Any:
        return divide(m, enable, (value + 1)[: len(value)], divisor, **options)

    monkeypatch.setattr(pooler, "divide", moved)
    network, design, layer = convolution(**CASES["average pooling"])
    with pytest.raises(BenchFailure, match="expected Event"):
        run_tile(network, design, design.layers[layer][0])
