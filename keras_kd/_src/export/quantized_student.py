"""Prepares students of quantization-aware training for exporters."""

from keras_kd._src.quantization.quantization_aware_model import (
    QuantizationAwareModel,
)


def check_quantized_student(student, quantize):
    """Raises a `ValueError` if a student was trained for another file."""
    if not isinstance(student, QuantizationAwareModel):
        return
    if quantize != "int8":
        raise ValueError(
            f"The student {student.name!r} has the ranges of an int8 file. "
            f"Received: quantize={quantize!r}. Pass quantize='int8', or export "
            "`student.float_model()`."
        )
    bits = student.weight_bits or 8, student.activation_bits or 8
    if bits[0] > 8 or bits[1] != 8:
        raise ValueError(
            "A student for an int8 file is trained with activation_bits=8 and "
            f"weight_bits of at most 8. Received: {student.name!r} with "
            f"weight_bits={student.weight_bits} and "
            f"activation_bits={student.activation_bits}."
        )


def learned_ranges(student):
    """The ranges of a quantization-aware student's values, else empty."""
    if isinstance(student, QuantizationAwareModel):
        return tuple(student.ranges.values())
    return ()


def for_exporter(student, format):
    """The model that is passed to the exporter of a format.

    LiteRT's converter recognizes the rounding of values, and takes their ranges
    from it. For ONNX values are clipped, and the clips are replaced later.
    Weights are on their grid, which both converters recover.
    """
    if not isinstance(student, QuantizationAwareModel):
        return student
    return student.with_rounded_weights(8 if format == "litert" else None)
