"""
Title: Distilling language models
Author: keras_kd developers
Date created: 2026/11/29
Last modified: 2026/11/30
Description: Distil KerasHub models: masks, divergences, memory, own texts.
Accelerator: None
Needs: pip install ".[jax,hub,quickstart]"
"""

"""
## Introduction

A language model predicts, for each token of a text, how likely every token is
to come next: thousands of numbers, where the text itself has one. In this guide
you distil a KerasHub model in one line, choose a divergence, and train on the
student's own texts. Models and data are tiny, for a laptop's CPU. Read [Getting
started](getting_started.ipynb) first.
"""

import ast
import collections
import pathlib
import re
import sysconfig

import keras
import keras_hub
import matplotlib.pyplot as plt
import numpy as np

import keras_kd as kd

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes a few
# texts, and trains once where several ways are compared.
TRIAL = keras.config.max_epochs() == 1
LENGTH = 64
BATCH_SIZE = 4 if TRIAL else 16

"""
## The data

Every Python installation has it: the functions of the standard library. The
*prompt* is the first line of a function. The *response* is the first sentence
of its docstring.
"""


def documented_functions():
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idlelib"}
    for path in sorted(root.rglob("*.py")):
        if left_out & set(path.relative_to(root).parts):
            continue
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
                sentence = ast.get_docstring(node).split("\n\n")[0]
                prompt = f"def {node.name}({ast.unparse(node.args)}):\n"
                yield prompt, " ".join(sentence.split())


# Some functions are there twice: none may be in both training and test data.
texts = [
    (prompt, response)
    for prompt, response in dict.fromkeys(documented_functions())
    if len(prompt) <= 40 and len(response) <= 48
]
np.random.default_rng(0).shuffle(texts)
test_texts, train_texts = texts[:192], texts[192:]
print(len(texts), "functions, such as")
for prompt, response in texts[:2]:
    print(prompt + response)

"""
## The tokenizer

A real model brings its own tokenizer. We make a small one of the kind of
GPT-2's: all bytes, and the most frequent words and their beginnings.
"""


def make_tokenizer(num_words):
    counts = collections.Counter(
        word.replace(" ", "Ġ")
        for text in train_texts
        for word in re.findall(" [a-z]+|[A-Z][a-z]+", "".join(text))
    )
    # "Th" is made of "T" and "h", "The" of "Th" and "e".
    merges = {
        word[:end] + word[end]: f"{word[:end]} {word[end]}"
        for word, _ in counts.most_common(num_words)
        for end in range(1, len(word))
    }
    # GPT-2 writes each byte as a character that can be seen: a space as Ġ.
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = range(256, 256 + 256 - len(visible))
    tokens = [*map(chr, visible), *map(chr, hidden), *merges, "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return keras_hub.models.GPT2Tokenizer(vocabulary, list(merges.values()))


tokenizer = make_tokenizer(num_words=150)
preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(
    tokenizer, sequence_length=LENGTH
)
print(tokenizer.vocabulary_size(), "tokens in the vocabulary")
print([tokenizer.id_to_token(int(n)) for n in tokenizer("Return the name.")])

if TRIAL:
    test_texts, train_texts = test_texts[:4], train_texts[:16]

"""
## The models

Two KerasHub models with one tokenizer: the teacher has four layers of 64 units,
the student two of 32. With real models, this is all you write:

```python
teacher = keras_hub.models.CausalLM.from_preset("llama3.2_3b")
student = keras_hub.models.CausalLM.from_preset("llama3.2_1b")
```
"""


def make_model(num_layers, width, tokenizer=tokenizer):
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=num_layers,
        num_heads=4,
        hidden_dim=width,
        intermediate_dim=4 * width,
        dropout=0.0,
        max_sequence_length=LENGTH,
    )
    return keras_hub.models.GPT2CausalLM(backbone)


def make_student():
    student = make_model(2, 32)
    student.preprocessor = preprocessor
    return student


keras.utils.set_random_seed(0)
teacher, student = make_model(4, 64), make_student()
teacher.preprocessor = preprocessor
print(f"Teacher: {teacher.count_params():,} weights")
print(f"Student: {student.count_params():,} weights")

