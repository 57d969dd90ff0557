"""PyTorch modules as the teacher, in the training step on PyTorch."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import BACKEND
from support import numpy

import keras_kd as kd
from keras_kd.teachers import TorchModule
from keras_kd.teachers import fingerprint
from keras_kd.testing import assert_close

on_torch = pytest.mark.skipif(BACKEND != "torch", reason="runs on PyTorch")
SAMPLES = np.random.default_rng(2).normal(size=(10, 4)).astype("float32")
IDS = np.random.default_rng(3).integers(1, 20, size=(6, 5)).astype("int32")
MASK = (np.arange(5) < np.array([5, 3, 4, 1, 2, 5])[:, None]).astype("int32")


def module(seed=0):
    """Two blocks, with dropout and a batch normalization."""
    import torch

    torch.manual_seed(seed)
    blocks = torch.nn.ModuleDict(
        {
            "first": torch.nn.Sequential(
                torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8)
            ),
            "drop": torch.nn.Dropout(0.5),
            "head": torch.nn.Linear(8, 3),
        }
    )

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = blocks

        def forward(self, x, scale=None):
            hidden = self.blocks["drop"](torch.relu(self.blocks["first"](x)))
            return self.blocks["head"](
                hidden if scale is None else hidden * scale
            )

    return Two()


def expected_of(module, x):
    """Its hidden values and logits by NumPy, in evaluation mode."""
    state = {key: numpy(value) for key, value in module.state_dict().items()}
    hidden = x @ state["blocks.first.0.weight"].T + state["blocks.first.0.bias"]
    scale = np.sqrt(state["blocks.first.1.running_var"] + 1e-5)
    normal = (hidden - state["blocks.first.1.running_mean"]) / scale
    active = np.maximum(normal, 0.0)
    head = state["blocks.head.weight"], state["blocks.head.bias"]
    return hidden, active @ head[0].T + head[1]


def student(hidden=8):
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(hidden, name="hidden"),
            layers.Dense(3, name="logits"),
        ]
    )


def squared(**options):
    return kd.Transfer(keras.losses.MeanSquaredError(), **options)


def logs_of(distiller, data, **options):
    distiller.compile("sgd", loss=None)
    return distiller.evaluate(data, verbose=0, return_dict=True, **options)


@on_torch
@pytest.mark.parametrize(
    "tap", ["blocks/first/0", "blocks.first.0", "blocks/first/1:input"]
)
def test_the_step_compares_with_the_modules_values(tap):
    model = module()
    distiller = kd.Distiller(
        TorchModule(model),
        student(),
        [
            squared(name="hint", teacher=tap, student="hidden"),
            squared(name="logits"),
        ],
    )
    logs = logs_of(distiller, SAMPLES, batch_size=10)
    hidden, logits = expected_of(model, SAMPLES)
    pupil = distiller.student
    found = numpy(pupil.get_layer("hidden")(ops.convert_to_tensor(SAMPLES)))
    assert logs["hint_loss"] == pytest.approx(
        np.mean((found - hidden) ** 2), rel=1e-5
    )
    predicted = pupil.predict(SAMPLES, verbose=0)
    assert logs["logits_loss"] == pytest.approx(
        np.mean((predicted - logits) ** 2), rel=1e-5
    )


def sizes_of(module):
    """How much each submodule holds: weights, buffers, hooks, all."""
    return [
        {
            key: len(value)
            for key, value in vars(each).items()
            if is_sized(value)
        }
        for each in module.modules()
    ]


def is_sized(value):
    return isinstance(value, (dict, set))


@on_torch
def test_it_is_left_as_it_was():
    model = module().train()
    model.blocks["head"].eval()
    model.blocks["head"].weight.requires_grad_(False)
    modes, sizes = [each.training for each in model.modules()], sizes_of(model)
    grads = [each.requires_grad for each in model.parameters()]
    before = {key: numpy(v).copy() for key, v in model.state_dict().items()}
    hint = squared(teacher="blocks/first", student="hidden")
    distiller = kd.Distiller(TorchModule(model), student(), [hint, squared()])
    distiller.compile("adam", loss=None)
    distiller.fit(SAMPLES, epochs=2, verbose=0)
    for key, now in model.state_dict().items():
        np.testing.assert_array_equal(before[key], numpy(now))
    assert [each.training for each in model.modules()] == modes
    assert [each.requires_grad for each in model.parameters()] == grads
    assert all(each.grad is None for each in model.parameters())
    assert sizes_of(model) == sizes
    known = {id(variable.value) for variable in distiller.variables}
    assert not known & {id(each) for each in model.parameters()}


@on_torch
def test_it_is_not_saved_and_another_is_refused(tmp_path):
    def distiller_of(model):
        distiller = kd.Distiller(TorchModule(model), student())
        distiller.compile("sgd", loss=None)
        return distiller

    path = tmp_path / "distiller.keras"
    distiller_of(module()).save(path)
    loaded = keras.saving.load_model(path)
    with pytest.raises(ValueError, match="is not the one that this training"):
        loaded.set_teacher(TorchModule(module(seed=1)))
    loaded.set_teacher(TorchModule(module()))
    half = module().bfloat16()
    assert not np.array_equal(
        fingerprint(TorchModule(half)), fingerprint(TorchModule(module()))
    )


@on_torch
def test_dicts_and_lists_are_its_arguments():
    model = module().eval()
    inputs = {
        "x": keras.Input((4,), name="x"),
        "scale": keras.Input((1,), name="scale"),
    }
    pupil = keras.Model(inputs, layers.Dense(3)(inputs["x"]))
    scale = 0.5 * np.ones((10, 1), "float32")
    data = {"x": SAMPLES, "scale": scale}
    distiller = kd.Distiller(TorchModule(model), pupil, squared())
    found = distiller.complete_batch(
        (keras.tree.map_structure(ops.convert_to_tensor, data),)
    )[1].teacher.output
    _, whole = expected_of(model, SAMPLES)
    bias = numpy(model.blocks["head"].bias)
    expected = (whole - bias) * 0.5 + bias
    assert_close(numpy(found), expected)
    inputs = [keras.Input((4,)), keras.Input((1,))]
    pupil = keras.Model(inputs, layers.Dense(3)(inputs[0]))
    distiller = kd.Distiller(TorchModule(model), pupil, squared())
    predicted = pupil.predict([SAMPLES, scale], verbose=0)
    logs = logs_of(distiller, [SAMPLES, scale], batch_size=10)
    assert logs["loss"] == pytest.approx(
        np.mean((predicted - expected) ** 2), rel=1e-5
    )


@on_torch
def test_maps_with_their_channels_first():
    import torch

    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 4, 3, padding=1)
    teacher = TorchModule(
        torch.nn.Sequential(convolution, torch.nn.Flatten()),
        preprocess=lambda x: x.movedim(-1, 1),
        version="1",
    )
    inputs = keras.Input((5, 5, 3))
    maps = layers.Conv2D(4, 3, padding="same", name="maps")
    pupil = keras.Model(inputs, layers.Flatten()(maps(inputs)))
    # Keras' weights have the channels last.
    maps.set_weights(
        [
            numpy(convolution.weight).transpose(2, 3, 1, 0),
            numpy(convolution.bias) + 1.0,
        ]
    )
    hint = squared(
        teacher="0",
        student="maps",
        teacher_adapter=layers.Permute((2, 3, 1)),
    )
    images = np.random.default_rng(0).normal(size=(4, 5, 5, 3))
    logs = logs_of(kd.Distiller(teacher, pupil, hint), images.astype("float32"))
    assert logs["loss"] == pytest.approx(1.0, rel=1e-4)


@on_torch
def test_a_cache_of_its_outputs_and_features(tmp_path):
    teacher = TorchModule(module())
    exact = kd.cache.Dense("float32")
    kd.cache.write(
        teacher,
        SAMPLES,
        tmp_path,
        outputs={"": exact, "blocks/first/0": exact},
        batch_size=4,
        verbose=0,
    )
    stored = kd.cache.open(tmp_path, teacher=teacher).predictions_of(range(10))
    hidden, logits = expected_of(teacher.module, SAMPLES)
    assert_close(stored["output"], logits)
    assert_close(stored["blocks/first/0"], hidden)


@on_torch
def test_it_is_compiled_with_the_step():
    import torch

    model, tap = module(), "blocks/first/0"
    hint = squared(teacher=tap, student="hidden")
    distiller = kd.Distiller(TorchModule(model), student(), [squared(), hint])
    step = torch.compile(
        lambda x: distiller.complete_batch((x,))[1].teacher, backend="eager"
    )
    output, features = step(torch.tensor(SAMPLES))
    hidden, logits = expected_of(model, SAMPLES)
    assert_close(numpy(output), logits)
    assert_close(numpy(features[tap]), hidden)


# --- Hugging Face -----------------------------------------------------------


def bert(**options):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        num_labels=3,
        **options,
    )
    return transformers.BertForSequenceClassification(config)


def text_student(length=5):
    inputs = {
        name: keras.Input((length,), dtype="int32", name=name)
        for name in ("input_ids", "attention_mask")
    }
    embedded = layers.Embedding(20, 8, name="embedded")(inputs["input_ids"])
    pooled = layers.GlobalAveragePooling1D()(
        embedded, mask=ops.cast(inputs["attention_mask"], "bool")
    )
    return keras.Model(inputs, layers.Dense(3)(pooled))


@on_torch
def test_a_bert_of_hugging_face():
    import torch

    model = bert()
    data = {"input_ids": IDS, "attention_mask": MASK}
    with torch.no_grad():
        own = model.eval()(
            **{key: torch.tensor(value) for key, value in data.items()},
            output_hidden_states=True,
        )
    model.train()  # With dropout, which a teacher must not have.
    teacher = TorchModule(model, output=lambda o: o.logits)
    distiller = kd.Distiller(
        teacher,
        text_student(),
        [
            squared(
                name="hidden",
                teacher="bert/encoder/layer/0",
                student="embedded",
            ),
            squared(name="logits"),
        ],
    )
    logs = logs_of(distiller, data, batch_size=6)
    embedded = distiller.student.get_layer("embedded")
    found = numpy(embedded(ops.convert_to_tensor(IDS)))
    assert logs["hidden_loss"] == pytest.approx(
        np.mean((found - numpy(own.hidden_states[1])) ** 2), rel=1e-4
    )
    predicted = distiller.student.predict(data, verbose=0)
    assert logs["logits_loss"] == pytest.approx(
        np.mean((predicted - numpy(own.logits)) ** 2), rel=1e-4
    )


@on_torch
def test_entries_of_its_output_are_tapped():
    distiller = kd.Distiller(
        TorchModule(bert(output_hidden_states=True)),
        text_student(length=None),  # The data's, which is 5.
        squared(teacher="[logits]"),
    )
    data = {"input_ids": IDS, "attention_mask": MASK}
    distiller.compile("sgd", loss=None)
    distiller.fit(data, verbose=0)


# --- errors -----------------------------------------------------------------


@on_torch
def test_what_it_is_given_is_checked():
    teacher = TorchModule(module())
    with pytest.raises(ValueError, match=r"'blocks/second'.*Closest names"):
        kd.Distiller(teacher, student(), squared(teacher="blocks/second"))
    with pytest.raises(ValueError, match="Attention scores can only be read"):
        kd.Distiller(teacher, student(), squared(teacher="blocks:scores"))
    with pytest.raises(ValueError, match="blocks' was not|was not reached"):
        kd.Distiller(teacher, student(), squared(teacher="blocks"))
    inputs = {"y": keras.Input((4,), name="y")}
    pupil = keras.Model(inputs, layers.Dense(3)(inputs["y"]))
    with pytest.raises(ValueError, match=r"\['x', 'scale'\].*entries \['y'\]"):
        kd.Distiller(teacher, pupil)
    wide = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"float32 \(1, 5\).*PyTorch's error"):
        kd.Distiller(teacher, wide)


@on_torch
def test_types_devices_and_outputs_are_checked():
    inputs = {"input_ids": keras.Input((5,), name="input_ids")}
    pupil = keras.Model(inputs, layers.Dense(3)(inputs["input_ids"]))
    teacher = TorchModule(bert(), output=lambda o: o.logits)
    with pytest.raises(ValueError, match=r"torch.float32 \(1, 5\)"):
        kd.Distiller(teacher, pupil)
    with pytest.raises(ValueError, match=r"\['meta'\].*`module.to\('cpu'\)`"):
        TorchModule(module().to("meta"))

    class Found:
        logits = 1.0

    odd = TorchModule(module(), output=lambda o: Found())
    with pytest.raises(ValueError, match="Received: Found at 'output'"):
        kd.Distiller(odd, student())
    with pytest.raises(ValueError, match="must be a `torch.nn.Module`"):
        TorchModule(student())


@pytest.mark.skipif(BACKEND == "torch", reason="runs there")
def test_other_backends_are_refused():
    with pytest.raises(ValueError, match=f"the backend '{BACKEND}'"):
        TorchModule(object())


@on_torch
def test_features_are_read_outside_of_training():
    import torch

    two = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    x = torch.tensor(SAMPLES)
    found = kd.extract_features(TorchModule(two), x, ["0", "1:input"])
    expected = numpy(two[0](x))
    np.testing.assert_array_equal(numpy(found["0"]), expected)
    np.testing.assert_array_equal(numpy(found["1:input"]), expected)
