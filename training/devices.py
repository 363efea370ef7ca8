"""Devices of a run: one, several of one host, or those of several processes."""

import atexit
import contextlib
import dataclasses
import os
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fd_keras.training.sources import Share


@dataclasses.dataclass(frozen=True)
class Devices:
    """How a run is spread over devices.

    Attributes:
        count: Number of devices of all processes.
        share: Part of every batch that this process feeds.
        strategy: Strategy of TensorFlow, if any.
    """

    count: int = 1
    share: Share = Share()
    strategy: tf.distribute.Strategy | None = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.share.index == 0

    @property
    def alone(self) -> bool:
        """Whether no other process takes part."""
        return self.share.count == 1

    def largest(self, value: int) -> int:
        """Maximum of a number over all processes; each has to call it at the same step."""
        if self.alone:
            return value
        from jax.experimental import multihost_utils

        return int(np.max(multihost_utils.process_allgather(np.int32(value))))

    @staticmethod
    def abandon_peers() -> None:
        """Skips JAX's shutdown when this process exits: it waits minutes for a lost process, then aborts."""
        atexit.register(_exit_at_once)

    def scope(self):
        """Context in which the variables have to be made."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def synchronize(self, net: keras.Model) -> None:
        """Lets batch normalizations see the whole batch, so that the result does not depend on the devices.

        On JAX they do anyway, since there a batch is one array.
        """
        if self.strategy:
            for layer in net._flatten_layers():  # those inside of other layers, too
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True

    @staticmethod
    def sync(model: Any) -> None:
        """Brings the variables of a Keras model up to date during `fit`; JAX keeps them elsewhere meanwhile."""
        if keras.backend.backend() == "jax":
            model.jax_state_sync()


def _exit_at_once() -> None:
    sys.stdout.flush()
    os._exit(1)


def connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the processes of a run on JAX. It has to come before anything else touches a device.

    Args:
        coordinator: HOST:PORT of process 0, or "auto" where the platform knows (TPU, Slurm).
        processes: Number of processes.
        process: Index of this process.

    Raises:
        ValueError: On another backend, or for numbers that do not fit.
    """
    if coordinator is None:
        if processes is not None or process is not None:
            raise ValueError("--num_processes and --process_id need --coordinator=HOST:PORT.")
        return
    if keras.backend.backend() != "jax":
        raise ValueError("--coordinator is for several processes on JAX: set KERAS_BACKEND=jax.")
    import jax

    if coordinator == "auto":
        jax.distributed.initialize()
        return
    if processes is None or process is None or not 0 <= process < processes:
        raise ValueError("--coordinator=HOST:PORT needs --num_processes=N and --process_id=0..N-1.")
    jax.distributed.initialize(coordinator, processes, process)


def make(strategy: str, batch_size: int) -> Devices:
    """Sets up the backend and its devices.

    Args:
        strategy: "none", "mirrored" (TensorFlow, one host) or "data_parallel" (JAX, all devices of all processes).
        batch_size: Size of the global batch, a multiple of the number of devices.

    Raises:
        ValueError: If the backend lacks the strategy, or the batch cannot be divided.
    """
    backend = keras.backend.backend()
    needs = {"mirrored": "tensorflow", "data_parallel": "jax"}.get(strategy, backend)
    if backend != needs:
        raise ValueError(f"--strategy={strategy} needs KERAS_BACKEND={needs}, it is {backend}.")
    if backend == "jax":
        tf.config.set_visible_devices([], "GPU")  # TensorFlow only reads the data; the memory is JAX's
    if strategy == "mirrored":
        mirrored = tf.distribute.MirroredStrategy()
        devices = Devices(mirrored.num_replicas_in_sync, strategy=mirrored)
    elif strategy == "data_parallel":
        import jax

        # Each process feeds its own share, so Keras must not deal the data out again.
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        devices = Devices(jax.device_count(), Share(jax.process_index(), jax.process_count()))
    else:
        devices = Devices()
    if batch_size % devices.count:
        raise ValueError(f"--batch_size={batch_size} is not a multiple of the {devices.count} devices.")
    return devices


def reproducible(threads: int | None) -> None:
    """Makes every process give the same bits on a CPU; has to come before TensorFlow's first operation.

    TensorFlow's graph optimizer orders sums differently in every process, at no gain that could be measured here.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
