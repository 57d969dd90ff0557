"""A generator and a student, trained in turn by what the teacher says."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import numpy
from support import weights_of

import keras_kd as kd
from keras_kd import data_free

BATCH, LATENTS, INPUTS, CLASSES = 6, 2, 4, 3
RATE, GENERATOR_RATE = 0.1, 0.3


def linear(inputs, outputs, name, *more):
    dense = layers.Dense(outputs, use_bias=False, name=f"{name}_dense")
    return keras.Sequential([keras.Input((inputs,)), *more, dense], name=name)


def parts():
    keras.utils.set_random_seed(0)
    return (
        linear(INPUTS, CLASSES, "teacher"),
        linear(INPUTS, CLASSES, "student"),
        linear(LATENTS, INPUTS, "generator"),
    )


def distiller_of(
    models, make=data_free.dfad, rates=(RATE, GENERATOR_RATE), **s
):
    distiller = make(*models, **{"seed": 5, **s})
    student, generator = map(keras.optimizers.SGD, rates)
    distiller.compile(student, generator_optimizer=generator)
    return distiller


def fit(distiller, rounds=1, **settings):
    return distiller.fit(
        steps_per_epoch=rounds, batch_size=BATCH, verbose=0, **settings
    ).history


def kernels(models):
    return [numpy(model.layers[-1].kernel.value) for model in models]


def latents(rounds):
    """The latents of a run, in the order in which they are drawn."""
    seed = keras.random.SeedGenerator(5)
    shape = (BATCH, LATENTS)
    return [numpy(keras.random.normal(shape, seed=seed)) for _ in range(rounds)]


def test_a_round_is_that_of_the_paper():
    """DFAD by hand: one step of the generator, two of the student."""
    models = parts()
    teacher, student, generator = map(np.float64, kernels(models))
    start = kernels(models)[0]
    count = BATCH * CLASSES
    for z, turn in zip(latents(6), [0, 1, 1, 0, 1, 1]):
        x = z @ generator
        sign = np.sign(x @ student - x @ teacher) / count
        if turn == 0:  # Up the mean absolute difference.
            gradient = z.T @ (sign @ (student - teacher).T)
            generator = generator + GENERATOR_RATE * gradient
        else:
            student = student - RATE * (x.T @ sign)
    fit(distiller_of(models, student_steps=2), rounds=2)
    found = kernels(models)
    np.testing.assert_array_equal(found[0], start)
    np.testing.assert_allclose(found[1], student, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[2], generator, rtol=1e-4, atol=1e-6)


def test_logs_are_the_losses_and_labels_count_in_validation():
    teacher, student, generator = parts()
    distiller = data_free.dafl(teacher, student, generator, seed=5)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        generator_optimizer=keras.optimizers.SGD(0.0),
        metrics=["accuracy", kd.metrics.TeacherAgreement()],
    )
    x = np.random.default_rng(0).normal(size=(20, INPUTS)).astype("float32")
    logits = [numpy(model(x)) for model in (teacher, student)]
    y = logits[0].argmax(-1)
    logs = fit(distiller, validation_data=(x, y), epochs=2)
    same = np.mean(y == logits[1].argmax(-1))
    np.testing.assert_allclose(logs["val_accuracy"], same, rtol=1e-5)
    np.testing.assert_allclose(logs["val_teacher_agreement"], same, rtol=1e-5)
    names = {"class_certainty", "class_balance", "feature_activation"}
    assert names | {"class_entropy", "loss", "soft_targets_loss"} < set(logs)
    assert "accuracy" not in logs and "val_generator_loss" not in logs
    parts_of_it = sum(np.array(logs[name]) for name in names)
    np.testing.assert_allclose(logs["generator_loss"], parts_of_it, rtol=1e-5)

    made, drawn = numpy(generator(latents(1)[0])), latents(2)[1]
    log_probs = numpy(ops.log_softmax(teacher(made)))
    np.testing.assert_allclose(
        logs["class_certainty"][0], -log_probs.max(-1).mean(), rtol=1e-4
    )
    expected = kd.losses.SoftTargets(temperature=1.0)(
        teacher(generator(drawn)), student(generator(drawn))
    )
    np.testing.assert_allclose(
        logs["loss"][0], numpy(ops.stop_gradient(expected)), rtol=1e-4
    )


def test_the_generators_steps_leave_the_students_statistics():
    """One batch moves them: that of the student's one step."""
    teacher, _, generator = parts()
    norm = layers.BatchNormalization(momentum=0.5, name="norm")
    student = linear(INPUTS, CLASSES, "student", norm)
    models = teacher, student, generator
    distiller = distiller_of(models, rates=(0.1, 0.0), student_steps=1)
    _, z = latents(2)
    expected = 0.5 * numpy(generator(z)).mean(0)
    fit(distiller)
    np.testing.assert_allclose(numpy(norm.moving_mean), expected, rtol=1e-4)


