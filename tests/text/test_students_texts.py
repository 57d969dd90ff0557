"""GeneratedTexts in `fit`: KerasHub's students write what they learn from."""

import keras
import numpy as np
import pytest
from support import BACKEND
from support import cross_entropy
from support import numpy

import keras_kd as kd

keras_hub = pytest.importorskip("keras_hub")

END, VOCABULARY, LENGTH = 1, 14, 8
PROMPTS = [[2, 3, 4], [5], [6, 7], [8, 9]]
RESPONSES = [[3, END], [3, 3, END], [4, END], [4, 4, 4, END]]


def gpt2(seed=0, preprocessor=None):
    keras.utils.set_random_seed(seed)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=VOCABULARY,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        dropout=0.0,
        max_sequence_length=LENGTH,
    )
    # Tokens that a random model is not sure of.
    backbone.token_embedding.embeddings.assign(
        np.random.default_rng(seed).normal(size=(VOCABULARY, 8))
    )
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor=preprocessor)


def emit(task, token):
    """Makes a task predict one token, whatever it is given."""
    table = np.random.default_rng(0).normal(size=(VOCABULARY, 8))
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    task.backbone.token_embedding.embeddings.assign(table)
    norm = task.backbone.layer_norm
    norm.gamma.assign(np.zeros(8))
    norm.beta.assign(1000.0 * table[token])


def on_policy(student, **arguments):
    given = dict(batch_size=4, max_length=LENGTH, end_token_id=END)
    return kd.text.GeneratedTexts(
        PROMPTS, writer=student, **{**given, **arguments}
    )


def distiller_of(student, transfers=None, rate=0.0, hard_weight=0.0):
    transfers = transfers or kd.losses.JensenShannon()
    distiller = kd.Distiller(
        gpt2(9), student, transfers, hard_weight=hard_weight
    )
    distiller.compile(keras.optimizers.SGD(rate), cross_entropy())
    return distiller


def test_the_student_writes_as_it_is_now():
    student = gpt2()
    emit(student, 10)
    student.compile(sampler="greedy")
    own = student.sampler
    data, seen, traces = on_policy(student), [], []
    step = student.generate_step

    def traced(inputs, stop_token_ids=None):
        traces.append(1)
        return step(inputs, stop_token_ids)

    student.generate_step = traced

    def look(epoch, logs):
        seen.append(data[0])
        emit(student, [11, END, 12][epoch])

    callback = keras.callbacks.LambdaCallback(on_epoch_end=look)
    history = distiller_of(student).fit(
        data, epochs=3, verbose=0, callbacks=[callback]
    )
    for (_, y, weight), token in zip(seen, (10, 11, END)):
        assert set(y[weight == 1]) == {token}
    # The end counts once, and nothing after it.
    lengths = {len(prompt) for prompt in PROMPTS}
    np.testing.assert_array_equal(weight.sum(axis=1), 1.0)
    assert set(weight.argmax(axis=1)) == {length - 1 for length in lengths}
    assert history.history["generated_ended"] == [0.0, 0.0, 1.0]
    assert history.history["generated_length"] == [6.0, 6.0, 1.0]
    assert history.history["generated_texts"] == [4.0, 4.0, 4.0]
    assert all(0 < each < 1 for each in history.history["generation_time"])
    # It compiles once, and leaves what the user has compiled.
    assert len(traces) == (3 if BACKEND == "torch" else 1)
    assert student.sampler is own and student.generate_function is None


def tokens_of(data, epoch=0):
    data.set_epoch(epoch)
    return data[0][0]["token_ids"]


def test_a_seed_tells_the_texts():
    student = gpt2()
    first = on_policy(student)
    one, other = tokens_of(first), tokens_of(on_policy(student, seed=1))
    np.testing.assert_array_equal(tokens_of(on_policy(student)), one)
    assert np.any(np.sort(one, axis=0) != np.sort(other, axis=0))
    assert np.any(tokens_of(first, 1) != one)
    np.testing.assert_array_equal(tokens_of(first, 0), one)


def test_padding_that_is_the_end_token_ends_nothing():
    student = gpt2()
    emit(student, 10)
    data = on_policy(student, end_token_id=0)
    assert set(np.ravel(tokens_of(data))) == {10, *range(2, 10)}
    assert data.epoch_logs()["generated_ended"] == 0.0


def test_each_prompt_has_its_own_teacher():
    teachers = {"a": gpt2(1), "b": gpt2(2)}
    teacher = kd.teachers.TeacherBySample(teachers)
    numbers = teacher.numbers(["b", "a", "b", "a"])
    student = gpt2()
    data = on_policy(student, columns={"teacher": numbers})
    distiller = kd.Distiller(
        teacher, student, kd.losses.ReverseKL(), hard_weight=0.0
    )
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    logs = distiller.fit(data, verbose=0).history
    x, _, weight = data[0]
    inputs = {name: x[name] for name in ("token_ids", "padding_mask")}
    q, *both = (
        log_softmax(numpy(model(inputs)))
        for model in (student, *teachers.values())
    )
    p = np.stack(both)[x["teacher"], np.arange(len(q))]
    values = np.sum(np.exp(q) * (q - p), axis=-1)
    expected = np.average(values, weights=weight)
    np.testing.assert_allclose(logs["reverse_kl_loss"], [expected], rtol=1e-4)