"""
## Masks: which tokens count

A batch of a language model has three parts:

- `x`: a dict of `token_ids` and `padding_mask`. All rows have one length, so
  short texts are padded, and the mask marks the real tokens;
- `y`: the labels, the next token at each position;
- `sample_weight`: 1 for each label that counts, 0 for the others.

Padding must not count, nor the prompt, which is given in use. A task's
`preprocessor` does not know where a prompt ends. `kd.text.GeneratedTexts` does:
it packs prompts and responses, by the tokenizer of the `writer`.
"""


def batches(texts, writer, share=0.0, steps=None):
    data = kd.text.GeneratedTexts(
        *map(list, zip(*texts)),
        writer=writer,
        share=share,
        batch_size=BATCH_SIZE,
        max_length=LENGTH,
        steps=steps,  # Batches of an epoch; by default all texts once.
        sampler=keras_hub.samplers.RandomSampler(temperature=0.9),
        seed=0,
    )
    data.set_epoch(0)
    return data


train_data = batches(train_texts, teacher)
test_data = batches(test_texts, teacher)
x, y, weights = train_data[0]
first, *_, last = np.flatnonzero(weights[0])
for n in (first - 1, first, last, last + 1):
    token, label = int(x["token_ids"][0, n]), int(y[0, n])
    print(
        f"{tokenizer.id_to_token(token):>14} -> "
        f"{tokenizer.id_to_token(label):14} weight {weights[0, n]:.0f}"
    )

"""
Print such a list for data of your own. Weight 1 must begin at the response
(here after the line break, `Ċ`), and end with one end token: without it, the
student never learns to stop.

## Train the teacher

Ours has to be trained; yours has been. With
`reduction="mean_with_sample_weight"` the loss is the mean over the labels that
count. By default Keras divides by the number of all labels, padding included.
"""


def hard_loss():
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )


trained = keras.Model(teacher.input, teacher.output)  # The same layers.
trained.compile(keras.optimizers.Adam(2e-3), hard_loss())
trained.fit(train_data, epochs=10, verbose=2)

"""
## Distil in one line

`kd.schemes.causal_lm(teacher, student)` is a `Distiller` with the usual
settings of language models, compiled and fitted like any other:

```
loss = 0.5 * cross-entropy of the next tokens
     + 0.5 * forward KL from the teacher, at temperature 1
```

Temperature 1 is right here. The 4 of image classifiers makes thousands of
tokens likely that can't come next. Give metrics to `weighted_metrics`, where
each token counts by its weight:

- `Perplexity`: 1 is best. It depends on the tokenizer. *Bits per byte*, its
  logarithm over bytes in place of tokens, does not;
- `TeacherDivergence`: forward KL at temperature 1, whatever the training uses;
- `TeacherAgreement`: how often both models find the same token most likely.

A student alone is a distiller whose teacher has weight 0.
"""

results = {}
num_bytes = sum(len(response.encode()) for _, response in test_texts)
num_tokens = sum(weights.sum() for _, _, weights in test_data)


def bits_per_byte(perplexity):
    return np.log2(perplexity) * num_tokens / num_bytes


def distill(name, student, data, loss=None, epochs=3, rate=4e-3, **kwargs):
    distiller = kd.schemes.causal_lm(teacher, student, loss, **kwargs)
    distiller.compile(
        keras.optimizers.Adam(rate),
        hard_loss(),
        weighted_metrics=[
            kd.metrics.Perplexity(),
            kd.metrics.Perplexity("teacher"),
            kd.metrics.TeacherDivergence(),
            kd.metrics.TeacherAgreement(),
        ],
    )
    logs = distiller.fit(data, epochs=epochs, verbose=0).history
    scores = distiller.evaluate(test_data, verbose=0, return_dict=True)
    results[name] = bits_per_byte(scores["perplexity"])
    print(
        f"{name}: {results[name]:.3f} bits a byte, "
        f"divergence {scores['teacher_divergence']:.3f}, "
        f"agreement {100 * scores['teacher_agreement']:.1f} %"
    )
    return bits_per_byte(scores["teacher_perplexity"]), logs


def new_student():
    keras.utils.set_random_seed(0)
    return make_student()


if not TRIAL:
    distill("alone", new_student(), train_data, weight=0.0, hard_weight=1.0)
student = new_student()
teacher_bits, _ = distill("forward KL", student, train_data)
print(f"teacher: {teacher_bits:.3f} bits a byte")