def test_saved_and_resumed_as_if_not_interrupted(tmp_path):
    def make(models):
        distiller = data_free.dafl(*models, memory_size=12, replay=4, seed=5)
        distiller.compile("adam", generator_optimizer="adam")
        return distiller

    models = parts()
    distiller = make(models)
    fit(distiller)
    distiller.save(tmp_path / "run.keras")
    fit(distiller)
    again = keras.saving.load_model(tmp_path / "run.keras")
    again.set_teacher(models[0])
    fit(again)
    for part in ("student", "generator"):
        for one, other in zip(
            weights_of(getattr(distiller, part)),
            weights_of(getattr(again, part)),
        ):
            np.testing.assert_array_equal(one, other)


class Recorded(layers.Layer):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.given = []

    def call(self, inputs):
        self.given.append(numpy(ops.stop_gradient(inputs)))
        return inputs


@pytest.mark.one_backend
def test_memory_brings_earlier_samples_back():
    teacher, _, generator = parts()
    recorded = Recorded()
    student = linear(INPUTS, CLASSES, "student", recorded)
    distiller = distiller_of(
        (teacher, student, generator),
        data_free.dafl,
        rates=(0.1, 0.0),
        memory_size=8,
        replay=4,
    )
    recorded.given.clear()
    fit(distiller, rounds=4)
    made = [batch[:BATCH] for batch in recorded.given]
    kept = [row for batch in made for row in batch[:4]]
    for number, batch in enumerate(recorded.given):
        assert len(batch) == BATCH + 4
        # What the last two rounds have written, as 8 rows hold no more.
        known = kept[max(0, 4 * (number - 1)) : 4 * (number + 1)]
        for row in batch[BATCH:]:
            assert any(np.allclose(row, other) for other in known)


def test_given_classes_and_the_decoder_are_trained():
    """KegNet: the generator has the class, the decoder learns with it."""
    teacher, student, _ = parts()
    inputs = [keras.Input((LATENTS,)), keras.Input((CLASSES,))]
    joined = layers.Concatenate()(inputs)
    generator = keras.Model(inputs, layers.Dense(INPUTS)(joined))
    decoder = linear(INPUTS, LATENTS, "decoder")
    before = kernels([decoder])[0]
    distiller = data_free.kegnet(teacher, student, generator, decoder)
    distiller.compile("adam", generator_optimizer="adam")
    logs = fit(distiller, rounds=2)
    assert {"target_classes", "latent_reconstruction"} < set(logs)
    assert not np.allclose(kernels([decoder])[0], before)
    assert distiller.generate(5).shape == (5, INPUTS)


def test_image_generator():
    keras.utils.set_random_seed(0)
    latent = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    model = data_free.image_generator(
        (6, 7, 2), statistics=(3.0, 2.0), latent_size=5, width=4
    )
    images = numpy(ops.stop_gradient(model(latent, training=True)))
    assert images.shape == (8, 6, 7, 2)
    np.testing.assert_allclose(images.mean((0, 1, 2)), 3.0, atol=0.5)
    np.testing.assert_allclose(images.std((0, 1, 2)), 2.0, atol=0.5)
    model = data_free.image_generator(
        (8, 8, 1), value_range=(-2.0, 1.0), latent_size=5, width=4
    )
    images = numpy(ops.stop_gradient(model(latent, training=True)))
    assert -2.0 <= images.min() < images.max() <= 1.0


