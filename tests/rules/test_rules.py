"""Rules: each one against NumPy, the audit, and rules in a training step."""

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

LOGITS = np.array(
    [
        [2.0, 1.0, -1.0],  # right and sure
        [2.0, 1.0, -1.0],  # wrong
        [0.1, 0.0, 0.05],  # right, not sure
        [0.0, 9.0, -9.0],  # without a label
        [1.0, 1.0, 0.0],  # two classes equally likely, one of them right
    ],
    "float32",
)
LABELS = np.array([0, 2, 0, -1, 1], "int32")


def probabilities(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def rule_inputs(weight=None, labels=LABELS):
    return kd.rules.RuleInputs(
        ops.convert_to_tensor(LOGITS), ops.zeros((5, 3)), weight, labels
    )


def applied(rule, **kwargs):
    result = apply_rules([rule], rule_inputs(**kwargs))
    return numpy(result.teacher_logits), numpy(result.sample_weight)


def shifted(logits, label):
    changed = logits.copy()
    best = int(logits.argmax())
    changed[label], changed[best] = logits[best], logits[label]
    return changed


def lifted(logits, label, margin):
    changed = logits.copy()
    others = [logit for c, logit in enumerate(logits) if c != label]
    changed[label] = max(logits[label], max(others) + margin)
    return changed


def test_drop_wrong_weighs_only_what_the_teacher_has_wrong():
    logits, weight = applied(kd.rules.DropWrong(keep=0.25))
    np.testing.assert_array_equal(logits, LOGITS)
    np.testing.assert_allclose(weight, [1.0, 0.25, 1.0, 1.0, 1.0])


def test_drop_unsure_weighs_by_the_confidence():
    logits, weight = applied(kd.rules.DropUnsure(below=0.6, keep=0.5))
    confidence = probabilities(LOGITS).max(axis=-1)
    assert 0 < np.sum(confidence < 0.6) < len(LOGITS)
    np.testing.assert_allclose(weight, np.where(confidence < 0.6, 0.5, 1.0))
    np.testing.assert_array_equal(logits, LOGITS)


def test_weights_multiply_those_of_the_data():
    given = np.array([0.0, 2.0, 2.0, 1.0, 3.0], "float32")
    _, weight = applied(kd.rules.DropWrong(keep=0.5), weight=given)
    np.testing.assert_allclose(weight, given * [1.0, 0.5, 1.0, 1.0, 1.0])


def test_probability_shift_swaps_where_the_teacher_is_wrong():
    logits, weight = applied(kd.rules.ProbabilityShift())
    expected = LOGITS.copy()
    for place, label in enumerate(LABELS):
        if label >= 0:
            expected[place] = shifted(LOGITS[place], label)
    np.testing.assert_array_equal(logits, expected)
    np.testing.assert_array_equal(logits[1], [-1.0, 1.0, 2.0])
    np.testing.assert_array_equal(weight, np.ones(5))


@pytest.mark.parametrize("margin", [0.0, 0.5, 3.0])
def test_lift_true_class_lets_it_lead_by_the_margin(margin):
    logits, _ = applied(kd.rules.LiftTrueClass(margin))
    expected = LOGITS.copy()
    for place, label in enumerate(LABELS):
        if label >= 0:
            expected[place] = lifted(LOGITS[place], label, margin)
    np.testing.assert_allclose(logits, expected)
    np.testing.assert_array_equal(logits[3], LOGITS[3])


@pytest.mark.parametrize("below", [0.001, 0.1, 0.99])
def test_clip_tail_leaves_the_others_their_proportions(below):
    logits, _ = applied(kd.rules.ClipTail(below))
    before, after = probabilities(LOGITS), probabilities(logits)
    for p, q in zip(before, after):
        stays = (p >= below) | (p == p.max())
        np.testing.assert_allclose(q[~stays], 0.0)
        np.testing.assert_allclose(q[stays], p[stays] / p[stays].sum(), 1e-5)


def test_rules_apply_one_after_another():
    rules = [kd.rules.ProbabilityShift(), kd.rules.DropWrong()]
    weight = numpy(apply_rules(rules, rule_inputs()).sample_weight)
    np.testing.assert_array_equal(weight, np.ones(5))
    weight = numpy(apply_rules(rules[::-1], rule_inputs()).sample_weight)
    np.testing.assert_array_equal(weight, [1.0, 0.0, 1.0, 1.0, 1.0])


def test_extreme_logits_stay_finite():
    extreme = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], "float32")
    for rule in (
        kd.rules.ProbabilityShift(),
        kd.rules.LiftTrueClass(1.0),
        kd.rules.ClipTail(),
        kd.rules.DropUnsure(),
        kd.rules.DropWrong(),
    ):
        result = apply_rules(
            [rule],
            kd.rules.RuleInputs(
                ops.convert_to_tensor(extreme), None, None, np.array([1, 1])
            ),
        )
        assert np.isfinite(numpy(result.teacher_logits)).all()
        assert np.isfinite(numpy(result.sample_weight)).all()


