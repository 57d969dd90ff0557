"""Language models in chunks of positions train as they do with all logits."""

import keras
import numpy as np
import pytest
from support import numpy

import keras_kd as kd
from keras_kd.testing import assert_close

pytest.importorskip("keras_hub")

import hub_models

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


def trained(pair, chunk_size, transfers, scale=20.0):
    """The logs and the student's weights after two steps."""
    keras.utils.set_random_seed(1)
    teacher, student = pair()
    for model in (teacher, student):
        # Random ones give logits of nearly 0.
        for variable in model.backbone.token_embedding.variables:
            variable.assign(scale * variable)
    distiller = kd.Distiller(
        teacher, student, transfers(), hard_weight=0.5, chunk_size=chunk_size
    )
    distiller.compile(
        keras.optimizers.SGD(0.5), hard_loss(), weighted_metrics=metrics()
    )
    before = weights_of(student)
    history = distiller.fit(
        X, Y, 4, sample_weight=WEIGHTS, verbose=0, shuffle=False
    )
    logs = distiller.evaluate(X, Y, 4, 0, WEIGHTS, return_dict=True)
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


def lora_pair_of_an_int8_teacher():
    teacher, student = hub_models.llama_pair()
    hub_models.quantize(teacher)
    student.backbone.enable_lora(2)
    for variable in student.trainable_variables:
        variable.assign(keras.random.normal(variable.shape, stddev=0.3, seed=3))
    return teacher, student


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_lora_student_of_an_int8_teacher():
    compare(
        lora_pair_of_an_int8_teacher,
        lambda: kd.Transfer(kd.losses.ReverseKL(), weight=100.0),
        scale=1.0,
    )


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    # bfloat16 has a step of 0.8 %.
    compare(
        hub_models.gpt2_pair, lambda: kd.losses.SoftTargets(1.0), tolerance=0.02
    )


def test_cached_top_k(tmp_path):
    teacher, student = hub_models.llama_pair()
    kd.cache.write(teacher, X, tmp_path / "top_k", outputs=kd.cache.TopK(3))
    cache = kd.cache.open(tmp_path / "top_k")
    results = []
    for chunk_size in (None, 4):
        distiller = kd.Distiller(
            cache, student, kd.losses.SoftTargets(1.0), chunk_size=chunk_size
        )
        distiller.compile(keras.optimizers.SGD(0.0), hard_loss())
        data = cache.join(X, Y, WEIGHTS, batch_size=4)
        results.append(distiller.fit(data, verbose=0).history)
    for name, value in results[0].items():
        assert_close(results[1][name], value, 1e-5, name)


def test_more_padding_changes_nothing():
    def evaluated(x, y, weights):
        keras.utils.set_random_seed(1)
        distiller = kd.schemes.causal_lm(*hub_models.llama_pair(), chunk_size=4)
        distiller.compile("sgd", hard_loss(), weighted_metrics=metrics())
        return distiller.evaluate(x, y, 8, 0, weights, return_dict=True)

    def padded(array):
        return np.concatenate([array, np.zeros_like(array)], axis=1)

    expected = evaluated(X, Y, WEIGHTS)
    doubled = {name: padded(array) for name, array in X.items()}
    found = evaluated(doubled, padded(Y), padded(WEIGHTS))
    for name, value in expected.items():
        assert_close(found[name], value, 1e-5, name)


@pytest.mark.one_backend
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_a_student_whose_head_is_quantized():
    teacher, student = hub_models.llama_pair()
    hub_models.quantize(student)
    with pytest.warns(UserWarning, match="a wrong gradient"):
        kd.Distiller(teacher, student)


@pytest.mark.one_backend
def test_named_masks_and_ignored_labels():
    """As in data of texts that the student wrote in part."""
    models = hub_models.llama_pair()
    x = {**X, "given_mask": np.arange(6) < np.arange(8)[:, None]}
    labels = np.where(x["given_mask"], Y, -1)
    transfer = kd.Transfer(
        kd.losses.ReverseKL(), mask="given_mask", ignore_class=False
    )
    found = []
    for chunk_size in (None, 4):
        distiller = kd.Distiller(*models, transfer, chunk_size=chunk_size)
        distiller.compile("sgd", hard_loss(ignore_class=-1))
        found.append(
            distiller.evaluate(x, labels, 8, 0, WEIGHTS, return_dict=True)
        )
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[0]["reverse_kl_loss"] > 0.0
