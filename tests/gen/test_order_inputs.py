import numpy as np

from lmht.gen.fold_batch_norm import fold_batch_norm
from lmht.gen.order_inputs import order_inputs


def test_columns_follow_y_x_channel(make_network):
    folded = fold_batch_norm(make_network(architecture="24-5-3", input_shape=(2, 3, 4)))
    ordered = order_inputs(folded)
    for channel in range(2):
        for y in range(3):
            for x in range(4):
                column = ordered.layers[0].weights[:, (y * 4 + x) * 2 + channel]
                np.testing.assert_array_equal(column, folded.layers[0].weights[:, (channel * 3 + y) * 4 + x])


def test_other_layers_stay(make_network):
    folded = fold_batch_norm(make_network())
    assert order_inputs(folded).layers[1:] == folded.layers[1:]
