"""Converts Keras models to .tflite files with TensorFlow's converter."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert_phase import ConverterError

from fd_keras.imagenet import preprocess_input
from fd_keras.litert import quiet
from fd_keras.tflite.format import int4, metadata, sidecar
from fd_keras.tflite.int8.equalize import fold_input
from fd_keras.tflite.int8.fold import UnsupportedModelError, fold
from fd_keras.tflite.int8.graph import Conv, Graph, Node, grouped_conv2d, run
from fd_keras.tflite.int8.pipeline import prepare
from fd_keras.tflite.int8.xnnpack_ops import arrange
from fd_keras.tflite.output import write_pair
from fd_keras.tflite.recipes import Calibration, ConversionRecipe

INPUT_NAME = "image"


def write(
    model: keras.Model,
    name: str,
    source: dict,
    recipes: Sequence[ConversionRecipe],
    output_dir: str,
    *,
    calibration: Calibration | None = None,
    include_preprocessing: bool = True,
    io: str = "uint8",
    class_names: Sequence[str] | None = None,
    graph: Graph | None = None,
    finish: Callable[[ConversionRecipe, bytes], tuple[bytes, dict]] | None = None,
) -> Iterator[str]:
    """Writes `<name>_<recipe>.tflite` and its .json for each recipe, and yields the paths of the .tflite files.

    Args:
        model: Model of fixed input size.
        name: Prefix of the file names.
        source: Facts that identify the model, for the .json.
        recipes: Recipes, from `tflite.recipes.RECIPES`.
        output_dir: Folder to write to; created if it does not exist.
        calibration: Calibration images, required for the calibrated recipes.
        include_preprocessing: Whether `model` takes raw pixels.
        io: Type of the input and output of the calibrated recipes.
        class_names: Class names to embed in the files, see `metadata.embed`; None to embed none.
        graph: Prepared graph to convert instead of the model; it takes the same images. None to convert the model.
        finish: Function that rewrites the file of a recipe, and returns it with additional facts for the .json.
    """
    for recipe in recipes:
        data = export(
            model, recipe, calibration=calibration, include_preprocessing=include_preprocessing, io=io, graph=graph
        )
        data, further = finish(recipe, data) if finish else (data, {})
        if class_names is not None:
            data = metadata.embed(data, class_names, include_preprocessing)
        path = os.path.join(output_dir, f"{name}_{recipe.name}.tflite")
        facts = _description(os.path.basename(path), data, model, source, recipe, calibration, include_preprocessing)
        facts |= further
        if class_names is not None:
            facts |= {"labels": sidecar.labels_facts(class_names), "class_names": list(class_names)}
        write_pair(path, data, facts)
        yield path


def _description(file_name: str, data: bytes, *how: Any) -> dict:
    """Describes a file before it replaces an older one; raises ValueError if it is not a classifier."""
    with tempfile.TemporaryDirectory() as folder:
        draft = os.path.join(folder, file_name)
        with open(draft, "wb") as file:
            file.write(data)
        return sidecar.describe(draft, *how)


def export(
    model: keras.Model,
    recipe: ConversionRecipe,
    *,
    calibration: Calibration | None = None,
    include_preprocessing: bool = True,
    io: str = "uint8",
    graph: Graph | None = None,
) -> bytes:
    """Converts a model with TensorFlow's own converter.

    Args:
        model: Model that takes one image of fixed size and returns one vector.
        recipe: Recipe to convert with.
        calibration: Calibration images, required if the recipe is calibrated.
        include_preprocessing: Whether the model takes raw pixels. If so, an integer input has a scale of exactly 1, so
            that apps can pass the camera's bytes.
        io: Type of the input and output of a calibrated recipe: uint8, int8 or float32.
        graph: Prepared graph to convert instead of the model; None to convert the model.

    Returns:
        The flatbuffer, with a static batch of 1 and an input named "image".

    Raises:
        ValueError: If the recipe is calibrated and `calibration` is None, or the model's input size is not fixed.
    """
    fixed_size(model)
    if recipe.calibrated and calibration is None:
        raise ValueError(f"The recipe {recipe.name!r} needs calibration images.")
    with tempfile.TemporaryDirectory() as folder:
        if graph is None and recipe.settings and calibration:
            images, four_bits = calibration.images, recipe.weights == "int4"
            graph = prepare(model, images, recipe.settings, include_preprocessing, four_bits=four_bits)
        if graph is not None:
            save_graph(arrange(graph), folder)
        elif recipe.calibrated:
            save_model(model, folder)
        else:
            _save_folded(model, include_preprocessing, folder)
        data = convert(folder, recipe, calibration, include_preprocessing, io)
        return int4.store(data) if recipe.weights == "int4" else data


def fixed_size(model: keras.Model) -> tuple[int, int, int]:
    """(height, width, channels) of a model's input.

    Raises:
        ValueError: If the size is not fixed, or the model does not take one image.
    """
    if len(model.inputs) != 1 or len(model.input_shape) != 4:
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        raise ValueError(f"The model takes inputs of shape {shapes}; one image (batch, height, width, channels) works.")
    if None in model.input_shape[1:]:
        raise ValueError(f"The model takes images of shape {model.input_shape[1:]}; build it with a fixed input_shape.")
    return model.input_shape[1:]


def convert(
    folder: str,
    recipe: ConversionRecipe,
    calibration: Calibration | None = None,
    include_preprocessing: bool = True,
    io: str = "uint8",
) -> bytes:
    """Runs TensorFlow's converter on a SavedModel by `save_model` or `save_graph`; see `export` for the arguments."""
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
    if recipe.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if recipe.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if recipe.calibrated and calibration:
        converter.representative_dataset = lambda: _representative(calibration.images, include_preprocessing)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(io)
    try:
        with quiet():
            return converter.convert()
    except ConverterError as error:
        ops = sorted(set(re.findall(r"'(tf\.\w+)' op is neither", str(error))))
        reason = f"TFLite does not have the operations {', '.join(ops)}" if ops else str(error).strip().split("\n")[0]
        raise ValueError(
            f"TensorFlow cannot convert the model: {reason:.300}. Replace the layers that need it."
        ) from None


