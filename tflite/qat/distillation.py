"""The training process: `python -m fd_keras.tflite.qat.distillation JOB RESULT`, started by `fd-keras qat`.

It prints a line of JSON after each step and each measurement, and writes the trained graph at the end.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras  # pyright: ignore[reportMissingImports]  (an extra)

from fd_keras.tflite.int8.graph import Graph, logits, run
from fd_keras.tflite.qat import fake_quantization, keras_twin, training_job

_TOLERANCE = 1e-5  # maximum error of the twin's outputs


def check_twin(asked: training_job.TrainingJob) -> None:
    """Raises RuntimeError unless the twin's outputs match those that the student had in the other process."""
    error = np.abs(keras_twin.build(asked.student, tf_keras).predict_on_batch(asked.probe) - asked.expected).max()
    if not error <= _TOLERANCE:  # also rejects NaN
        raise RuntimeError(f"The tf_keras twin's outputs are off by {error:.2g}.")


def train(asked: training_job.TrainingJob, send: Callable[[dict], None]) -> Graph:
    """Trains the student; returns the version whose outputs are closest to the teacher's on the held-out images."""
    tf_keras.utils.set_random_seed(asked.training.seed)
    student, teacher = logits(asked.student), logits(asked.teacher)
    model = fake_quantization.quantized(student, asked.ranges)
    loss = _divergence if student.output is not asked.student.output else _squared_error
    distance = tf.function(lambda images: loss(run(teacher, images), model(images, training=True)))
    total = asked.steps * asked.training.epochs
    optimizer = tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(asked.training.learning_rate, total))

    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            value = distance(images)
        gradients = tape.gradient(value, model.trainable_weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        return value

    def measure() -> float:
        sums = [len(images) * float(distance(images)) for images in _batches(asked, asked.held_out)]
        mean = sum(sums) / len(asked.held_out)
        send({"held_out": mean})
        return mean

    best, kept = measure(), asked.student
    for epoch in range(asked.training.epochs):
        for images in _epoch(asked, epoch):
            send({"loss": float(step(images))})
        value = measure()
        if value < best:
            best, kept = value, asked.student.updated(fake_quantization.weights(model, student, asked.ranges))
    return kept


def _divergence(wanted, got):
    """Mean Kullback-Leibler divergence of softmax(got) from softmax(wanted)."""
    wanted, got = tf.nn.log_softmax(wanted), tf.nn.log_softmax(got)
    return tf.reduce_mean(tf.reduce_sum(tf.exp(wanted) * (wanted - got), axis=-1))


def _squared_error(wanted, got):
    """Squared error relative to the variance of the wanted outputs, for networks that do not end in a softmax."""
    return tf.reduce_mean((wanted - got) ** 2) / tf.maximum(tf.math.reduce_variance(wanted), 1e-12)


def _epoch(asked: training_job.TrainingJob, epoch: int) -> Iterator[np.ndarray]:
    """Yields batches in random order, with half of the images mirrored."""
    rng = np.random.default_rng((asked.training.seed, epoch))
    for images in _batches(asked, rng.permutation(asked.trained_on)):
        mirrored = rng.random(len(images)) < 0.5
        yield np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def _batches(asked: training_job.TrainingJob, order: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(order), asked.training.batch_size):
        yield _as_taken(asked, asked.images[np.sort(order[start : start + asked.training.batch_size])])


def _as_taken(asked: training_job.TrainingJob, images: np.ndarray) -> np.ndarray:
    return (images.astype("float32") * asked.scale + asked.offset).astype("float32")


def send(values: dict) -> None:
    """Prints a line of JSON for the other process; raises FloatingPointError if a value is NaN or infinite."""
    if not all(map(math.isfinite, values.values())):
        raise FloatingPointError(f"the loss became NaN or infinite: {values}")
    print(json.dumps(values), flush=True)


def main(job_path: str, result_path: str) -> None:
    """Runs the job in one file, and writes the trained graph to the other."""
    asked = training_job.load(job_path)
    check_twin(asked)
    training_job.save(result_path, train(asked, send))


if __name__ == "__main__":
    main(*sys.argv[1:])
