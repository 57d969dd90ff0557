"""Tiny KerasHub models of random weights, as their users make them.

`pytest.importorskip("keras_hub")` before it is imported.
"""

import gc

import keras_hub
import numpy as np

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS += ["good", "bad", "film", "very", "not", "a", "the"]
SIZE = len(WORDS)
TEXTS = ["good film", "a very bad film", "not the good", "very very bad"]
LABELS = np.array([1, 0, 0, 0])


def texts(samples=8):
    """Texts of the tokenizer's words, and their labels of two classes."""
    repeats = -(-samples // len(TEXTS))
    return (TEXTS * repeats)[:samples], np.tile(LABELS, repeats)[:samples]


def bert_preprocessor(length=8):
    return keras_hub.models.BertTextClassifierPreprocessor(
        keras_hub.models.BertTokenizer(vocabulary=WORDS),
        sequence_length=length,
    )


def bert(layers=1, width=8, *, preprocessor=None, classes=2, positions=128):
    """A text classifier; its position embedding knows `positions` tokens."""
    backbone = keras_hub.models.BertBackbone(
        **_learned_positions(layers, width, positions, SIZE)
    )
    return keras_hub.models.BertTextClassifier(
        backbone, num_classes=classes, dropout=0.0, preprocessor=preprocessor
    )


def _learned_positions(layers, width, positions, vocabulary):
    return dict(
        vocabulary_size=vocabulary,
        num_layers=layers,
        num_heads=2,
        hidden_dim=width,
        intermediate_dim=16,
        dropout=0.0,
        max_sequence_length=positions,
    )


def bert_pair(*, preprocessor=None, **arguments):
    """A teacher of two layers and a student of one."""
    arguments["preprocessor"] = preprocessor
    return bert(2, 16, **arguments), bert(1, 8, **arguments)


def bert_inputs(samples=8, length=6, seed=0):
    """What a BERT takes, of texts of several lengths."""
    tokens, mask = _tokens(samples, length, seed)
    segments = np.zeros_like(tokens)
    return {"token_ids": tokens, "padding_mask": mask, "segment_ids": segments}


def gpt2(
    layers=1, width=8, *, positions=64, preprocessor=None, vocabulary=SIZE
):
    backbone = keras_hub.models.GPT2Backbone(
        **_learned_positions(layers, width, positions, vocabulary)
    )
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor=preprocessor)


def gpt2_pair(**arguments):
    return gpt2(2, 16, **arguments), gpt2(1, 8, **arguments)


def llama(layers=1, width=8, *, preprocessor=None):
    backbone = keras_hub.models.Llama3Backbone(
        **_grouped_queries(layers, width)
    )
    return keras_hub.models.Llama3CausalLM(backbone, preprocessor=preprocessor)


def _grouped_queries(layers, width):
    return dict(
        vocabulary_size=len(WORDS),
        num_layers=layers,
        num_query_heads=2,
        num_key_value_heads=1,
        hidden_dim=width,
        intermediate_dim=16,
    )


def llama_pair(**arguments):
    return llama(2, 16, **arguments), llama(1, 8, **arguments)


def gemma(layers=1, width=8, *, preprocessor=None):
    backbone = keras_hub.models.GemmaBackbone(
        **_grouped_queries(layers, width), head_dim=4
    )
    return keras_hub.models.GemmaCausalLM(backbone, preprocessor=preprocessor)


def causal_lm_batch(samples=8, length=6, seed=0):
    """`(x, next tokens, token weights)` of texts of several lengths."""
    tokens, mask = _tokens(samples, length + 1, seed)
    x = {"token_ids": tokens[:, :-1], "padding_mask": mask[:, :-1]}
    return x, tokens[:, 1:], mask[:, 1:].astype("float32")


def _tokens(samples, length, seed):
    random = np.random.default_rng(seed)
    tokens = random.integers(5, len(WORDS), size=(samples, length))
    lengths = random.integers(2, length + 1, size=(samples, 1))
    mask = np.arange(length) < lengths
    return np.where(mask, tokens, 0).astype("int32"), mask


def resnet(width):
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, width, width, width],
        stackwise_num_blocks=[1] * 4,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        use_pre_activation=False,
    )


def retinanet(width, classes):
    """A detector of open image sizes; its loss is its own."""
    backbone = keras_hub.models.RetinaNetBackbone(
        image_encoder=resnet(width), min_level=3, max_level=5, use_p5=False
    )
    return keras_hub.models.RetinaNetObjectDetector(
        backbone,
        num_classes=classes,
        bounding_box_format="yxyx",
        pre_logits_num_conv_layers=1,
    )


def retinanet_pair(classes):
    return retinanet(8, classes), retinanet(4, classes)


def deeplab(width, classes):
    """A segmenter of open image sizes."""
    backbone = keras_hub.models.DeepLabV3Backbone(
        image_encoder=resnet(width),
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[2],
    )
    return keras_hub.models.DeepLabV3ImageSegmenter(backbone, classes)


def deeplab_pair(classes):
    return deeplab(8, classes), deeplab(4, classes)


def quantize(model):
    """To int8; Keras collects garbage for each layer, which takes seconds."""
    gc.freeze()
    model.quantize("int8")
    gc.unfreeze()
