"""layer_map and shrink of KerasHub's models: tasks and backbones."""

import keras
import numpy as np
import pytest

import keras_kd as kd

keras_hub = pytest.importorskip("keras_hub")

import hub_models  # noqa: E402


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "kind, layer, attention",
    [
        ("bert", "transformer_layer_", "self_attention_layer"),
        ("gpt2", "transformer_layer_", "self_attention"),
        ("llama", "transformer_layer_", "self_attention"),
        ("gemma", "decoder_block_", "attention"),
    ],
)
def test_the_taps_are_found(kind, layer, attention):
    teacher, student = (getattr(hub_models, kind)(n) for n in (4, 2))
    arguments = dict(states=1.0, relations=1.0, maps=1.0)
    sides = (teacher, student), (teacher.backbone, student.backbone)
    for models, prefix in zip(sides, ("backbone/", "")):
        transfers = kd.schemes.layer_map(*models, **arguments)
        path = f"{prefix}{layer}1"
        assert [
            tap.text for each in transfers[:3] for tap in each.teacher_taps
        ] == [
            path,
            *[f"{path}/{attention}/{n}" for n in ("query", "key", "value")],
            f"{path}/{attention}:scores",
        ]
        kd.Distiller(*models, transfers)  # Each is there to be tapped.


def test_padding_is_absent_from_a_decoders_layer_map():
    keras.utils.set_random_seed(0)
    teacher, student = hub_models.llama(2, 16), hub_models.llama(1, 8)
    transfers = kd.schemes.layer_map(teacher, student, relations=1.0, maps=1.0)
    distiller = kd.Distiller(teacher, student, transfers)
    distiller.compile("sgd", None)
    x, _, _ = hub_models.causal_lm_batch()
    more = {
        key: np.pad(each, ((0, 0), (0, each.shape[1])))
        for key, each in x.items()
    }
    logs, padded = (
        distiller.evaluate(each, verbose=0, return_dict=True)
        for each in (x, more)
    )
    assert len(logs) > 3
    for name, value in logs.items():
        np.testing.assert_allclose(padded[name], value, rtol=1e-3, err_msg=name)
