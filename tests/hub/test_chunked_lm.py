"""Language models in chunks of positions train as they do with all logits."""

import hub_models
import keras
import numpy as np
import pytest
from keras import ops
from support import numpy

import keras_kd as kd
from keras_kd.testing import assert_close

X, Y, WEIGHTS = hub_models.causal_lm_batch()


def hard_loss(**arguments):
    arguments = {"reduction": "mean_with_sample_weight", **arguments}
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, **arguments
    )


def metrics():
    return [
        kd.metrics.TeacherAgreement(),
        kd.metrics.TeacherDivergence(),
        kd.metrics.Perplexity(),
        kd.metrics.Perplexity("teacher"),
        keras.metrics.SparseCategoricalAccuracy(),
    ]


def trained(pair, chunk_size, transfers, x=X, y=Y, weights=WEIGHTS, **compile):
    """The logs and the student's weights after two steps."""
    keras.utils.set_random_seed(1)
    teacher, student = pair()
    for model in (teacher, student):
        # Random ones give logits of nearly 0.
        for variable in model.backbone.token_embedding.variables:
            variable.assign(20.0 * variable)
    distiller = kd.Distiller(
        teacher, student, transfers(), hard_weight=0.5, chunk_size=chunk_size
    )
    settings = {"loss": hard_loss(), "weighted_metrics": metrics(), **compile}
    distiller.compile(keras.optimizers.SGD(0.5), **settings)
    before = weights_of(student)
    history = distiller.fit(
        x, y, 4, sample_weight=weights, verbose=0, shuffle=False
    )
    logs = distiller.evaluate(x, y, 4, 0, weights, return_dict=True)
    logs = {**logs, **{f"train_{k}": v[0] for k, v in history.history.items()}}
    return logs, weights_of(student) - before


def weights_of(model):
    return np.concatenate([numpy(v).ravel() for v in model.trainable_variables])


def compare(pair, transfers, tolerance=1e-5, **arguments):
    dense, chunked = (
        trained(pair, size, transfers, **arguments) for size in (None, 4)
    )
    assert dense[0].keys() == chunked[0].keys()
    for name, value in dense[0].items():
        assert_close(chunked[0][name], value, 20 * tolerance, name)
    assert_close(chunked[1], dense[1], tolerance)


def transfers():
    return [
        kd.losses.ReverseKL(),
        kd.Transfer(kd.losses.JensenShannon(), weight=0.5),
        kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher="backbone/transformer_layer_1",
            student="backbone/transformer_layer_0",
            adapter=kd.layers.FeatureAdapter(),
        ),
    ]


def test_llama():
    compare(hub_models.llama_pair, transfers)


def test_gpt2_with_tied_head():
    compare(hub_models.gpt2_pair, lambda: kd.losses.SoftTargets(2.0))