def test_not_finite_gives_all_back():
    """The decoder, the memory and what the optimizers know, too."""
    models = parts()
    decoder = linear(INPUTS, LATENTS, "decoder")
    distiller = data_free.DataFreeDistiller(
        *models,
        [data_free.ClassCertainty(), data_free.LatentReconstruction(decoder)],
        memory_size=6,
        replay=2,
        seed=5,
    )
    adam = [keras.optimizers.Adam(1e38) for _ in range(2)]
    distiller.compile(adam[0], generator_optimizer=adam[1])
    held = [*distiller.variables, *adam[0].variables, *adam[1].variables]
    before = [numpy(variable.value) for variable in held]
    with pytest.raises(ValueError, match="losses of .* are not finite"):
        fit(distiller, rounds=4)
    for one, other in zip(before, held):
        np.testing.assert_array_equal(one, numpy(other.value))


def test_regularizers_are_those_of_each_step():
    """The generator's count in its step and not in the student's."""
    teacher, _, _ = parts()
    student, generator = (
        keras.Sequential(
            [
                keras.Input((inputs,)),
                layers.Dense(
                    outputs, use_bias=False, kernel_regularizer=penalty
                ),
            ]
        )
        for inputs, outputs, penalty in (
            (INPUTS, CLASSES, keras.regularizers.L2(3.0)),
            (LATENTS, INPUTS, keras.regularizers.L2(7.0)),
        )
    )
    start = kernels([student, generator])
    losses = [data_free.ClassCertainty(0.0)]
    distiller = data_free.DataFreeDistiller(
        teacher, student, generator, losses, student_steps=1
    )
    optimizers = keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.01)
    distiller.compile(optimizers[0], generator_optimizer=optimizers[1])
    logs = fit(distiller)
    expected = 3.0 * np.sum(start[0] ** 2), 7.0 * np.sum(start[1] ** 2)
    np.testing.assert_allclose(logs["student_losses"], expected[0], rtol=1e-5)
    np.testing.assert_allclose(logs["generator_loss"], expected[1], rtol=1e-5)
    np.testing.assert_allclose(
        kernels([generator])[0], (1 - 0.14) * start[1], rtol=1e-5
    )


