"""GeneratedTexts: what batches hold, by a writer whose texts are known."""

import numpy as np
import pytest

import keras_kd as kd

pytestmark = pytest.mark.one_backend
END, PAD = 1, 0


class Counting:
    """Stands for a KerasHub task: goes on with the next tokens, until 9."""

    calls = 0

    def make_generate_function(self):
        return self.count

    def count(self, inputs, stop_token_ids):
        self.calls += 1
        tokens = np.array(inputs["token_ids"])
        mask = np.array(inputs["padding_mask"])
        for place in range(1, tokens.shape[1]):
            following = np.where(
                tokens[:, place - 1] < 9, tokens[:, place - 1] + 1, END
            )
            tokens[:, place] = np.where(
                mask[:, place], tokens[:, place], following
            )
        return {"token_ids": tokens, "padding_mask": mask}

    # What a fingerprint asks for.
    def fingerprint(self):
        return np.zeros(32, "uint8")


def texts(prompts, responses=None, **arguments):
    arguments.setdefault("writer", Counting())
    given = dict(
        batch_size=len(prompts) or 1,
        max_length=6,
        sampler=None,
        end_token_id=END,
    )
    return kd.text.GeneratedTexts(prompts, responses, **{**given, **arguments})


def by_prompt(data, epoch=0):
    """Rows of all batches of an epoch, in the order of their first token."""
    data.set_epoch(epoch)
    batches = [data[index] for index in range(data.num_batches)]
    x = {
        name: np.concatenate([batch[0][name] for batch in batches])
        for name in batches[0][0]
    }
    y, weight = (
        np.concatenate([batch[part] for batch in batches]) for part in (1, 2)
    )
    order = np.argsort(x["token_ids"][:, 0], kind="stable")
    return {k: v[order] for k, v in x.items()}, y[order], weight[order]


