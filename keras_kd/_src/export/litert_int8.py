"""int8 for LiteRT: the settings of TensorFlow's converter."""


def converter_options(job):
    """Attributes of the converter, as Keras' export takes them."""
    if job.quantize is None:
        return {}
    import tensorflow as tf

    # Without representative samples, only weights are quantized beforehand.
    options = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if job.quantize == "int8":
        options["representative_dataset"] = lambda: _representative(job)
    if job.integer_only:
        options["inference_input_type"] = tf.int8
        options["inference_output_type"] = tf.int8
    return options


def _representative(job):
    """Yields the samples of each pass, by the names of the file's inputs."""
    for rows in job.parts():
        yield {name: array[rows] for name, array in job.arrays.items()}
