import numpy as np
import pytest
import torch

from lmht.gen.fold_batch_norm import fold_batch_norm
from lmht.model import Network, NetworkConfig
from lmht.rtl.projection import IMAGE


def test_folded_layer_computes_what_layer_and_norm_compute(make_network):
    network = make_network()
    layer, folded = network.layers[0], fold_batch_norm(network).layers[0]
    value = torch.rand(1, 7, 48)
    with torch.no_grad():
        expected = layer.norm(layer.linear(value))[0].numpy()
    (projection,) = folded.projections
    matrix = projection.weights.reshape(20, 48) * projection.scale[:, None]
    found = value[0].double().numpy() @ matrix.T + folded.bias
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_integers_are_the_trained_ones_with_the_sign_of_gamma(make_network):
    network = make_network()
    layer, folded = network.layers[0], fold_batch_norm(network).layers[0]
    trained, _ = layer.linear.integer_weight()
    signs = np.where(layer.norm.weight.detach().numpy() < 0, -1, 1)
    assert (signs < 0).any()
    (projection,) = folded.projections
    np.testing.assert_array_equal(projection.weights.reshape(20, 48), trained.numpy() * signs[:, None])
    assert (projection.scale >= 0).all()


def test_every_layer_is_a_kernel_over_its_whole_map(make_network):
    first, last = fold_batch_norm(make_network()).layers
    (image,), (spikes,) = first.projections, last.projections
    assert (image.source, image.input_shape, image.weights.shape) == (IMAGE, (3, 4, 4), (20, 3, 4, 4))
    assert (spikes.source, spikes.input_shape, spikes.weights.shape) == (0, (20, 1, 1), (10, 20, 1, 1))
    assert image.output_shape == (20, 1, 1)


def test_classifier_keeps_its_bias_and_scale(make_network):
    network = make_network()
    layer, folded = network.layers[-1], fold_batch_norm(network).layers[-1]
    np.testing.assert_array_equal(folded.bias, layer.linear.bias.detach().double().numpy())
    np.testing.assert_array_equal(
        folded.projections[0].scale, layer.linear.integer_weight()[1].double().numpy()
    )
    assert folded.neuron is None


def test_gamma_zero_leaves_the_bias_alone(make_network):
    network = make_network()
    with torch.no_grad():
        network.layers[0].norm.weight[3] = 0
    folded = fold_batch_norm(network).layers[0]
    assert folded.projections[0].scale[3] == 0
    assert folded.bias[3] == pytest.approx(float(network.layers[0].norm.bias[3].detach()))


def test_wrong_network(make_network):
    network = make_network(weight_bits=None)
    with pytest.raises(ValueError, match=r"^layer 0: weight_bits must be between 2 and 8, not None"):
        fold_batch_norm(network)
    network = make_network()
    network.layers[0].norm.running_var[0] = float("nan")
    with pytest.raises(ValueError, match=r"^layer 0: weights and batch norm must be finite$"):
        fold_batch_norm(network)


def test_a_qcfs_network_is_refused():
    network = Network(
        NetworkConfig(architecture="16-8-4", input_shape=(1, 4, 4), activation="qcfs", quanta=4)
    )
    with pytest.raises(ValueError, match=r"^activation must be lmht, not qcfs: `lmht convert` makes"):
        fold_batch_norm(network)
