import keras
import pytest

from fd_keras.applications import FDMobileNet
from fd_keras.head import keras_head


def ending_in(*layers) -> keras.Model:
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


DENSE, TWO = keras.layers.Dense, keras.layers.Dense(2)


@pytest.mark.parametrize(
    ("layers", "head"),
    [
        ([DENSE(3, "softmax")], "classes"),
        ([DENSE(3), keras.layers.Softmax()], "classes"),
        ([DENSE(3), keras.layers.Activation("softmax"), keras.layers.Dropout(0.1)], "classes"),
        ([DENSE(3), keras.ops.softmax], "classes"),
        ([DENSE(3)], "logits"),
        ([DENSE(3), keras.layers.Reshape((3,)), keras.layers.Activation("linear")], "logits"),
        ([DENSE(1, "sigmoid")], "scores"),
        ([DENSE(3, "hard_sigmoid")], "scores"),
        ([DENSE(3), keras.layers.Activation("sigmoid")], "scores"),
        ([DENSE(3), keras.ops.sigmoid], "scores"),
        ([DENSE(1)], "values"),
        ([DENSE(1, "softmax")], "values"),
        ([DENSE(3, "tanh")], "values"),
        ([DENSE(3), keras.layers.UnitNormalization()], "values"),
        ([], "values"),
    ],
)
def test_head_of_a_keras_model(layers, head):
    assert keras_head(ending_in(*layers)).name == head


def test_head_inside_nested_models():
    trunk = FDMobileNet((32, 32, 3), 0.25, weights=None, include_top=False, pooling="avg")
    top = keras.Sequential([keras.Input((256,)), DENSE(4, "sigmoid")])
    assert keras_head(keras.Sequential([keras.Input((32, 32, 3)), trunk, top])).name == "scores"
    assert keras_head(FDMobileNet((32, 32, 3), 0.25, weights=None)).name == "classes"