def test_models_of_open_sizes_are_built_for_what_is_made():
    """A teacher of any image size, and a student that is not built."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(4, 3)(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    teacher = keras.Model(inputs, layers.Dense(3)(x))
    student = keras.Sequential([layers.Flatten(), layers.Dense(3)])
    generator = data_free.image_generator(
        (4, 4, 1), value_range=(0.0, 1.0), latent_size=2, width=2
    )
    distiller = distiller_of((teacher, student, generator), student_steps=1)
    before = kernels([student])[0]
    fit(distiller)
    assert before.shape == (16, 3)
    assert not np.allclose(kernels([student])[0], before)


def constant_generator(value):
    dense = layers.Dense(
        INPUTS,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(value),
    )
    return keras.Sequential([keras.Input((LATENTS,)), dense])


@pytest.mark.one_backend
@pytest.mark.filterwarnings("ignore:The generator's values are saturated")
def test_a_collapsed_generator_is_warned_of_once():
    teacher, student, _ = parts()
    of_one_class = np.zeros((INPUTS, CLASSES), "float32")
    of_one_class[:, 0] = 9.0
    teacher.set_weights([of_one_class])
    models = teacher, student, constant_generator(1.0)
    distiller = distiller_of(models, data_free.dafl, (0.0, 0.0))
    with pytest.warns(UserWarning, match="generator has collapsed") as caught:
        logs = fit(distiller, epochs=2)
    found = [each for each in caught if "collapsed" in str(each.message)]
    assert len(found) == 1
    np.testing.assert_allclose(logs["class_entropy"], 0.0, atol=1e-6)


@pytest.mark.one_backend
def test_a_saturated_generator_is_warned_of():
    teacher, student, _ = parts()
    models = teacher, student, constant_generator(0.1)
    distiller = distiller_of(models, data_free.dafl, (0.0, 0.0))
    with pytest.warns(UserWarning, match="values are saturated"):
        logs = fit(distiller)
    assert "saturation" not in logs


@pytest.mark.one_backend
def test_bad_input_is_refused():
    teacher, student, generator = parts()
    losses = [data_free.ClassCertainty()]
    make = data_free.DataFreeDistiller
    with pytest.raises(ValueError, match="does not make what 'student' takes"):
        make(teacher, student, linear(LATENTS, 5, "other"), losses)
    with pytest.raises(ValueError, match="Functional or built Sequential"):
        make(teacher, student, layers.Dense(4), losses)
    with pytest.raises(ValueError, match="list of losses"):
        make(teacher, student, generator, "adversarial")
    with pytest.raises(ValueError, match="only a Keras model gives"):
        function = kd.teachers.FunctionTeacher(
            lambda x: x[:, :CLASSES], (INPUTS,), CLASSES
        )
        make(function, student, generator, losses)
    with pytest.raises(ValueError, match="two or more classes"):
        one = linear(INPUTS, 1, "one"), linear(INPUTS, 1, "one_too")
        make(*one, generator, losses)
    with pytest.raises(ValueError, match="needs both `memory_size`"):
        make(teacher, student, generator, losses, memory_size=8)
    distiller = distiller_of((teacher, student, generator))
    with pytest.raises(ValueError, match="makes its own samples"):
        distiller.fit(np.ones((8, INPUTS)))
    with pytest.raises(ValueError, match="have no labels"):
        distiller.compile("adam", "mse")
    with pytest.raises(ValueError, match="makes its own samples"):
        distiller.train_on_batch(np.ones((8, INPUTS)))
    with pytest.raises(ValueError, match="`batch_size` must be"):
        distiller.fit(batch_size=0)
    with pytest.raises(ValueError, match="their own optimizer"):
        adam = keras.optimizers.Adam()
        distiller.compile(adam, generator_optimizer=adam)
    inputs = [keras.Input((LATENTS,)), keras.Input((CLASSES + 1,))]
    told = keras.Model(inputs, layers.Dense(INPUTS)(inputs[1]))
    with pytest.raises(ValueError, match="teacher has 3 classes"):
        make(teacher, student, told, losses)
    with pytest.raises(ValueError, match="Give either"):
        data_free.image_generator((8, 8, 1))


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class Probabilities(keras.Model):
    """Ends in a softmax that nobody can see."""

    def __init__(self):
        super().__init__(name="teacher")
        self.dense = layers.Dense(CLASSES)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        exponents = ops.exp(self.dense(inputs))
        return exponents / ops.sum(exponents, axis=-1, keepdims=True)


@pytest.mark.one_backend
def test_probabilities_are_not_taken_for_logits():
    _, student, generator = parts()
    teacher = Probabilities()
    teacher(np.ones((1, INPUTS), "float32"))
    inputs = keras.Input((INPUTS,))
    wrapped = keras.Model(inputs, teacher(inputs), name="wrapped")
    distiller = distiller_of((wrapped, student, generator))
    with pytest.raises(ValueError, match="predicts probabilities"):
        fit(distiller)


@pytest.mark.filterwarnings("ignore:The teacher's outputs in transfer")
def test_a_softmax_and_half_precision():
    """Logits are read before the softmax; a scaled loss has the same step."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = linear(INPUTS, CLASSES, "student")
    finally:
        keras.config.set_dtype_policy("float32")
    models = parts()
    half.set_weights(models[1].get_weights())
    sure = keras.Sequential(
        [keras.Input((INPUTS,)), *models[0].layers, layers.Softmax()]
    )
    rounded = sure, half, keras.models.clone_model(models[2])
    rounded[2].set_weights(models[2].get_weights())
    for each in (models, rounded):
        fit(distiller_of(each, data_free.dafl), rounds=2)
    for one, other in zip(kernels(models[1:]), kernels(rounded[1:])):
        np.testing.assert_allclose(one, other, rtol=0.01, atol=1e-3)
