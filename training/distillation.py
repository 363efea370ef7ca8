"""Teachers for knowledge distillation: a .keras file, or a network that was trained on ImageNet."""

import contextlib
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from fd_keras import class_names, imagenet, zoo
from fd_keras import weights as weights_lib
from fd_keras.applications import application
from fd_keras.cli import nearest
from fd_keras.head import keras_head
from fd_keras.image_classifier import check_form
from fd_keras.io import printable
from fd_keras.saved import load_model

_LEAST = 1e-7  # probability below which a logarithm is not computed


def open_teacher(name: str, classes: Sequence[str]) -> keras.Model:
    """Opens a teacher.

    Args:
        name: Path of a .keras file with the same classes. Or a network that was trained on ImageNet: one of this
            package with its width, such as "fd_mobilenet_1.0", or one of `keras.applications`, such as
            "EfficientNetV2B0". Then the classes must be some or all of ImageNet's.
        classes: Class names in label order; those of ImageNet may also be WordNet ids.

    Returns:
        A model that computes the logits of the classes from raw images of its own size.

    Raises:
        ValueError: If there is no such network, or its classes differ; names the flag.
        OSError: If weights cannot be read or downloaded; names the flag.
    """
    if name.endswith(".keras") or os.path.exists(name):
        return _of_file(name, classes)
    try:
        build = _trained_on_imagenet(name)
        chosen = _labels(classes)  # before weights are downloaded
        net = build()
    except ValueError as error:
        raise ValueError(f"--teacher={name}: {error}") from error
    except OSError as error:
        raise OSError(f"--teacher={name}: {error}") from error
    return net if chosen == list(range(imagenet.CLASSES)) else _then(net, lambda logits: ops.take(logits, chosen, -1))


def as_logits(net: keras.Model) -> keras.Model:
    """The network itself if it computes logits, else one that computes the logarithms of its probabilities."""
    if keras_head(net).name == "logits":
        return net
    return _then(net, lambda outputs: ops.log(ops.maximum(ops.cast(outputs, "float32"), _LEAST)))


def logits(teacher: keras.Model, images: Any) -> Any:
    """Computes a teacher's logits, float32, for raw images, which are resized to its size."""
    size = teacher.input_shape[1:3]
    if None not in size and size != tuple(images.shape[1:3]):
        images = ops.image.resize(images, size, interpolation="bilinear", data_format="channels_last")
    return ops.cast(teacher(images, training=False), "float32")


def _then(net: keras.Model, function: Any) -> keras.Model:
    """The model that applies a function to the outputs of another."""
    image = keras.Input(net.input_shape[1:])
    return keras.Model(image, function(net(image)), name=net.name)


def _of_file(path: str, classes: Sequence[str]) -> keras.Model:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"--teacher={path}: no such file.")
    teacher, count = load_model(path), len(classes)
    check_form(teacher, f"--teacher={path}")
    if teacher.input_shape[-1] != 3 or teacher.output_shape[-1] != count:
        raise ValueError(
            f"--teacher={path}: takes images of {teacher.input_shape[1:]} and has {teacher.output_shape[-1]} classes, "
            f"but RGB images and {count} classes are needed. Train a teacher on the same classes."
        )
    for number, (theirs, ours) in enumerate(zip(class_names.names_of(path, count) or classes, classes, strict=True)):
        if theirs != ours:
            raise ValueError(
                f"--teacher={path}: its class {number} is {printable(theirs)!r}, but here it is {printable(ours)!r}. "
                "Train a teacher on the same classes."
            )
    return as_logits(teacher)


def _labels(classes: Sequence[str]) -> list[int]:
    """Returns the numbers of classes in ImageNet, by their names or WordNet ids."""
    labels = class_names.match(classes, imagenet.class_names(), imagenet.CLASSES)
    if labels is None:
        raise ValueError(
            f"was trained on ImageNet, but {printable(classes[0])!r} has neither the name nor the WordNet id of one of "
            "its classes. Pass the .keras file of a network that was trained on your classes."
        )
    return [labels[one] for one in classes]


def _trained_on_imagenet(name: str) -> Callable[[], keras.Model]:
    """Returns a function that builds a network from raw images to logits; raises ValueError for an unknown name."""
    known = weights_lib.CHECKPOINTS
    published = {f"{one.arch}_{one.alpha}" for one in known if one.fits(zoo.get_arch(one.arch), one.alpha)}
    theirs = [one for one, made in vars(keras.applications).items() if inspect.isfunction(made)]
    if found := re.fullmatch(rf"({'|'.join(zoo.ARCHS)})_(\d+(?:\.\d+)?)", name):
        return functools.partial(_of_zoo, found[1], float(found[2]))
    if name in theirs:
        return functools.partial(_of_keras, name)
    raise ValueError(
        f"no such file, and not a network trained on ImageNet{nearest(name, [*theirs, *published]) or '.'} Pass a "
        ".keras file, a network of this package with its width, such as fd_mobilenet_1.0, or one of "
        "keras.applications, such as EfficientNetV2B0."
    )


def _of_zoo(name: str, alpha: float) -> keras.Model:
    arch = zoo.get_arch(name)
    weights = weights_lib.at_hand(arch, alpha) or "imagenet"
    return application(arch, alpha=alpha, weights=weights, classifier_activation=None)


def _of_keras(name: str) -> keras.Model:
    make: Any = getattr(keras.applications, name)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the progress of downloads
            net = make(weights="imagenet", classifier_activation=None)
    except Exception as error:  # Keras raises a bare Exception when the network fails
        raise OSError(
            f"its weights cannot be downloaded ({error}). Pass a .keras file, or a network whose weights are on this "
            "machine."
        ) from error
    image = keras.Input(net.input_shape[1:])
    raw_to_input = sys.modules[make.__module__].preprocess_input  # next to each of Keras's networks
    return keras.Model(image, net(raw_to_input(image)), name=net.name)
