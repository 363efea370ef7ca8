"""The program of train_small.py on a TensorFlow that sees two devices."""

import tensorflow as tf

from tests.training import train_small

if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    train_small.PROGRAM.run()
