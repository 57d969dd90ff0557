"""shrink of KerasHub's tasks, and LoRA on what it makes."""

import keras
import numpy as np
import pytest
from support import numpy

import keras_kd as kd

keras_hub = pytest.importorskip("keras_hub")

import hub_models  # noqa: E402

SIZES = dict(
    vocabulary_size=len(hub_models.WORDS),
    num_layers=4,
    hidden_dim=8,
    intermediate_dim=16,
)
HEADS = dict(num_heads=2, max_sequence_length=16)
GROUPED = dict(num_query_heads=2, num_key_value_heads=1)
KINDS = {
    "DistilBert": HEADS,
    "Roberta": HEADS,
    "OPT": HEADS,
    "Mistral": GROUPED,
    "Gemma": dict(GROUPED, head_dim=4),
    "Gemma3": dict(GROUPED, head_dim=4, image_size=None, sliding_window_size=4),
    "Qwen3": dict(GROUPED, head_dim=4),
}
# What is narrowed only, or not.
OTHERS = {
    "Bloom": dict(num_heads=2),
    "Falcon": dict(num_attention_heads=2),
    "Phi3": GROUPED,
    "DebertaV3": dict(HEADS, bucket_size=4),
}


def task(kind):
    backbone = getattr(keras_hub.models, f"{kind}Backbone")
    backbone = backbone(**SIZES, **{**KINDS, **OTHERS}[kind])
    if kind.endswith(("Bert", "Roberta", "DebertaV3")):
        made = getattr(keras_hub.models, f"{kind}TextClassifier")
        return made(backbone=backbone, num_classes=2)
    made = getattr(keras_hub.models, f"{kind}CausalLM")
    return made(backbone=backbone, preprocessor=None)


@pytest.mark.one_backend
@pytest.mark.parametrize("kind", KINDS)
def test_a_student_of_the_tasks_class(kind):
    teacher = task(kind)
    student, transfers = kd.students.shrink(
        teacher, keep=[0, 2], config={"backbone": {"num_layers": 2}}
    )
    assert type(student) is type(teacher)
    old = teacher.backbone.transformer_layers[2].get_weights()
    new = student.backbone.transformer_layers[1].get_weights()
    for weights in zip(old, new, strict=True):
        np.testing.assert_array_equal(*weights)
    kd.Distiller(teacher, student, transfers)
    found = [
        (transfer.teacher_taps[0].text[-1], transfer.student_taps[0].text[-1])
        for transfer in transfers
    ]
    assert found == [("1", "0"), ("3", "1")]


def tokens_of(model):
    ids = np.random.default_rng(0).integers(1, SIZES["vocabulary_size"], (3, 5))
    inputs = {name: np.ones((3, 5), "int32") for name in model.input}
    return {**inputs, "token_ids": ids.astype("int32")}


@pytest.mark.one_backend
@pytest.mark.parametrize("kind", ["Bloom", "Falcon", "Mistral"])
def test_a_narrower_language_model(kind):
    teacher = task(kind)
    student, transfers = kd.students.shrink(teacher, width=0.5, divisor=1)
    backbone = student.get_layer(teacher.backbone.name)
    assert backbone.output_shape == (None, None, 4)
    old, new = (
        numpy(model.get_layer("token_embedding").embeddings)
        for model in (teacher.backbone, backbone)
    )
    np.testing.assert_array_equal(new, old[:, ::2])
    assert student.count_params() == backbone.count_params()
    logits = numpy(student(tokens_of(teacher)))
    assert logits.shape == (3, 5, SIZES["vocabulary_size"])
    kd.Distiller(teacher, student, transfers)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "kind, layer",
    [
        ("Phi3", "transformer_layer_0"),
        ("Gemma", "decoder_block_0"),
        ("DebertaV3", "disentangled_attention_encoder_layer_0"),
    ],
)
def test_widths_that_only_a_run_shows(kind, layer):
    with pytest.raises(ValueError, match=f"{layer}.*hard-coded.*`depth`"):
        kd.students.shrink(task(kind), width=0.5, divisor=1)


def sharpened(model):
    """Of random weights, all predictions are alike."""
    embedding = model.backbone.token_embedding
    weight = getattr(embedding, "reverse_embeddings", embedding.embeddings)
    weight.assign(20.0 * numpy(weight.value))
    return model


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
@pytest.mark.filterwarnings("ignore:The use of `x.T` on tensors")
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_lora_on_a_shrunk_student_of_an_int8_teacher(kind):
    keras.utils.set_random_seed(0)
    teacher = sharpened(getattr(hub_models, kind)(2, 8))
    student, _ = kd.students.shrink(
        teacher, keep=[0], config={"backbone": {"num_layers": 1}}
    )
    student.backbone.enable_lora(2)
    exact = numpy(teacher(hub_models.causal_lm_batch()[0]))
    hub_models.quantize(teacher)
    x, _, weights = hub_models.causal_lm_batch()
    assert np.abs(numpy(teacher(x)) - exact).max() > 0.0
    before = [numpy(each) for each in student.non_trainable_weights]
    distiller = kd.Distiller(teacher, student, kd.losses.SoftTargets(1.0))
    distiller.compile(keras.optimizers.Adam(0.01), None)
    history = distiller.fit(
        x, epochs=4, sample_weight=weights, verbose=0
    ).history
    losses = history["soft_targets_loss"]
    assert losses[-1] < losses[0]
    for kept, now in zip(before, student.non_trainable_weights):
        np.testing.assert_array_equal(kept, numpy(now))
    names = {each.name.partition("kernel_")[0] for each in student.variables}
    assert "lora_" in names
    student.compile(sampler="greedy")
    prompts = {"token_ids": x["token_ids"], "padding_mask": x["padding_mask"]}
    prompts["padding_mask"] = prompts["padding_mask"] & (np.arange(6) < 2)
    written = student.generate(prompts, stop_token_ids=None)["token_ids"]
    np.testing.assert_array_equal(written[:, :2], x["token_ids"][:, :2])