def test_audit_says_which_samples_each_rule_changes():
    rules = [kd.rules.DropWrong(), kd.rules.ClipTail(0.001)]
    report = kd.rules.audit(rules, LOGITS, LABELS)
    assert [touched.rule for touched in report] == ["drop_wrong", "clip_tail"]
    assert report[0].samples.tolist() == [1]
    assert report[0].of_class.tolist() == [0, 0, 1]
    assert report[1].samples.tolist() == [3]  # of no label: its first choice
    assert report[1].of_class.tolist() == [0, 1, 0]
    assert "drop_wrong                   1  20.0%  0 0 1" in str(report)


def test_audit_needs_labels_only_where_a_rule_does():
    assert len(kd.rules.audit([kd.rules.ClipTail()], LOGITS)) == 1
    with pytest.raises(ValueError, match="DropWrong compares the teacher"):
        kd.rules.audit([kd.rules.DropWrong()], LOGITS)


# --- in a training step -------------------------------------------------------


def distiller(rules, teacher=None, hard_weight=0.0, **kwargs):
    return kd.Distiller(
        teacher or functional_model(8, name="teacher"),
        functional_model(4, name="student"),
        [
            kd.Transfer(
                kd.losses.SoftTargets(**kwargs), rules=rules, name="soft"
            )
        ],
        hard_weight=hard_weight,
    )


def test_a_step_is_computed_of_what_the_rules_left():
    x, y = data()
    rules = [kd.rules.DropWrong(), kd.rules.ClipTail(0.3)]
    model = distiller(rules, temperature=2.0)
    model.compile("sgd", cross_entropy())
    value = model.evaluate(x, y, return_dict=True, verbose=0)["soft_loss"]
    logits = numpy(model.teacher(x))
    right = logits.argmax(axis=-1) == y
    assert 0 < right.sum() < len(y)
    p = probabilities(logits)
    tail = (p < 0.3) & (p < p.max(-1, keepdims=True))
    p = probabilities(np.where(tail, -1e4, logits) / 2.0)
    q = probabilities(numpy(model.student(x)) / 2.0)
    log_p = np.log(np.maximum(p, 1e-30))
    divergence = 4.0 * np.sum(p * (log_p - np.log(q)), axis=-1)
    assert value == pytest.approx(divergence[right].mean(), rel=1e-4)


def test_a_dropped_sample_keeps_its_label():
    x, y = data()
    model = distiller([kd.rules.DropUnsure(below=0.999)], hard_weight=1.0)
    model.compile("sgd", cross_entropy())
    logs = model.fit(x, y, verbose=0).history
    assert logs["soft_loss"] == [0.0]
    assert logs["hard_loss"][0] > 0.1
    assert logs["loss"][0] == pytest.approx(logs["hard_loss"][0], rel=1e-5)


def test_dropping_samples_is_training_without_them():
    x, y = data()
    model = distiller([kd.rules.DropWrong()])
    # Batch normalization would still see the dropped ones.
    model.student.get_layer("norm").trainable = False
    start = model.student.get_weights()
    right = numpy(model.teacher(x)).argmax(axis=-1) == y
    ends = []
    for rules, chosen in [
        ([kd.rules.DropWrong()], np.ones(len(y), bool)),
        ([], right),
    ]:
        copy = distiller(rules, teacher=model.teacher)
        copy.student.get_layer("norm").trainable = False
        copy.student.set_weights(start)
        copy.compile(keras.optimizers.SGD(0.1), cross_entropy())
        copy.fit(x[chosen], y[chosen], batch_size=len(x), verbose=0)
        ends.append(copy.student.get_weights())
    for one, other in zip(*ends):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert any(np.any(a != b) for a, b in zip(ends[0], start))