"""
## Which divergence?

A small student can't match its teacher everywhere. Where it must choose, the
divergence decides:

- **forward KL**, `SoftTargets(1.0)`, the default: the student covers all tokens
  that the teacher finds likely, and some beside them;
- **reverse KL**, `ReverseKL()`: it keeps to tokens that the teacher finds
  likely, and leaves some out;
- `JensenShannon(0.5)` lies between the two. `SkewKL` and `SkewReverseKL`
  (DistiLLM) are close to one or the other, with smaller gradients.

Each is one argument:
"""

if not TRIAL:
    distill("reverse KL", new_student(), train_data, kd.losses.ReverseKL())

"""
## Memory: logits in chunks

Logits have the shape (batch, length, vocabulary). With large vocabularies they
fill the memory, however small the student is. So `causal_lm` computes them for
64 positions at a time (`chunk_size=64`), and adds up loss and gradient. The
result is the same. Smaller chunks need less memory and more time.

## Texts that the student writes: on-policy

In training the student sees good texts only. In use it goes on from what it
wrote itself, mistakes included. So at the start of each epoch, `GeneratedTexts`
lets it write a `share` of the texts. Its own tokens are no labels to learn
from, so `hard_weight` is 0. We go on with the student of forward KL; for
comparison, also with given texts only.
"""


def train_further(share):
    student.set_weights(begin)
    data = batches(train_texts, student, share, steps=1 if TRIAL else 30)
    loss = kd.losses.JensenShannon(0.5)
    name = f"+ {share:.0%} own texts"
    return distill(
        name, student, data, loss, rate=1e-3, weight=1.0, hard_weight=0.0
    )


begin = student.get_weights()
if not TRIAL:
    train_further(share=0.0)
_, logs = train_further(share=0.5)
for key in ("generated_ended", "generation_time"):
    print(f"{key:18}", *(f"{value:8.2f}" for value in logs[key]))

prompts = [prompt for prompt, _ in test_texts[:3]]
written = kd.text.generate_responses(
    student, prompts, max_length=LENGTH, batch_size=4, sampler="greedy"
)
for prompt, tokens in zip(prompts, written):
    text = "".join(tokenizer.id_to_token(int(token)) for token in tokens)
    print(f"{prompt}    {text.replace('Ġ', ' ')}")

"""
Here own texts and given texts do the same. So young a student writes one
sentence only, and repeats itself: there is little to learn from that. Let a
student write when it can. Read `generated_ended`, the share of texts that have
an end, in every run: near 0 they are cut, so raise `max_length`.
`generation_time` is the share of time for writing.

## Two tokenizers

All losses so far need one tokenizer. `causal_lm` raises an error otherwise:
"""

try:
    kd.text.check_same_ids(tokenizer, make_tokenizer(num_words=30))
except ValueError as error:
    print(error)

"""
With two tokenizers, compare the pieces of text that both have in common.
`kd.text.PairedTexts` finds them, and
`kd.losses.LikelihoodMatching` (ALM) compares how likely each
model finds each piece. `kd.losses.UniversalLogit` (ULD)
compares the sorted probabilities.

## What we found
"""

figure, axis = plt.subplots(figsize=(8, 2.8))
axis.barh(list(results), list(results.values()))
axis.axvline(teacher_bits, color="black", label="teacher")
axis.set_xlim(left=0.9 * teacher_bits)
axis.set_xlabel("bits a byte (lower is better)")
axis.invert_yaxis()
axis.legend()
figure.tight_layout()
plt.savefig("language_models.png", dpi=120)
plt.show()

"""
*Figure: Bits a byte of the students on test texts, one seed.*

The teacher's predictions gain 0.19 bits a byte: 2.898 in place of 3.087. That
is most of the 0.30 between the student alone and the teacher, at 2.784. Reverse
KL gains half as much on given texts: 2.990. A student alone takes more steps in
the same time, as no teacher is run: train one for comparison, for as long.

## Next

[How to distil a language model](../how_to/language_models.md), in short;
[cached predictions](../how_to/cache_teacher_predictions.md), of a large
vocabulary only the most likely tokens, by `kd.cache.TopK`; a student [of the
teacher's layers](../how_to/shrink_a_teacher.md). For LoRA,
`student.backbone.enable_lora(rank=8)` comes before the distiller.
"""
