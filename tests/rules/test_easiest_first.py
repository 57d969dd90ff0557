"""EasiestFirst: how many it keeps, and how its share moves."""

import keras
import numpy as np
import pytest
from keras import ops
from rule_cases import easiest
from rule_cases import entropy
from rule_cases import softmax
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd
from keras_kd.rules import apply_rules


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("samples", [1, 13, 50])
def test_easiest_first_keeps_the_share(share, samples):
    random = np.random.default_rng(samples)
    logits = random.normal(size=(samples, 4))
    given = kd.rules.RuleInputs(
        ops.convert_to_tensor(logits, "float32"), None, None
    )
    weight = numpy(
        apply_rules([kd.rules.EasiestFirst(share)], given).sample_weight
    )
    expected = easiest(share, entropy(softmax(logits)), np.ones(samples, bool))
    np.testing.assert_array_equal(weight, expected)
    exact = {0.3: 15, 0.7: 35}  # 0.3 * 50 is more than 15 in float32
    if samples == 50 and share in exact:
        assert weight.sum() == exact[share]


def test_easiest_first_keeps_all_that_are_alike():
    given = kd.rules.RuleInputs(ops.zeros((6, 3)), None, None)
    rule = kd.rules.EasiestFirst(0.5)
    weight = numpy(apply_rules([rule], given).sample_weight)
    np.testing.assert_array_equal(weight, np.ones(6))


def distiller(rule):
    keras.utils.set_random_seed(0)
    model = kd.Distiller(
        functional_model(8, name="teacher"),
        functional_model(4, name="student"),
        [
            kd.Transfer(
                kd.losses.SoftTargets(), rules=[rule], name="easiest_first"
            )
        ],
        hard_weight=0.0,
    )
    model.compile(keras.optimizers.SGD(0.01), cross_entropy())
    return model


def test_a_share_moves_by_schedule_and_by_hand_and_is_logged():
    curve = kd.schedules.Annealing(0.2, 1.0, steps=4)
    rule = kd.rules.EasiestFirst(curve)
    model = distiller(rule)
    x, y = data()
    logs = model.fit(x, y, batch_size=12, epochs=3, verbose=0).history
    # Two steps an epoch: what the last of each began with.
    np.testing.assert_allclose(
        logs["easiest_first_share"], [0.4, 0.8, 1.0], rtol=1e-5
    )

    class Widen(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            hyperparameters = self.model.hyperparameters()
            share = hyperparameters["easiest_first_share"]
            share.moves = True
            share.assign(0.5 + 0.5 * epoch)

    model = distiller(kd.rules.EasiestFirst(0.25))
    model.compile(keras.optimizers.SGD(0.0), cross_entropy())
    model.student.get_layer("norm").trainable = False
    logs = model.fit(
        x, y, batch_size=24, epochs=2, verbose=0, callbacks=[Widen()]
    ).history
    assert logs["easiest_first_share"] == [0.5, 1.0]
    # The compiled step follows: nothing else moves.
    first, second = logs["easiest_first_loss"]
    assert abs(first - second) > 1e-4 * abs(first)


@pytest.mark.one_backend
def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="`by` must be one of"):
        kd.rules.EasiestFirst(0.5, by="loss")
    for share in (0.0, -1.0, "half"):
        with pytest.raises(ValueError, match="`share` must be"):
            kd.rules.EasiestFirst(share)
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        kd.rules.EasiestFirst(1.5)
