"""DropAtRandom: what is drawn, and how often; saved, resumed, in training."""

import keras
import numpy as np
import pytest
from keras import ops
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd
from keras_kd.rules import apply_rules


def weights(rule, batches, training=True, weight=(1.0, 2.0, 0.0)):
    logits = ops.zeros((3, 4))
    inputs = kd.rules.RuleInputs(
        logits, logits, ops.convert_to_tensor(weight), training=training
    )
    return np.stack(
        [
            numpy(apply_rules([rule], inputs).sample_weight)
            for _ in range(batches)
        ]
    )


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_whole_batches_are_left_out_at_the_rate(rate):
    drawn = weights(kd.rules.DropAtRandom(rate, seed=3), 400)
    kept = drawn[:, 0] > 0
    np.testing.assert_array_equal(
        drawn, kept[:, None] * np.array([[1.0, 2.0, 0.0]])
    )
    # Five standard deviations of a share of 400 draws.
    spread = np.sqrt(rate * (1 - rate) / 400)
    assert abs(np.mean(~kept) - rate) < 5 * spread


def test_nothing_is_left_out_of_evaluation_nor_at_rate_zero():
    expected = np.tile([[1.0, 2.0, 0.0]], (20, 1))
    rule = kd.rules.DropAtRandom(0.9, seed=0)
    state = numpy(rule.draws.state.value)
    np.testing.assert_array_equal(weights(rule, 20, training=False), expected)
    np.testing.assert_array_equal(numpy(rule.draws.state.value), state)
    rule = kd.rules.DropAtRandom(0.0)
    np.testing.assert_array_equal(weights(rule, 20), expected)


def test_the_seed_decides():
    one, same, other = (
        weights(kd.rules.DropAtRandom(0.5, seed=seed), 30) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)


# --- in training --------------------------------------------------------------


def distiller(rate=0.5, seed=5, hard_weight=0.0):
    keras.utils.set_random_seed(0)
    model = kd.Distiller(
        functional_model(8, name="teacher"),
        functional_model(4, name="student"),
        [
            kd.Transfer(
                kd.losses.SoftTargets(),
                rules=[kd.rules.DropAtRandom(rate, seed=seed)],
                name="soft",
            )
        ],
        hard_weight=hard_weight,
    )
    # Its statistics would move in a batch without the term.
    model.student.get_layer("norm").trainable = False
    model.compile(keras.optimizers.SGD(0.1), cross_entropy())
    return model


def one_step_each(model, steps):
    """Whether the student moved in each of some training steps."""
    x, y = data(8)
    moved, losses = [], []
    for _ in range(steps):
        before = model.student.get_weights()
        logs = model.train_on_batch(x, y, return_dict=True)
        model.reset_metrics()
        losses.append(float(logs["soft_loss"]))
        after = model.student.get_weights()
        moved.append(any(np.any(a != b) for a, b in zip(before, after)))
    return moved, losses


def test_a_step_without_the_term_trains_nothing():
    moved, losses = one_step_each(distiller(), 12)
    assert True in moved and False in moved
    assert moved == [loss > 0 for loss in losses]
    assert np.isfinite(losses).all()


def test_two_transfers_draw_apart():
    keras.utils.set_random_seed(0)
    model = kd.Distiller(
        functional_model(8, name="teacher"),
        functional_model(4, name="student"),
        [
            kd.Transfer(
                kd.losses.SoftTargets(),
                rules=[kd.rules.DropAtRandom(0.5, seed=seed)],
                name=f"soft_{seed}",
            )
            for seed in (0, 1)
        ],
        hard_weight=0.0,
    )
    model.compile("sgd", cross_entropy())
    x, y = data(8)
    patterns = set()
    for _ in range(20):
        logs = model.train_on_batch(x, y, return_dict=True)
        model.reset_metrics()
        patterns.add((logs["soft_0_loss"] > 0, logs["soft_1_loss"] > 0))
    assert len(patterns) == 4


def test_evaluation_drops_nothing():
    model = distiller(rate=0.99)
    logs = model.evaluate(*data(), return_dict=True, verbose=0)
    assert logs["soft_loss"] > 0.0


def test_a_resumed_run_goes_on_with_the_draws(tmp_path):
    whole = distiller()
    one_step_each(whole, 5)
    whole.save(tmp_path / "distiller.keras")
    expected = one_step_each(whole, 10)
    resumed = keras.saving.load_model(tmp_path / "distiller.keras")
    resumed.set_teacher(whole.teacher)
    resumed.student.get_layer("norm").trainable = False
    moved, losses = one_step_each(resumed, 10)
    assert moved == expected[0]
    np.testing.assert_allclose(losses, expected[1], rtol=1e-5)
    (rule,) = resumed.transfers[0].rules
    assert rule.get_config()["rate"] == 0.5


@pytest.mark.one_backend
@pytest.mark.parametrize("rate", [1.0, -0.1, "often"])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match="`rate` must be a finite"):
        kd.rules.DropAtRandom(rate)
