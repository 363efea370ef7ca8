"""Devices of a run: one device, several devices of one host, or the devices of several processes."""

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
    """How a run is distributed over devices.

    Attributes:
        count: Number of devices of all processes.
        share: Part of each batch that this process loads.
        strategy: TensorFlow's distribution strategy, if any.
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
        """Whether the run has only this process."""
        return self.share.count == 1

    def largest(self, value: int) -> int:
        """Returns the maximum of a number over all processes; all must call it at the same step."""
        if self.alone:
            return value
        from jax.experimental import multihost_utils

        return int(np.max(multihost_utils.process_allgather(np.int32(value))))

    @staticmethod
    def abandon_peers() -> None:
        """Skips JAX's shutdown when this process exits: it would wait minutes for the lost process, and then abort."""
        atexit.register(_exit_at_once)

    def scope(self):
        """Returns the context in which variables must be created."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def synchronize(self, net: keras.Model) -> None:
        """Makes batch normalizations use the whole batch, so that the result does not depend on the number of devices.

        On JAX they always do, since a batch is one array there.
        """
        if self.strategy:
            for layer in net._flatten_layers():  # nested layers too
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True

    @staticmethod
    def sync(model: Any) -> None:
        """Updates the variables of a Keras model during `fit`; on JAX, Keras keeps their values elsewhere meanwhile."""
        if keras.backend.backend() == "jax":
            model.jax_state_sync()


def _exit_at_once() -> None:
    sys.stdout.flush()
    os._exit(1)


def connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Connects the processes of a run on JAX. Must be called before any other use of a device.

    Args:
        coordinator: HOST:PORT of process 0, or "auto" where the platform provides it (TPU, Slurm).
        processes: Number of processes.
        process: Index of this process.

    Raises:
        ValueError: If the backend is not JAX, or the numbers are missing or inconsistent.
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
        raise ValueError(f"--strategy={strategy} needs KERAS_BACKEND={needs}, but it is {backend}.")
    if backend == "jax":
        tf.config.set_visible_devices([], "GPU")  # TensorFlow only reads the data; JAX needs the memory
    if strategy == "mirrored":
        mirrored = tf.distribute.MirroredStrategy()
        devices = Devices(mirrored.num_replicas_in_sync, strategy=mirrored)
    elif strategy == "data_parallel":
        import jax

        # Each process loads its own share, so Keras must not split the data again.
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        devices = Devices(jax.device_count(), Share(jax.process_index(), jax.process_count()))
    else:
        devices = Devices()
    if batch_size % devices.count:
        raise ValueError(f"--batch_size={batch_size} is not a multiple of the {devices.count} devices.")
    return devices


def reproducible(threads: int | None) -> None:
    """Makes results on a CPU bit-identical in every process. Must be called before TensorFlow's first operation.

    TensorFlow's graph optimizer orders sums differently in each process, without measurable gain here.

    Args:
        threads: Number of threads; None for TensorFlow's default.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