def save_model(model: keras.Model, folder: str) -> None:
    """Saves the model for inference on one image; the static batch lets the converter see all shapes."""
    save_function(folder, model, lambda image: model(image, training=False), model.input_shape[1:])


def save_function(folder: str, tracked: keras.Model, function: Callable, shape: tuple[int, int, int]) -> None:
    """Saves a function of one image as a SavedModel.

    Args:
        folder: Folder to write to.
        tracked: Model whose weights the function uses; without it, they would not be saved.
        function: Function of an image of shape (1, *shape).
        shape: (height, width, channels).
    """
    archive: Any = keras.export.ExportArchive()  # Any, since its declared type covers backends that cannot write
    archive.track(tracked)
    signature = tf.TensorSpec((1, *shape), tf.float32, name=INPUT_NAME)
    archive.add_endpoint("serve", function, input_signature=[signature])
    archive.write_out(folder, verbose=False)


def _save_folded(model: keras.Model, include_preprocessing: bool, folder: str) -> None:
    """Saves the model as a folded graph, which is faster, or unchanged if a layer cannot be folded."""
    try:
        graph = fold(model)
    except UnsupportedModelError:
        save_model(model, folder)
    else:
        save_graph(arrange(fold_input(graph) if include_preprocessing else graph), folder)


def save_graph(graph: Graph, folder: str) -> None:
    """Saves a graph as a SavedModel, like `save_model`."""
    signature = tf.TensorSpec((1, *graph.input_shape), tf.float32, name=INPUT_NAME)
    serve = tf.function(lambda image: run(graph, image, _output_for_converter), input_signature=[signature])
    tf.saved_model.save(tf.Module(), folder, signatures={"serve": serve})


def _output_for_converter(node: Node, inputs: list) -> Any:
    """A node's output, with a grouped convolution as a single op, which only the converter supports."""
    if isinstance(node, Conv):
        return node.activate(grouped_conv2d(inputs[0], node.kernel, node.stride, node.padding, groups=1) + node.bias)
    return node.output(inputs)


def _representative(images: np.ndarray, include_preprocessing: bool) -> Iterator[list[np.ndarray]]:
    """Yields the calibration images one by one; two raw pixels are set to 0 and 255, which makes the scale 1."""
    for image in images[:, None].astype("float32"):
        if include_preprocessing:
            image[0, 0, 0], image[0, 0, 1] = 0, 255
        yield [np.asarray(preprocess_input(image, include_preprocessing))]
