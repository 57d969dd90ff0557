"""DropUnusual: its statistics and its weights; saved, resumed, in training."""

import keras
import numpy as np
import pytest
from keras import ops
from rule_cases import softmax
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd
from keras_kd.rules import apply_rules

CLASSES = 3


def batches(count=6, samples=20, seed=0):
    """Logits of unlike spread, and weights of which some are 0."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        logits = 3.0 * random.normal(size=(samples, CLASSES))
        yield logits, (random.random(samples) > 0.2).astype("float64")


def rule_inputs(logits, weight=None, training=False):
    if weight is not None:
        weight = ops.convert_to_tensor(weight, "float32")
    logits = ops.convert_to_tensor(logits, "float32")
    return kd.rules.RuleInputs(logits, None, weight, training=training)


def built(**kwargs):
    rule = kd.rules.DropUnusual(**kwargs)
    rule.build((None, CLASSES))
    return rule


class Reference:
    """Keeps every confidence, with the weight that its batch has by now."""

    def __init__(self, per_class, momentum):
        self.per_class = per_class
        self.momentum = momentum
        self.seen = []  # (group, confidence, weight)

    def groups(self, logits):
        first = logits.argmax(axis=-1)
        return first if self.per_class else np.zeros_like(first)

    def update(self, logits, weight):
        self.seen = [(g, c, self.momentum * w) for g, c, w in self.seen]
        confidence = softmax(logits).max(axis=-1)
        for g, c, w in zip(self.groups(logits), confidence, weight):
            if w > 0:
                self.seen.append((g, c, 1.0))

    def z(self, logits):
        scores = []
        confidence = softmax(logits).max(axis=-1)
        for group, sure in zip(self.groups(logits), confidence):
            known = np.array([(c, w) for g, c, w in self.seen if g == group])
            if len(known) == 0 or known[:, 1].sum() < 10.0:
                scores.append(0.0)
                continue
            mean = np.average(known[:, 0], weights=known[:, 1])
            variance = np.average(
                (known[:, 0] - mean) ** 2, weights=known[:, 1]
            )
            scores.append(max(mean - sure, 0.0) / max(variance**0.5, 1e-4))
        return np.array(scores)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("momentum", [0.8, 0.99])
def test_each_batch_is_judged_by_those_before_it(soft, per_class, momentum):
    rule = built(
        deviations=1.2,
        soft=soft,
        keep=0.25,
        per_class=per_class,
        momentum=momentum,
    )
    reference, unusual = Reference(per_class, momentum), 0
    for logits, weight in batches():
        z = reference.z(logits)
        factor = np.where(z > 1.2, 0.25, 1.0)
        if soft:
            factor = np.exp(-2 * (z / 1.2) ** 2)
        result = apply_rules([rule], rule_inputs(logits, weight, training=True))
        np.testing.assert_allclose(
            numpy(result.sample_weight), weight * factor, rtol=1e-3, atol=1e-5
        )
        reference.update(logits, weight)
        unusual += np.sum(z > 1.2)
    assert unusual > 5


def test_the_spread_of_a_very_sure_teacher_is_not_rounded_away():
    rule = built(per_class=False)
    random = np.random.default_rng(1)
    logits = np.zeros((1000, CLASSES))
    logits[:, 0] = 10.0 + random.normal(size=1000)
    for part in np.split(logits, 10):
        apply_rules([rule], rule_inputs(part, training=True))
    count, mean, squares = (float(numpy(v.value)[0]) for v in rule.weights)
    reference = Reference(False, 0.99)
    for part in np.split(logits, 10):
        reference.update(part, np.ones(100))
    confidence = np.array([c for _, c, _ in reference.seen])
    weight = np.array([w for _, _, w in reference.seen])
    expected = np.average(confidence, weights=weight)
    assert count == pytest.approx(weight.sum(), rel=1e-5)
    assert mean == pytest.approx(expected, rel=1e-6)
    variance = np.average((confidence - expected) ** 2, weights=weight)
    assert variance < 1e-7  # next to which float32 rounds by as much
    assert squares / count == pytest.approx(variance, rel=1e-2)


def test_statistics_stay_outside_of_training():
    rule = built()
    for logits, weight in batches(2):
        apply_rules([rule], rule_inputs(logits, weight, training=True))
    before = rule.get_weights()
    for logits, weight in batches(2, seed=1):
        apply_rules([rule], rule_inputs(logits, weight))
    for one, two in zip(before, rule.get_weights()):
        np.testing.assert_array_equal(one, two)


def test_too_few_are_not_judged():
    rule = built()
    few = np.array([[9.0, 0.0, 0.0]] * 9 + [[0.1, 0.0, 0.0]])
    apply_rules([rule], rule_inputs(few[:9], training=True))
    weight = numpy(apply_rules([rule], rule_inputs(few)).sample_weight)
    np.testing.assert_array_equal(weight, np.ones(10))
    apply_rules([rule], rule_inputs(few[:9], training=True))
    weight = numpy(apply_rules([rule], rule_inputs(few)).sample_weight)
    np.testing.assert_array_equal(weight, [1.0] * 9 + [0.0])


def test_a_batch_of_absent_samples_leaves_the_mean():
    rule = built(momentum=0.5)
    ((logits, _),) = batches(1)
    apply_rules([rule], rule_inputs(logits, training=True))
    _, mean, _ = rule.get_weights()
    apply_rules([rule], rule_inputs(logits, np.zeros(20), training=True))
    count, after, squares = rule.get_weights()
    np.testing.assert_allclose(after, mean, rtol=1e-6)
    assert np.isfinite(squares).all()
    assert count.sum() == pytest.approx(10.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_and_a_batch_of_one(dtype):
    rule = built()
    logits = ops.convert_to_tensor([[400.0, 0.0, -400.0]], dtype)
    result = apply_rules(
        [rule], kd.rules.RuleInputs(logits, None, None, training=True)
    )
    np.testing.assert_array_equal(numpy(result.sample_weight), [1.0])
    assert all(np.isfinite(weight).all() for weight in rule.get_weights())


# --- in training --------------------------------------------------------------


def distiller(**kwargs):
    keras.utils.set_random_seed(0)
    model = kd.Distiller(
        functional_model(8, name="teacher"),
        functional_model(4, name="student"),
        [
            kd.Transfer(
                kd.losses.SoftTargets(),
                rules=[kd.rules.DropUnusual(**kwargs)],
                name="soft",
            )
        ],
        hard_weight=0.0,
    )
    model.compile(keras.optimizers.SGD(0.1), cross_entropy())
    return model


def test_training_steps_update_the_statistics_and_evaluation_does_not():
    model = distiller(momentum=0.9)
    (rule,) = model.transfers[0].rules
    x, y = data(24)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    reference = Reference(True, 0.9)
    logits = numpy(model.teacher(x)).astype("float64")
    for part in np.split(np.concatenate([logits, logits]), 6):
        reference.update(part, np.ones(8))
    count, mean, squares = rule.get_weights()
    for group in range(CLASSES):
        seen = np.array([(c, w) for g, c, w in reference.seen if g == group])
        if len(seen) == 0:
            assert count[group] == 0.0
            continue
        expected = np.average(seen[:, 0], weights=seen[:, 1])
        assert count[group] == pytest.approx(seen[:, 1].sum(), rel=1e-5)
        assert mean[group] == pytest.approx(expected, rel=1e-5)
    model.evaluate(x, y, verbose=0)
    np.testing.assert_array_equal(rule.get_weights()[0], count)
    assert not rule.trainable_variables


def test_saved_with_the_distiller_and_resumed(tmp_path):
    model = distiller(deviations=1.0, soft=True, momentum=0.5)
    x, y = data(24)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    model.save(tmp_path / "distiller.keras")
    logs = model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    loaded.set_teacher(model.teacher)
    other = loaded.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    np.testing.assert_allclose(
        logs.history["soft_loss"], other.history["soft_loss"], rtol=1e-5
    )
    (rule,), (again,) = (m.transfers[0].rules for m in (model, loaded))
    assert rule.get_config() == again.get_config()
    for one, two in zip(rule.get_weights(), again.get_weights()):
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_the_audit_judges_all_data_by_itself_and_leaves_the_statistics():
    random = np.random.default_rng(0)
    logits = np.zeros((100, CLASSES))
    logits[:, 0] = 4.0 + random.normal(size=100)
    logits[17, 0] = 0.1
    rule = kd.rules.DropUnusual(deviations=4.0)
    (touched,) = kd.rules.audit([rule], logits)
    assert touched.samples.tolist() == [17]
    assert touched.of_class.tolist() == [1, 0, 0]
    assert all(np.all(weight == 0.0) for weight in rule.get_weights())


@pytest.mark.one_backend
def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="`deviations` must be a finite"):
        kd.rules.DropUnusual(0.0)
    with pytest.raises(ValueError, match="`momentum` must be a finite"):
        kd.rules.DropUnusual(momentum=1.0)
    with pytest.raises(ValueError, match="`keep` must be a finite"):
        kd.rules.DropUnusual(keep=1.5)