def test_rules_are_saved_with_the_distiller(tmp_path):
    rules = [
        kd.rules.DropWrong(keep=0.5),
        kd.rules.DropUnsure(0.4, keep=0.25),
        kd.rules.ProbabilityShift(),
        kd.rules.LiftTrueClass(0.5),
        kd.rules.ClipTail(0.01, name="tail"),
    ]
    model = distiller(rules)
    model.compile("sgd", cross_entropy())
    model.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    (transfer,) = loaded.transfers
    assert [type(rule) for rule in transfer.rules] == [type(r) for r in rules]
    for rule, other in zip(transfer.rules, rules):
        assert rule.get_config() == other.get_config()


# --- errors -------------------------------------------------------------------


@pytest.mark.one_backend
def test_errors_say_what_to_do():
    soft, hint = kd.losses.SoftTargets(), kd.losses.FeatureMatching()
    rule = kd.rules.DropWrong()
    with pytest.raises(ValueError, match="must be a list of `keras_kd.rules`"):
        kd.Transfer(soft, rules=["DropWrong"])
    with pytest.raises(ValueError, match="does not compare logits"):
        kd.Transfer(hint, rules=[rule])
    with pytest.raises(ValueError, match="each a yes or a no"):
        kd.Transfer(kd.losses.BinarySoftTargets(), rules=[rule])
    with pytest.raises(ValueError, match="`keep` must be a finite"):
        kd.rules.DropWrong(keep=2.0)
    with pytest.raises(ValueError, match="`below` must be a finite"):
        kd.rules.ClipTail(-0.1)
    with pytest.raises(ValueError, match="`margin` must be a finite"):
        kd.rules.LiftTrueClass("much")


def test_rules_that_need_labels_say_so_in_training():
    x, _ = data()
    model = distiller([kd.rules.ProbabilityShift()])
    model.compile("sgd", None)
    with pytest.raises(ValueError, match="a batch without labels"):
        model.fit(x, verbose=0)


def test_pixels_are_samples_to_rules():
    random = np.random.default_rng(0)
    logits, student = random.normal(size=(2, 3, 2, 4, 5)).astype("float32")
    labels = random.integers(-1, 5, (3, 2, 4, 1))
    weight = random.integers(0, 2, (3, 2, 4)).astype("float32")
    rules = [
        kd.rules.ProbabilityShift(),
        kd.rules.TemperatureByEntropy(),
        kd.rules.EasiestFirst(0.4, by="student_loss"),
        kd.rules.DropUnusual(1.0),
        kd.rules.WeighByAgreement(["a", "b"]),
    ]
    rules[3].build((None, 5))
    features = {"a": ops.array(logits), "b": ops.array(student)}
    maps = kd.rules.RuleInputs(
        ops.array(logits), ops.array(student), ops.array(weight), labels
    )._replace(teacher_features=features, training=True)
    found = apply_rules(rules, maps)
    counted = float(ops.sum(rules[3].count))
    rules[3].count.assign(np.zeros(5))
    rows = maps._replace(
        teacher_logits=ops.array(logits.reshape(-1, 5)),
        student_logits=ops.array(student.reshape(-1, 5)),
        sample_weight=ops.array(weight.reshape(-1)),
        labels=labels.reshape(-1),
        teacher_features={
            tap: ops.reshape(each, (-1, 5)) for tap, each in features.items()
        },
    )
    expected = apply_rules(rules, rows)
    for part in ("teacher_logits", "sample_weight", "temperature"):
        value = ops.convert_to_numpy(getattr(expected, part))
        shape = weight.shape + value.shape[1:]
        np.testing.assert_allclose(
            ops.convert_to_numpy(getattr(found, part)),
            value.reshape(shape),
            rtol=1e-6,
        )
    # Absent pixels are not counted, nor are those that a rule has dropped.
    kept = ops.convert_to_numpy(found.sample_weight) > 0
    assert 0 < kept.sum() <= counted < weight.sum()
