"""How a process computes with TensorFlow: on which device, in how many threads, how precisely."""

import keras
import tensorflow as tf

from tasks.core.training.backend import DETERMINISTIC, TF32

OUT_OF_MEMORY = tf.errors.ResourceExhaustedError
FLOATS, EPSILON = "float32", 1e-7  # of Keras as it comes; ~/.keras/keras.json may say otherwise


def setup(threads: int) -> str:
    """Set threads, memory growth, precision and determinism for this process, and return the device's name.

    TensorFlow accepts these settings only before its first operation.
    """
    set_defaults()
    keras.utils.disable_interactive_logging()  # Keras's progress bars would stand among what a command prints
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_tensor_float_32_execution(TF32)
    if DETERMINISTIC:
        tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return str(tf.config.experimental.get_device_details(gpus[0])["device_name"]) if gpus else "cpu"


def set_defaults() -> None:
    """Set what Keras's layers, initializers and optimizers take from a file of the user, or from other code."""
    keras.config.set_floatx(FLOATS)
    keras.config.set_dtype_policy(FLOATS)
    keras.config.set_epsilon(EPSILON)
    keras.config.set_image_data_format("channels_last")
