"""layer_map: transfers from the teacher's layers to the student's."""

import keras

from keras_kd._src.arguments import number
from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.layers.attention_adapter import AttentionAdapter
from keras_kd._src.layers.feature_adapter import FeatureAdapter
from keras_kd._src.losses.attention_maps import AttentionMapMatching
from keras_kd._src.losses.attention_relation import SelfAttentionRelation
from keras_kd._src.losses.feature_matching import FeatureMatching
from keras_kd._src.schemes.transformer_blocks import maps_tap
from keras_kd._src.schemes.transformer_blocks import projection_taps
from keras_kd._src.schemes.transformer_blocks import relation_heads
from keras_kd._src.schemes.transformer_blocks import transformer_blocks

KINDS = "states", "relations", "maps"


def layer_map(
    teacher, student, *, states=1.0, relations=0.0, maps=0.0, losses=None
):
    """Evenly spaced layer map (TinyBERT): transfers from layer to layer.

    You need not name the layers of two transformers one by one. Layer i of the
    student learns from layer round(i * L_t / L_s) of the teacher, so that the
    last layer learns from the last (L_t and L_s are the numbers of layers):

        student, of 3:   1  2  3
        teacher, of 12:  4  8  12

    Three kinds of features can be distilled, each with its own weight:

        states     the layer's output, its hidden states; if the widths
                   differ, through a `FeatureAdapter`
        relations  similarities between positions in its queries, its keys and
                   its values (MiniLMv2); heads and widths may differ
        maps       the attention maps (TinyBERT, there before the softmax); if
                   the heads differ, through an `AttentionAdapter`

    In models of KerasHub, tasks and backbones alike, the layers are those of
    `transformer_layers`; in other models they are the blocks that the model
    repeats. MiniLMv2 distils only the last layer:

        layer_map(teacher, student, states=0.0, relations=1.0)[-1:]

    Args:
        teacher: a Keras model.
        student: a Keras model with at most as many layers as the teacher.
        states: the weight of each layer's hidden states, 0 for none.
        relations: the weight of each layer's relations, 0 for none.
        maps: the weight of each layer's attention maps, 0 for none.
        losses: dict, `"states"`, `"relations"` or `"maps"` -> a loss to use
            in place of `FeatureMatching()`, `SelfAttentionRelation` (with the
            largest number of relation heads that gives each at least 16 units,
            as in the paper) and `AttentionMapMatching()`.

    Returns:
        List of `Transfer`s, in the logs as `states_1_loss`,
        `relations_1_loss`, `maps_1_loss`, `states_2_loss`, ..., by the
        student's layer.

    Raises:
        ValueError: a model has no repeated blocks, or several stacks of them;
            the student has more layers than the teacher; an attention layer
            has no maps to read, or no query, key and value layers; an argument
            is out of range.

    Example:
    >>> layers = [keras.layers.Dense(8, name=f"layer_{n}") for n in range(4)]
    >>> teacher = keras.Sequential([keras.Input((8,)), *layers])
    >>> layers = [keras.layers.Dense(8, name=f"layer_{n}") for n in range(2)]
    >>> student = keras.Sequential([keras.Input((8,)), *layers])
    >>> for transfer in layer_map(teacher, student):
    ...     print(transfer.teacher_taps[0].text, transfer.student_taps[0].text)
    layer_1 layer_0
    layer_3 layer_1

    References: Jiao et al., 2019, "TinyBERT: Distilling BERT for Natural
    Language Understanding", arXiv 1909.10351; Wang et al., 2020, "MiniLMv2",
    arXiv 2012.15828.
    """
    weights = dict(zip(KINDS, (states, relations, maps)))
    weights = {
        kind: number(weight, kind, least=0) for kind, weight in weights.items()
    }
    losses = _checked(weights, losses or {})
    teachers, students = map(transformer_blocks, (teacher, student))
    if len(students) > len(teachers):
        raise ValueError(
            "The student must not have more layers than the teacher. "
            f"Received: a student {student.name!r} of {len(students)} layers, "
            f"and a teacher {teacher.name!r} of {len(teachers)}. Use a "
            "student with fewer layers, or name the layers in `Transfer`s."
        )
    transfers = []
    for place, block in enumerate(students, start=1):
        source = teachers[round(place * len(teachers) / len(students)) - 1]
        for kind in KINDS:
            if weights[kind]:
                arguments = _ARGUMENTS[kind](source, block, losses.get(kind))
                arguments["weight"] = weights[kind]
                name = f"{kind}_{place}"
                transfers.append(Transfer(**arguments, name=name))
    return transfers


def _checked(weights, losses):
    if not any(weights.values()):
        raise ValueError(
            "A layer map needs states, relations or maps. Received: a weight "
            "of 0 for each. Give at least one of them a positive weight."
        )
    unused = [kind for kind in losses if not weights.get(kind)]
    if unused or not all(
        isinstance(loss, keras.losses.Loss) for loss in losses.values()
    ):
        raise ValueError(
            "Argument `losses` must map kinds with a positive weight, among "
            f"{list(KINDS)}, to a `keras.losses.Loss`. Received: "
            f"losses={losses}, weights={weights}."
        )
    return losses


def _copy(loss):
    return type(loss).from_config(loss.get_config())


def _of_states(teacher, student, loss):
    return {
        "loss": _copy(loss or FeatureMatching()),
        "teacher": teacher.state_tap,
        "student": student.state_tap,
        "adapter": FeatureAdapter(),
    }


def _of_relations(teacher, student, loss):
    if loss is None:
        loss = SelfAttentionRelation(relation_heads([teacher, student]))
    return {
        "loss": _copy(loss),
        "teacher": projection_taps(teacher),
        "student": projection_taps(student),
    }


def _of_maps(teacher, student, loss):
    return {
        "loss": _copy(loss or AttentionMapMatching()),
        "teacher": maps_tap(teacher),
        "student": maps_tap(student),
        "adapter": AttentionAdapter(),
    }


_ARGUMENTS = dict(zip(KINDS, (_of_states, _of_relations, _of_maps)))
