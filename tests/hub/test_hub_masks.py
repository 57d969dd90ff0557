"""KerasHub's padding mask, an input, reaches the terms of a BERT."""

import keras
import numpy as np
import pytest

import keras_kd as kd

pytest.importorskip("keras_hub")

import hub_models

LAYER = "backbone/transformer_layer_"
ATTENTION = "/self_attention_layer:scores"


def test_padding_changes_no_term():
    keras.utils.set_random_seed(0)
    teacher, student = hub_models.bert_pair()
    hidden, maps = LAYER + "1", LAYER + "1" + ATTENTION
    transfers = [
        kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher=hidden,
            student=LAYER + "0",
            adapter=kd.layers.FeatureAdapter(),
        ),
        kd.Transfer(
            kd.losses.AttentionDivergence(),
            teacher=maps,
            student=LAYER + "0" + ATTENTION,
        ),
    ]
    distiller = kd.Distiller(teacher, student, transfers)
    distiller.compile("sgd", None)
    inputs = hub_models.bert_inputs(length=6)
    assert inputs["padding_mask"].sum() < inputs["padding_mask"].size
    logs = [
        distiller.evaluate(each, verbose=0, return_dict=True)
        for each in (inputs, padded(inputs))
    ]
    names = ["feature_matching_loss", "attention_divergence_loss"]
    for name in names:
        # Random maps are alike: their divergence is near the rounding.
        expected = pytest.approx(logs[1][name], rel=1e-4, abs=1e-7)
        assert logs[0][name] == expected, name
        assert logs[0][name] > 1e-6
    # By hand: the mean over the tokens that are there.
    features = kd.extract_features(teacher, inputs, hidden)[hidden]
    adapted = transfers[0].adapters[0](
        kd.extract_features(student, inputs, LAYER + "0")[LAYER + "0"]
    )
    errors = keras.ops.convert_to_numpy(
        keras.ops.mean(keras.ops.square(features - adapted), axis=-1)
    )
    expected = np.average(errors, weights=inputs["padding_mask"])
    assert logs[0][names[0]] == pytest.approx(expected, rel=1e-4)


def padded(inputs):
    return {
        key: np.pad(each, ((0, 0), (0, each.shape[1])))
        for key, each in inputs.items()
    }