class Interruption(Exception):
    pass


def run(folder, stop_at=None):
    """Four epochs, the texts renewed every two; the student's weights."""

    def stop(epoch, logs):
        if epoch == stop_at:
            raise Interruption

    student = gpt2()
    data = on_policy(student, refresh_every=2, folder=folder)
    backup = kd.callbacks.EpochBackup(folder)
    distiller_of(student, rate=1.0).fit(
        data,
        epochs=4,
        initial_epoch=backup.initial_epoch,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=stop), backup],
    )
    return [numpy(weight) for weight in student.weights]


def test_a_resumed_run_goes_on_with_its_texts(tmp_path):
    whole = run(tmp_path / "whole")
    for epoch in (1, 2):
        with pytest.raises(Interruption):
            run(tmp_path / "stopped", stop_at=epoch)
    resumed = run(tmp_path / "stopped")
    assert any(np.any(a != b) for a, b in zip(whole, gpt2().get_weights()))
    for one, two in zip(whole, resumed):
        np.testing.assert_array_equal(one, two)


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_written_and_given_texts_have_losses_of_their_own():
    student = gpt2()
    data = on_policy(student, responses=RESPONSES, share=0.5)
    transfers = [
        kd.Transfer(kd.losses.SoftTargets(1.0), mask="given_mask", name="a"),
        kd.Transfer(kd.losses.ReverseKL(), mask="written_mask", name="b"),
    ]
    distiller = distiller_of(student, transfers)
    logs = distiller.fit(data, verbose=0).history
    x, _, weight = data[0]
    inputs = {name: x[name] for name in ("token_ids", "padding_mask")}
    p, q = (
        log_softmax(numpy(model(inputs)))
        for model in (distiller.teacher, student)
    )
    forward = np.sum(np.exp(p) * (p - q), axis=-1)
    reverse = np.sum(np.exp(q) * (q - p), axis=-1)
    for name, values, mask in [
        ("a_loss", forward, "given_mask"),
        ("b_loss", reverse, "written_mask"),
    ]:
        assert (x[mask] * weight).sum() > 0
        expected = np.average(values, weights=weight * x[mask])
        np.testing.assert_allclose(logs[name], [expected], rtol=1e-4)


def preprocessor():
    names = ["!", "<|endoftext|>", *"abcdefghij", "ab", "Ġ"]
    return keras_hub.models.GPT2CausalLMPreprocessor(
        keras_hub.models.GPT2Tokenizer(
            vocabulary={name: number for number, name in enumerate(names)},
            merges=["a b"],
        ),
        sequence_length=LENGTH,
    )


@pytest.mark.one_backend
def test_own_texts_as_labels_are_warned_of_once():
    student = gpt2()
    data = on_policy(student)
    distiller = distiller_of(student, hard_weight=0.5)
    with pytest.warns(UserWarning, match="a share of 1, and a `hard_weight`"):
        distiller.fit(data, verbose=0)
    distiller.fit(data, verbose=0)
    # What a teacher writes is there to be learned.
    distiller = distiller_of(student, hard_weight=0.5)
    distiller.fit(on_policy(gpt2(2)), verbose=0)
    # Ignored, own texts count in the transfers alone.
    data = on_policy(student, ignore_class=-1)
    transfer = kd.Transfer(
        kd.losses.ReverseKL(), ignore_class=False, weight=1.0
    )
    distiller = distiller_of(student, transfer, hard_weight=0.5)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1
        ),
    )
    logs = distiller.fit(data, verbose=0).history
    assert logs["hard_loss"] == [0.0] and logs["reverse_kl_loss"][0] > 0.1


@pytest.mark.one_backend
def test_texts_become_tokens_as_the_tasks_preprocessor_makes_them():
    student = gpt2(preprocessor=preprocessor())
    prompts, responses = ["ab", "c"], ["cd", "abj"]
    data = kd.text.GeneratedTexts(
        prompts, responses, writer=student, share=0.0, batch_size=2
    )
    data.set_epoch(0)
    x, y, weight = data[0]
    order = np.argsort(-x["token_ids"][:, 1])
    expected_x, expected_y, valid = student.preprocessor(["abcd", "cabj"])
    for name in expected_x:
        np.testing.assert_array_equal(x[name][order], expected_x[name])
    np.testing.assert_array_equal(y[order], expected_y)
    # The start token and the prompt are one token each.
    expected = numpy(valid) & (np.arange(LENGTH) >= 1)
    np.testing.assert_array_equal(weight[order], expected)
    # `fit` skips the preprocessor of the task for what has passed it.
    data = kd.text.GeneratedTexts(
        prompts, responses, writer=student, share=0.5, batch_size=2
    )
    history = distiller_of(student).fit(data, verbose=0).history
    assert history["generated_texts"] == [1.0]
    assert data[0][0]["written_mask"].any(axis=1).sum() == 1
    student.preprocessor = None
    with pytest.raises(ValueError, match="a writer without a preprocessor"):
        kd.text.GeneratedTexts(prompts, writer=student, max_length=8)
