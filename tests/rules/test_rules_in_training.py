"""All rules in compiled steps, with an ensemble whose members are read."""

import keras
import numpy as np
import pytest
from rule_cases import by_difficulty
from rule_cases import by_loss
from rule_cases import by_votes
from rule_cases import cross_entropy as cross_entropy_of
from rule_cases import easiest
from rule_cases import normalized_entropy
from rule_cases import soft_targets
from rule_cases import softmax
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd

MEMBERS = ["members/0", "members/1"]


def ensemble():
    members = []
    for number in range(2):
        member = functional_model(8, name=f"member_{number}")
        head = member.get_layer("head")
        head.kernel.assign(10.0 * head.kernel)
        members.append(member)
    return kd.teachers.Ensemble(members, temperature=2.0)


def all_rules():
    share = kd.schedules.Annealing(0.25, 1.0, steps=6)
    return [
        kd.rules.DropAtRandom(0.3, seed=2),
        kd.rules.DropUnusual(1.0, momentum=0.5),
        kd.rules.EasiestFirst(share, by="student_loss"),
        kd.rules.LearnedTemperature(0.5, per_sample=True, units=4),
        kd.rules.TemperatureByEntropy(3.0, 5.0, sharp="sure"),
        kd.rules.WeighByAgreement(MEMBERS, by="votes"),
        kd.rules.WeighByDifficulty(1.5),
        kd.rules.WeighByEntropy("sure", temperature=3.0),
        kd.rules.WeighByLoss(),
    ]


def distiller(rules, hard_weight=0.1):
    keras.utils.set_random_seed(0)
    model = kd.Distiller(
        ensemble(),
        functional_model(4, name="student"),
        [
            kd.Transfer(
                kd.losses.SoftTargets(2.0), rules=[rule], name=rule.name
            )
            for rule in rules
        ],
        hard_weight=hard_weight,
    )
    model.compile(keras.optimizers.SGD(0.01), cross_entropy())
    return model


def soft_targets_of(model, x, y, weight):
    """By NumPy: what `evaluate` is to find for each rule, before training."""
    teacher, student = numpy(model.teacher(x)), numpy(model.student(x))
    members = [numpy(member(x)) for member in model.teacher.members]
    ranked = (weight > 0) & (y >= 0)
    hard = cross_entropy_of(student, y)
    sure = 1 - normalized_entropy(teacher, 3.0)
    ones, begins_at = np.ones(len(x)), 1 + 20 / (1 + np.exp(-1.0))
    between = 3.0 + 2.0 * normalized_entropy(teacher)
    expected = {
        "drop_at_random": (ones, 2.0),
        "drop_unusual": (ones, 2.0),
        "easiest_first": (easiest(0.25, hard, ranked), 2.0),
        "learned_temperature": (ones, begins_at),
        "temperature_by_entropy": (ones, between),
        "weigh_by_agreement": (by_votes(members), 2.0),
        "weigh_by_difficulty": (by_difficulty(1.5, student, y), 2.0),
        "weigh_by_entropy": (sure, 2.0),
        "weigh_by_loss": (by_loss(teacher, student, y), 2.0),
    }
    return {
        rule: soft_targets(teacher, student, weight * factor, temperature)
        for rule, (factor, temperature) in expected.items()
    }


def test_each_rule_changes_the_loss_as_numpy_does():
    x, y = data()
    y[::5] = -1
    weight = np.resize([1.0, 0.0, 2.0], len(x)).astype("float32")
    model = distiller(all_rules(), hard_weight=0.0)
    model.compile(keras.optimizers.SGD(0.01), None)
    logs = model.evaluate(
        x, y, sample_weight=weight, batch_size=24, return_dict=True, verbose=0
    )
    expected = soft_targets_of(model, x, y, weight)
    assert list(expected) == [rule.name for rule in all_rules()]
    for rule, value in expected.items():
        found = logs[f"{rule}_loss"]
        assert found == pytest.approx(value, rel=1e-4), rule
    # Each of those that change something does so here.
    assert len({round(value, 4) for value in expected.values()}) == 8


