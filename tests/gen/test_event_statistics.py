"""Event statistics against a walk over every event, and the command that prints them."""

import json

import numpy as np
import pytest
import torch

from lmht.gen import event_statistics
from lmht.gen.cli import main
from lmht.gen.event_statistics import measure_events, statistics_tables
from lmht.gen.plan_tiles import own_pooling
from lmht.model import load_checkpoint, load_dataset
from lmht.sim.golden import GoldenModel
from lmht.sim.random_conv_networks import random_conv_network
from lmht.sim.random_networks import random_images


def walk(network, images):
    """Statistics counted one event and one tap at a time, from the levels of the golden model."""
    levels = GoldenModel(network).run(images, keep_levels=True).levels
    found = {"events": [], "step_events": [], "operations": [], "step_operations": [], "spikes": []}
    for image in range(len(images)):
        # Source -> step -> places (y, x, channel) that send.
        maps = {-1: [{tuple(place) for place in np.argwhere(images[image].transpose(1, 2, 0))}]}
        spikes = []
        for index, sent in enumerate(levels):
            channels, height, width = network.layers[index].shape
            own = sent[:, image].numpy().reshape(-1, height, width, channels)
            window = own_pooling(network, index)
            rows, columns = (1, 1) if window is None else window.size
            maps[index] = [
                {
                    (y // rows, x // columns, channel)
                    for y, x, channel in np.argwhere(step)
                    if y // rows < height // rows and x // columns < width // columns
                }
                for step in own
            ]
            spikes.append(
                [[int((step == k).sum()) for k in range(1, network.layers[index].levels + 1)] for step in own]
            )
        packed = {source: set().union(*steps) for source, steps in maps.items()}
        found["spikes"].append(spikes)
        found["events"].append([len(places) for places in packed.values()])
        found["step_events"].append([sum(map(len, steps)) for steps in maps.values()])
        found["operations"].append(
            [
                sum(
                    operations(network, layer, number, packed[part.source])
                    for number, part in enumerate(layer.projections)
                )
                for layer in network.layers
            ]
        )
        found["step_operations"].append(
            [
                sum(
                    operations(network, layer, number, places)
                    for number, part in enumerate(layer.projections)
                    for places in maps[part.source]
                )
                for layer in network.layers
            ]
        )
    return found


def operations(network, layer, number, places):
    """Weights that events at these places meet."""
    part = layer.projections[number]
    pools_itself = part.source != -1 and own_pooling(network, part.source) is not None
    rows, columns = (1, 1) if pools_itself or part.pooling is None else part.pooling.size
    _, height, width = part.pooled_shape
    outputs = len(part.weights) // part.groups
    count = 0
    for y, x, _ in places:
        if y // rows >= height or x // columns >= width:
            continue
        for oy in range(layer.shape[1]):
            for ox in range(layer.shape[2]):
                ky = y // rows + part.padding[0] - oy * part.stride[0]
                kx = x // columns + part.padding[1] - ox * part.stride[1]
                count += outputs * (0 <= ky < part.kernel[0] and 0 <= kx < part.kernel[1])
    return count


def assert_equal(found, expected):
    def mean(name):
        return np.mean(expected[name], axis=0).tolist()

    assert [source.events for source in found.sources] == pytest.approx(mean("events"))
    assert [source.step_events for source in found.sources] == pytest.approx(mean("step_events"))
    assert [layer.operations for layer in found.layers] == pytest.approx(mean("operations"))
    assert [layer.step_operations for layer in found.layers] == pytest.approx(mean("step_operations"))
    for index, layer in enumerate(found.layers[:-1]):
        spikes = np.mean([image[index] for image in expected["spikes"]], axis=0)
        np.testing.assert_allclose(layer.spikes, spikes)
    assert found.layers[-1].spikes == ()


def draw(seed):
    rng = np.random.default_rng(seed)
    network = random_conv_network(rng, max_size=7, max_channels=4)
    return network, random_images(rng, 4, network.input_shape)


@pytest.mark.parametrize("seed", range(8))
def test_counts_equal_a_walk_over_all_events(seed, monkeypatch):
    monkeypatch.setattr(event_statistics, "_MEASURED_BATCH", 3)
    network, images = draw(seed)
    found = measure_events(network, torch.from_numpy(images))
    assert_equal(found, walk(network, images))
    assert found.images == 4


def pooling_network():
    """The first random network whose first layer pools its own output, and images for it."""
    for seed in range(100):
        network, images = draw(seed)
        if len(network.layers) > 1 and own_pooling(network, 0) is not None:
            return network, images
    raise AssertionError("no network pools")


def test_events_counted_in_front_of_the_pooling_are_found(monkeypatch):
    network, images = pooling_network()
    expected = walk(network, images)
    monkeypatch.setattr(event_statistics, "pooled_events", lambda spikes, size: spikes)
    with pytest.raises((AssertionError, ValueError)):
        assert_equal(measure_events(network, torch.from_numpy(images)), expected)


@pytest.mark.parametrize("fault", ["outputs", "levels"])
def test_wrong_counts_are_found(fault, monkeypatch):
    network, images = draw(1)
    expected = walk(network, images)
    if fault == "outputs":
        original = event_statistics.measure_integration
        monkeypatch.setattr(event_statistics, "measure_integration", lambda *given: original(*given) + 1)
    else:
        original = GoldenModel.run

        def one_spike_more(self, images, **options):
            result = original(self, images, **options)
            result.levels[0][0, 0, int(result.levels[0][0, 0].argmin())] = 1
            return result

        monkeypatch.setattr(GoldenModel, "run", one_spike_more)
    with pytest.raises(AssertionError):
        assert_equal(measure_events(network, torch.from_numpy(images)), expected)


def test_sums_of_a_layer():
    layer = event_statistics.LayerStatistics(
        name="layer 0",
        shape=(4, 1, 1),
        operations=8,
        step_operations=9,
        spikes=((1.0, 0.5, 0.0), (0.0, 0.25, 1.0)),
    )
    assert layer.spikes_per_step == (1.5, 1.25)
    assert layer.spikes_per_level == (1.0, 0.75, 1.0)
    assert layer.binary_spikes == 1 + 2 * 0.75 + 3 * 1


def test_no_images():
    network, images = draw(0)
    with pytest.raises(ValueError, match="images must have shape"):
        measure_events(network, torch.from_numpy(images[:0]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stats") / "digits"
    assert main(["train", "--net", "64-24-10", "--epochs", "2", "--out", str(folder)]) == 0
    return folder


def test_command(run, tmp_path, capsys):
    capsys.readouterr()
    figures = tmp_path / "new" / "stats.json"
    assert main(["stats", str(run), "--images", "50", "--json", str(figures)]) == 0
    shown = capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert [path.name for path in figures.parent.iterdir()] == ["stats.json"]
    assert (found["name"], found["architecture"], found["images"]) == ("digits", "64-24-10", 50)
    images = load_dataset("digits").test_images[:50]
    assert found["sources"][0]["density"] == pytest.approx((images != 0).double().mean().item())
    assert found["layers"][0]["operations"] == pytest.approx(24 * found["sources"][0]["events"])
    assert found["totals"]["operations"] == pytest.approx(
        24 * found["sources"][0]["events"] + 10 * found["sources"][1]["events"]
    )
    assert found["totals"]["spikes"] == pytest.approx(np.sum(found["layers"][0]["spikes"]))
    assert f"{found['totals']['spikes']:,.1f} spikes" in shown
    network, _ = load_checkpoint(run)
    (levels,) = network.spike_levels(images)
    # The integer network rounds: nearly the spikes of the float network.
    assert found["totals"]["binary_spikes"] == pytest.approx(levels.sum().item() / 50, rel=0.05)


def test_command_measures_as_many_images_as_there_are(run, capsys):
    capsys.readouterr()
    assert main(["stats", str(run)]) == 0
    assert "mean of 360 images" in capsys.readouterr().out


def test_wrong_number_of_images(run, capsys):
    capsys.readouterr()
    assert main(["stats", str(run), "--images", "361"]) == 2
    message = "images must be 'all' or 1 to 360, the test images of digits, not '361'"
    assert capsys.readouterr().err == f"error: {message}\n"


def test_network_without_spikes(tmp_path, capsys):
    assert main(["train", "--method", "qcfs", "--epochs", "1", "--out", str(tmp_path / "qcfs")]) == 0
    capsys.readouterr()
    assert main(["stats", str(tmp_path / "qcfs")]) == 2
    assert capsys.readouterr().err.endswith("`lmht convert` makes a spiking network of it\n")


def test_nothing_to_compute_is_shown():
    """An image without events: no operations, and no division by them."""
    network, images = draw(0)
    found = measure_events(network, torch.from_numpy(np.zeros_like(images)))
    silent = found.model_copy(
        update={"layers": tuple(layer.model_copy(update={"step_operations": 0.0}) for layer in found.layers)}
    )
    assert statistics_tables(silent) is not None
