"""fd_keras.training.train on a TensorFlow that sees two devices."""

import tensorflow as tf

from fd_keras.training import train

if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    train.PROGRAM.run()