def test_all_rules_train_are_saved_and_go_on(tmp_path):
    x, y = data()
    y[::5] = -1
    weight = np.resize([1.0, 0.0, 2.0], len(x)).astype("float32")
    model = distiller(all_rules(), hard_weight=0.0)
    model.compile(keras.optimizers.SGD(0.01), None)
    fit = dict(
        x=x, y=y, sample_weight=weight, batch_size=7, shuffle=False, verbose=0
    )
    logs = model.fit(epochs=2, **fit).history
    for key, values in logs.items():
        assert np.isfinite(values).all(), key
    model.save(tmp_path / "distiller.keras")
    expected = model.fit(epochs=1, **fit).history

    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    for one, two in zip(model.transfers, loaded.transfers):
        (rule,), (again,) = one.rules, two.rules
        assert type(rule) is type(again)
        config, other = rule.get_config(), again.get_config()
        assert config.keys() == other.keys()
        assert {k: v for k, v in config.items() if k != "share"} == {
            k: v for k, v in other.items() if k != "share"
        }
    loaded.set_teacher(model.teacher)
    found = loaded.fit(epochs=1, **fit).history
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-4, err_msg=key)


@pytest.mark.parametrize("eagerly", [False, True])
def test_the_members_are_read_in_the_teacher_s_pass(eagerly, monkeypatch):
    rule = kd.rules.WeighByAgreement(MEMBERS)
    model = distiller([rule], hard_weight=0.0)
    model.compile(
        keras.optimizers.SGD(0.0), cross_entropy(), run_eagerly=eagerly
    )
    calls = []
    original = kd.teachers.Ensemble.call
    monkeypatch.setattr(
        kd.teachers.Ensemble,
        "call",
        lambda self, *args, **kwargs: (
            calls.append(1) or original(self, *args, **kwargs)
        ),
    )
    x, y = data()
    model.student.get_layer("norm").trainable = False
    logs = model.fit(x, y, batch_size=24, verbose=0).history
    if eagerly:
        assert len(calls) == 1
    p = np.stack([softmax(numpy(m(x))) for m in model.teacher.members])
    mean = p.mean(axis=0)
    divergence = np.sum(p * (np.log(p) - np.log(mean)), axis=-1).mean(axis=0)
    agreement = 1 - divergence / np.log(2)
    assert agreement.min() < 0.9
    teacher, student = numpy(model.teacher(x)), numpy(model.student(x))
    expected = soft_targets(teacher, student, agreement, 2.0)
    assert logs["weigh_by_agreement_loss"][0] == pytest.approx(
        expected, rel=1e-4
    )


def test_the_audit_takes_all_rules():
    x, y = data()
    teacher, student = ensemble(), functional_model(4, name="student")
    features = {
        tap: member.predict(x, verbose=0)
        for tap, member in zip(MEMBERS, teacher.members)
    }
    rules = all_rules()
    report = kd.rules.audit(
        rules,
        teacher.predict(x, verbose=0),
        y,
        student_logits=student.predict(x, verbose=0),
        teacher_features=features,
    )
    touched = {each.rule: each.samples for each in report}
    assert list(touched) == [rule.name for rule in rules]
    assert len(touched["drop_at_random"]) == 0
    assert len(touched["temperature_by_entropy"]) == len(x)
    assert len(touched["weigh_by_loss"]) > 0
    first, second = (f.argmax(axis=-1) for f in features.values())
    left = np.setdiff1d(
        np.flatnonzero(first != second), touched["drop_unusual"]
    )
    left = np.setdiff1d(left, touched["easiest_first"])
    np.testing.assert_array_equal(touched["weigh_by_agreement"], left)
    # No rule keeps what it saw.
    assert float(rules[2].share) == pytest.approx(0.25)
    assert np.all(rules[1].get_weights()[0] == 0.0)


@pytest.mark.one_backend
def test_the_audit_says_what_it_lacks():
    logits, labels = np.eye(3), np.arange(3)
    with pytest.raises(ValueError, match="Pass `student_logits="):
        kd.rules.audit([kd.rules.WeighByLoss()], logits, labels)
    with pytest.raises(ValueError, match=r"audit without \['members/1'\]"):
        kd.rules.audit(
            [kd.rules.WeighByAgreement(MEMBERS)],
            logits,
            teacher_features={"members/0": logits},
        )


def test_taps_that_do_not_compare_are_refused_at_construction():
    teacher = ensemble()
    for taps, message in [
        (["members/0", "members/1/pool"], "logits of the same classes"),
        (["members/0", "members/7"], "No layer 'members/7'"),
        (["members/0/stage1", "members/1/stage1"], "of shape .batch, classes."),
    ]:
        rule = kd.rules.WeighByAgreement(taps)
        with pytest.raises(ValueError, match=message):
            kd.Distiller(
                teacher,
                functional_model(4, name="student"),
                [kd.Transfer(kd.losses.SoftTargets(), rules=[rule])],
            )