def test_prompts_and_padding_count_not_and_the_end_once():
    x, y, weight = by_prompt(texts([[3, 4], [5, 6, 7], [8]]))
    np.testing.assert_array_equal(
        x["token_ids"],
        [
            [3, 4, 5, 6, 7, 8],  # Cut: there is no end.
            [5, 6, 7, 8, 9, END],
            [8, 9, END, PAD, PAD, PAD],
        ],
    )
    np.testing.assert_array_equal(
        x["padding_mask"],
        [[True] * 6, [True] * 6, [True] * 3 + [False] * 3],
    )
    np.testing.assert_array_equal(
        y,
        [
            [4, 5, 6, 7, 8, PAD],
            [6, 7, 8, 9, END, PAD],
            [9, END, PAD, PAD, PAD, PAD],
        ],
    )
    np.testing.assert_array_equal(
        weight, [[0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]
    )
    assert set(x) == {"token_ids", "padding_mask"}


def test_given_responses_are_taken_as_they_are():
    data = texts([[3], [4, 5]], [[7, 7, END], [8] * 9], share=0.0, writer=None)
    x, y, weight = by_prompt(data)
    # One label more than inputs: the token after the last.
    np.testing.assert_array_equal(
        y, [[7, 7, END, PAD, PAD, PAD], [5, 8, 8, 8, 8, 8]]
    )
    np.testing.assert_array_equal(
        weight, [[1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1]]
    )


def test_a_longer_max_length_only_adds_padding():
    arguments = dict(responses=[[7, END], [9]], share=0.0, writer=None)
    short = texts([[3, 4], [5]], **arguments)
    longer = texts([[3, 4], [5]], max_length=12, **arguments)
    (x, *rest), (longer_x, *others) = by_prompt(short), by_prompt(longer)
    for one, two in zip((*x.values(), *rest), (*longer_x.values(), *others)):
        np.testing.assert_array_equal(np.pad(one, ((0, 0), (0, 6))), two)


def test_a_share_is_written_and_each_kind_has_its_mask():
    prompts = [[3 + n % 3] for n in range(20)]
    data = texts(prompts, [[7, END]] * 20, share=0.3, batch_size=5, steps=8)
    for epoch in range(2):
        x, y, weight = by_prompt(data, epoch)
        written = x["written_mask"].any(axis=1)
        assert written.sum() == round(0.3 * 40)
        np.testing.assert_array_equal(
            x["written_mask"], x["padding_mask"] & written[:, None]
        )
        np.testing.assert_array_equal(
            x["given_mask"], x["padding_mask"] & ~written[:, None]
        )
        # Given ones are `[prompt, 7, END]`, written ones count up.
        first = x["token_ids"][:, 0] + 1
        np.testing.assert_array_equal(y[:, 0], np.where(written, first, 7))


def test_written_tokens_are_no_labels_where_that_is_wanted():
    data = texts([[3], [4]], [[7, END]] * 2, share=0.5, ignore_class=-1)
    x, y, weight = by_prompt(data)
    written = x["written_mask"].any(axis=1)[:, None]
    np.testing.assert_array_equal(y == -1, written & (weight == 1))


def test_columns_stay_with_their_prompts():
    data = texts([[3], [4], [5]], columns={"teacher": [30, 40, 50]}, steps=4)
    x, _, _ = by_prompt(data)
    np.testing.assert_array_equal(x["teacher"], 10 * x["token_ids"][:, 0])


def test_all_prompts_come_in_turn_and_in_another_order_each_time():
    data = texts([[2 + n] for n in range(6)], batch_size=4, steps=3)
    again = texts([[2 + n] for n in range(6)], batch_size=4, steps=3)
    seen = []
    for epoch in range(2):
        data.set_epoch(epoch)
        again.set_epoch(epoch)
        for index in range(3):
            tokens = data[index][0]["token_ids"]
            np.testing.assert_array_equal(tokens, again[index][0]["token_ids"])
            seen.append(tokens[:, 0])
    epochs = np.reshape(seen, (2, 12))
    np.testing.assert_array_equal(
        np.sort(epochs), [np.repeat(np.arange(2, 8), 2)] * 2
    )
    assert np.any(epochs[0] != epochs[1])


def test_texts_are_kept_until_they_are_to_be_renewed():
    writer = Counting()
    data = texts([[3], [4]], writer=writer, refresh_every=2)
    for epoch, calls in [(0, 1), (1, 1), (2, 2), (3, 2), (0, 3), (1, 3)]:
        data.set_epoch(epoch)
        assert writer.calls == calls, epoch
        logs = data.epoch_logs()
        # The texts are 3 to 8, and 4 to 9.
        assert logs.pop("generated_length") == 5.0
        assert logs.pop("generated_ended") == 0.0
        assert logs.pop("generated_texts") == (epoch % 2 == 0) * 2.0
        share = logs.pop("generation_time")
        assert (0.0 < share <= 1.0) if epoch % 2 == 0 else share == 0.0
        assert not logs
    never = texts([[3], [4]], writer=writer, refresh_every=None)
    for epoch in (0, 1, 0):
        never.set_epoch(epoch)
    assert writer.calls == 4


def test_before_the_first_epoch_nothing_counts():
    data = texts([[3], [4, 5]])
    x, y, weight = data[0]
    assert data.epoch_logs() == {}
    data.set_epoch(0)
    for before, now in zip((*x.values(), y, weight), flat(data[0])):
        assert before.shape == now.shape and before.dtype == now.dtype
    assert not weight.any()


def flat(batch):
    x, y, weight = batch
    return (*x.values(), y, weight)


def test_a_plain_model_goes_from_epoch_to_epoch():
    writer = Counting()
    data = texts([[3], [4]], writer=writer)
    for _ in range(3):
        data.on_epoch_begin()
    assert writer.calls == 3


def test_a_buffer_in_a_folder_is_gone_on_with(tmp_path):
    def resumed(**arguments):
        writer = Counting()
        data = texts([[3], [4]], writer=writer, folder=tmp_path, **arguments)
        return writer, data

    writer, data = resumed(refresh_every=2)
    data.set_epoch(0)
    for epoch in (0, 1):
        writer, again = resumed(refresh_every=2)
        again.set_epoch(epoch)
        assert writer.calls == 0
        data.set_epoch(epoch)
        for one, two in zip(flat(data[0]), flat(again[0])):
            np.testing.assert_array_equal(one, two)
    again.set_epoch(2)
    assert writer.calls == 1
    _, other = resumed(refresh_every=2, seed=1)
    with pytest.raises(ValueError, match="are of another run"):
        other.set_epoch(2)


def test_a_buffer_of_another_student_is_not_taken(tmp_path):
    class Other(Counting):
        def fingerprint(self):
            return np.ones(32, "uint8")

    texts([[3]], folder=tmp_path).set_epoch(0)
    writer = Other()
    texts([[3]], writer=writer, folder=tmp_path).set_epoch(0)
    assert writer.calls == 1


def test_responses_that_a_teacher_writes():
    responses = kd.text.generate_responses(
        Counting(),
        [[3, 4], [8], [7]],
        batch_size=2,
        max_length=6,
        sampler=None,
        end_token_id=END,
    )
    assert [each.tolist() for each in responses] == [
        [5, 6, 7, 8],
        [9, END],
        [8, 9, END],
    ]
    x, y, _ = by_prompt(
        texts([[3, 4], [8], [7]], responses, share=0.0, writer=None)
    )
    np.testing.assert_array_equal(y[1], [8, 9, END, PAD, PAD, PAD])


def test_a_tokenizer_may_know_two_ends():
    class Tokenizer:
        end_token_id, end_token2_id, pad_token_id = END, 8, PAD

    class Preprocessor:
        tokenizer, sequence_length = Tokenizer(), 6

    class Task(Counting):
        preprocessor = Preprocessor()

    (response,) = kd.text.generate_responses(Task(), [[5]], sampler=None)
    assert response.tolist() == [6, 7, 8]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (dict(share=1.5), "`share` must be a finite number"),
        (dict(share=0.5), "no label counts. Received: share=0.5 without"),
        (dict(writer=None), "A model must generate the texts"),
        (dict(prompts=[]), "`prompts` must be a list"),
        (dict(prompts=[[3], []]), "prompt 1 of 0 tokens"),
        (dict(prompts=[[3] * 6]), "prompt 0 of 6 tokens, max_length=6"),
        (dict(prompts=[[0.5]]), "sequences of integers"),
        (dict(responses=[]), "`responses` must be a list"),
        (dict(prompts=["text"]), "Texts need a tokenizer"),
        (dict(end_token_id=None), "the token that ends one"),
        (dict(max_length=None), "`max_length` must be an integer"),
        (dict(writer="student"), "must be a KerasHub `CausalLM`"),
        (dict(responses=[[3]] * 2), "1 prompts, 2 responses"),
        (dict(responses=[[]]), "response 0 of 0 tokens"),
        (dict(columns={"teacher": [1, 2]}), "'teacher' of 2 entries"),
        (dict(refresh_every=0.5), "`refresh_every` must be a positive"),
        (dict(refresh_every=0), "`refresh_every` must be a positive"),
        (dict(steps=0), "`steps` must be a positive"),
    ],
)
def test_bad_input_is_told_before_training(arguments, match):
    with pytest.raises(ValueError, match=match):
        texts(**{"prompts": [[3]], **arguments})


def test_a_text_longer_than_the_model():
    class Short(Counting):
        class backbone:
            max_sequence_length = 5

    with pytest.raises(ValueError, match="max_length=6, and a task of 5"):
        texts([[3]], writer=Short())
