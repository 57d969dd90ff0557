"""
Title: Distilling language models
Author: keras_kd developers
Date created: 2026/11/29
Last modified: 2026/11/29
Description: Distill KerasHub models: masks, losses, memory, on-policy texts.
Accelerator: None
"""

"""
## Introduction

A language model says for each token of a text which token may come next, and
how likely each one is. That is thousands of numbers a token, where the text
itself has one. So a teacher's predictions teach a student much more than the
text does.

Language models also bring trouble of their own: prompts and padding that must
not count, logits that fill the memory, tokenizers that differ, and students
that have to live with their own mistakes. In this guide you will

- set up a teacher and a student of KerasHub, and pack texts with masks;
- distill in one line, and choose a divergence;
- keep the logits out of memory;
- let the student write its own texts;
- distill across two tokenizers;
- start the student from the teacher's layers, or train a LoRA;
- store the teacher's predictions, and see what 1 G tokens would cost;
- use several teachers;
- see the usual traps.

If `kd.Distiller(teacher, student)` is new to you, read *Getting started* first.

All of it runs on a laptop's CPU in some minutes. The models are tiny, and so
is the data. What you learn holds for large ones, too: only `from_preset` takes
the place of our training.

```shell
pip install ".[jax,hub,examples]"  # in a clone of the repository
```
"""

import ast
import collections
import pathlib
import re
import sysconfig
import tempfile

import keras
import keras_hub
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import keras_kd as kd

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes a few
# texts, and trains once where several ways are compared.
TRIAL = keras.config.max_epochs() == 1
LENGTH = 48
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


# Some functions are there twice: a test must not know them from training.
texts = [
    (prompt, response)
    for prompt, response in dict.fromkeys(documented_functions())
    if len(prompt) <= 40 and len(response) <= 48
]
np.random.default_rng(0).shuffle(texts)
test_texts, train_texts = texts[:192], texts[192:]
print(len(texts), "functions, such as")
for prompt, response in texts[:3]:
    print(prompt + response)

"""
## The tokenizer

A real model brings its tokenizer along. We make a small one of the same kind
as GPT-2's. It knows all bytes, so it can write any text. And it knows the
pieces of words that are frequent in our texts: it learns them by joining, again
and again, the two tokens that most often stand next to each other.
"""


def learn_merges(texts, count):
    words = collections.Counter(
        tuple(word.replace(" ", "Ġ"))
        for text in texts
        for word in re.findall(" ?[A-Za-z]+", text)
    )
    merges = []
    for _ in range(count):
        pairs = collections.Counter()
        for word, number in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += number
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(" ".join(best))
        words = {joined(word, best): n for word, n in words.items()}
    return merges


def joined(word, pair):
    tokens = []
    for token in word:
        if tokens and (tokens[-1], token) == pair:
            tokens[-1] += token
        else:
            tokens.append(token)
    return tuple(tokens)


def make_tokenizer(num_merges):
    merges = learn_merges((p + r for p, r in train_texts), num_merges)
    # GPT-2 writes each byte as a character that can be seen: a space as Ġ.
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = range(256, 256 + 256 - len(visible))
    tokens = [*map(chr, visible), *map(chr, hidden)]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens.append("<|endoftext|>")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return keras_hub.models.GPT2Tokenizer(vocabulary, merges)


tokenizer = make_tokenizer(num_merges=250)
preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(
    tokenizer, sequence_length=LENGTH
)
print(tokenizer.vocabulary_size(), "tokens in the vocabulary")
print([tokenizer.id_to_token(int(n)) for n in tokenizer("Return the name.")])

if TRIAL:
    test_texts, train_texts = test_texts[:4], train_texts[:16]

"""
## The pair

Two KerasHub models of one tokenizer: the teacher has four layers of 64 units,
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
print(f"Teacher: {teacher.count_params():,} weights")
print(f"Student: {student.count_params():,} weights")

"""
## The masks: which tokens count

A batch of a language model has three parts:

- `x`: a dict of `token_ids`, the tokens, and `padding_mask`, which says where
  there are any. All rows have one length, so short texts are padded;
- `y`: the labels, the next token at each position: the tokens, shifted by one;
- `sample_weight`: for each label 1 if it counts, and else 0.

Two kinds of labels must not count. Padding is no text. And the prompt is given
in use: nobody wants the student to write it. A task's `preprocessor` gives
padding a weight of 0, but it does not know where a prompt ends.

`kd.text.GeneratedTexts` packs prompts and responses with these weights. It can
do more, as we will see. With `share=0.0` it only packs. The `writer` lends its
tokenizer.
"""


def packed(texts, writer=student):
    data = kd.text.GeneratedTexts(
        [prompt for prompt, _ in texts],
        [response for _, response in texts],
        writer=writer,
        share=0.0,
        batch_size=len(texts),
        max_length=LENGTH,
    )
    data.set_epoch(0)
    return data[0]  # One batch of them all.


x, y, weights = packed(train_texts)
test_x, test_y, test_weights = packed(test_texts)


def show(row, begin, end):
    for n in range(begin, end):
        token, label = int(x["token_ids"][row, n]), int(y[row, n])
        print(
            f"{tokenizer.id_to_token(token):>14} -> "
            f"{tokenizer.id_to_token(label):14} weight {weights[row, n]:.0f}"
        )


counted = np.flatnonzero(weights[0])
show(0, counted[0] - 2, counted[0] + 2)
print("...")
show(0, counted[-1] - 1, counted[-1] + 2)

"""
Look at such a list once for data of your own. The first label with weight 1
must be the first token of the response. The last one must be the end token,
exactly once: else the student never learns to stop.

## A loss that padding does not change

Keras divides a loss by the number of all labels, those of weight 0 among them.
Then a batch with more padding has a smaller loss. With
`reduction="mean_with_sample_weight"` it is the mean over the labels that count.
The losses of this library do that, too, so the parts stay in proportion.
"""


def hard_loss(reduction="mean_with_sample_weight"):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=reduction
    )


logits = ops.stop_gradient(
    teacher({name: array[:8] for name, array in x.items()})
)
for reduction in ("sum_over_batch_size", "mean_with_sample_weight"):
    loss = hard_loss(reduction)
    once = loss(y[:8], logits, weights[:8])
    padded = [
        np.pad(array[:8], ((0, 0), (0, LENGTH))) for array in (y, weights)
    ]
    twice = loss(
        padded[0], ops.pad(logits, ((0, 0), (0, LENGTH), (0, 0))), padded[1]
    )
    print(
        f"{reduction:24} {float(once):.3f}, longer padding {float(twice):.3f}"
    )

"""
## Train the teacher

Our teacher has to be trained. Yours has been.
"""

trained = keras.Model(teacher.input, teacher.output)  # The same layers.
trained.compile(keras.optimizers.Adam(4e-3), hard_loss())
trained.fit(x, y, BATCH_SIZE, epochs=5, sample_weight=weights, verbose=2)
teacher.preprocessor = preprocessor

"""
## Distill in one line

`kd.schemes.causal_lm(teacher, student)` is a `Distiller` with the settings of
language models. It is compiled and fitted like any other. The default loss is

```
loss = 0.5 * cross-entropy of the next tokens
     + 0.5 * forward KL from the teacher, at temperature 1
```

Three measures show more than the loss:

- `Perplexity`: between how many tokens the model hesitates, in the mean. 1 is
  best. Also of the teacher: `Perplexity("teacher")`;
- `TeacherDivergence`: forward KL at temperature 1, whatever you train with. So
  it can be compared between runs;
- `TeacherAgreement`: how often both find the same token most likely.

Give them to `weighted_metrics`, not to `metrics`: there each token counts by
its weight, and padding does not.

A student that trains alone is the same with a weight of 0 for the teacher,
which then only measures.
"""

results = {}
num_bytes = sum(len(response) for _, response in test_texts)


def bits_per_byte(perplexity):
    return np.log2(perplexity) * test_weights.sum() / num_bytes


def compile_for(distiller, steps, rate):
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    distiller.compile(
        keras.optimizers.Adam(schedule),
        hard_loss(),
        weighted_metrics=[
            kd.metrics.Perplexity(),
            kd.metrics.Perplexity("teacher"),
            kd.metrics.TeacherDivergence(),
            kd.metrics.TeacherAgreement(),
        ],
    )


def measure(name, distiller):
    scores = distiller.evaluate(
        test_x,
        test_y,
        BATCH_SIZE,
        sample_weight=test_weights,
        verbose=0,
        return_dict=True,
    )
    results[name] = scores
    print(
        f"{name}: {bits_per_byte(scores['perplexity']):.3f} bits a byte, "
        f"divergence {scores['teacher_divergence']:.3f}, "
        f"agreement {100 * scores['teacher_agreement']:.1f} %"
    )


def distill(name, distiller, epochs=2, rate=4e-3):
    compile_for(distiller, epochs * len(train_texts) // BATCH_SIZE, rate)
    distiller.fit(x, y, BATCH_SIZE, epochs, sample_weight=weights, verbose=0)
    measure(name, distiller)


def train_student(name, loss=None, **arguments):
    keras.utils.set_random_seed(0)
    student = make_student()
    distiller = kd.schemes.causal_lm(teacher, student, loss, **arguments)
    distill(name, distiller)
    return student


if not TRIAL:
    train_student("alone", weight=0.0, hard_weight=1.0)
student = train_student("forward KL")
print(
    f"teacher: {bits_per_byte(results['forward KL']['teacher_perplexity']):.3f}"
    " bits a byte"
)

"""
Perplexity depends on the tokenizer: with longer tokens there are fewer of them,
and each is harder to guess. *Bits per byte* does not. It is the logarithm of
the perplexity, over the bytes in place of the tokens. Use it to compare models
of two tokenizers.

## Which divergence?

A small student can't do all that its teacher can. Where it must choose, the
divergence says how. Here is a teacher that finds two groups of tokens likely,
and students that can learn one hill only. We try many hills, and show for each
divergence the one that it likes best.
"""

places = np.arange(48)


def hill(center, width):
    return np.exp(-0.5 * ((places - center) / width) ** 2) / width


two_hills = 0.65 * hill(12, 3) + 0.35 * hill(34, 3)
hills = [hill(c, w) for c in range(4, 44) for w in np.arange(2, 20, 0.5)]
hills = np.log(np.array(hills) + 1e-9).astype("float32")
teacher_logits = np.tile(np.log(two_hills + 1e-9), (len(hills), 1))
divergences = {
    "forward KL": kd.losses.SoftTargets(1.0, reduction=None),
    "Jensen-Shannon": kd.losses.JensenShannon(0.5, reduction=None),
    "reverse KL": kd.losses.ReverseKL(reduction=None),
}
figure, axes = plt.subplots(1, 3, figsize=(11, 2.6), sharey=True)
for axis, (name, loss) in zip(axes, divergences.items()):
    values = ops.convert_to_numpy(loss(teacher_logits, hills))
    best = np.exp(hills[np.argmin(values)])
    axis.bar(places, two_hills / two_hills.sum(), color="lightgray", width=1.0)
    axis.plot(places, best / best.sum())
    axis.set_title(name)
    axis.set_xlabel("token")
axes[0].set_ylabel("probability")
figure.tight_layout()
plt.savefig("language_models_divergences.png", dpi=120)
plt.show()

"""
*Figure: The best student for each divergence.*

Gray is the teacher, the line is the student. Forward KL covers all that the
teacher finds likely, and so also what lies between, which is wrong. Reverse KL
takes one of the hills, and does it well. Jensen-Shannon is between the two; at
0.5 it takes one hill here, too.

| loss                          | good for                                     |
|-------------------------------|----------------------------------------------|
| `SoftTargets(1.0)`: forward   | given texts; the best perplexity             |
| `ReverseKL()`                 | texts of the student's own; no odd tokens    |
| `JensenShannon(0.5)`          | a mixture of both kinds of texts (GKD)       |
| `SkewKL()`, `SkewReverseKL()` | the same; the gradients stay small (DistiLLM)|

Each is one argument:
"""

if not TRIAL:
    train_student("reverse KL", kd.losses.ReverseKL())

"""
## The memory: chunks

Logits have the shape (batch, length, vocabulary). Our vocabulary is tiny. With
8 texts of 512 tokens and a vocabulary of 128,000, how much is it?
"""

gigabytes = 8 * 512 * 128_000 * 4 / 1e9
print(f"{gigabytes:.1f} GB of logits; a training step holds 4 to 6 times that")

"""
And that is so for any student, however small it is. So a Distiller has a
`chunk_size`: it computes the logits of so many positions of each text at a
time, adds up loss and gradient, and drops them. The result is the same. With
`chunk_size=64` the 512 positions above need an eighth of the memory.

`causal_lm` does so by default, with 64 positions. Smaller chunks need less
memory; very small ones are slower. `chunk_size=None` takes all at once. For a
Distiller of your own it is `kd.Distiller(teacher, student, ...,
chunk_size=64)`. It works for models that end in a `Dense` layer or a
`ReversibleEmbedding`, and for every loss in the table above.

## Texts that the student writes: on-policy

In training, the student sees good texts only. In use it goes on from what it
wrote itself, mistakes and all, which it has never seen. So let it write in
training, too. The teacher then says for each token what should have come.

`GeneratedTexts` is the data for that. At the start of each epoch the student,
as it is then, writes a share of the texts; here half of them. Two settings
change:

- the loss, to one that is between forward and reverse KL;
- `hard_weight=0.0`: the student's own tokens are no labels to learn from.

Begin with a student that can already write a little. We go on with the one from
above, for three short epochs; and to compare, once on given texts only.
"""


def own_texts(texts, student, share, steps=None):
    return kd.text.GeneratedTexts(
        [prompt for prompt, _ in texts],
        [response for _, response in texts],
        writer=student,
        share=share,
        batch_size=BATCH_SIZE,
        max_length=LENGTH,
        steps=steps,  # Batches of an epoch; by default all texts once.
        sampler=keras_hub.samplers.RandomSampler(temperature=0.9),
        seed=0,
    )


def train_further(share, epochs=3, steps=1 if TRIAL else 30):
    student.set_weights(begin)
    distiller = kd.schemes.causal_lm(
        teacher,
        student,
        kd.losses.JensenShannon(0.5),
        weight=1.0,
        hard_weight=0.0,
    )
    compile_for(distiller, epochs * steps, rate=1e-3)
    data = own_texts(train_texts, student, share, steps)
    logs = distiller.fit(data, epochs=epochs, verbose=0).history
    measure(f"+ {share:.0%} of its own texts", distiller)
    # Now on what it writes to the test's prompts.
    written = own_texts(test_texts, student, share=1.0)
    written.set_epoch(0)
    scores = distiller.evaluate(written, verbose=0, return_dict=True)
    print(f"  on its own texts: divergence {scores['teacher_divergence']:.3f}")
    return logs


begin = student.get_weights()
if not TRIAL:
    train_further(share=0.0)  # To compare with.
logs = train_further(share=0.5)
for key in (
    "generated_texts",
    "generated_length",
    "generated_ended",
    "generation_time",
):
    print(f"{key:18}", *(f"{value:8.2f}" for value in logs[key]))

"""
Read these four lines in every run. `generated_ended` is the share of texts that
have an end. If it stays near 0, the texts are cut: raise `max_length`, or look
whether your responses have end tokens. `generation_time` is the share of the
time that writing takes. If it is too much, use the texts for several epochs, by
`refresh_every=`.

What does the student write now?
"""

prompts = [prompt for prompt, _ in test_texts[:3]]
written = kd.text.generate_responses(
    student, prompts, max_length=LENGTH, batch_size=4, sampler="greedy"
)
for (prompt, response), tokens in zip(test_texts, written):
    text = "".join(tokenizer.id_to_token(int(token)) for token in tokens)
    text = text.replace("Ġ", " ")
    print(f"{prompt}    student: {text}\n    library: {response}")

"""
`generate_responses` also makes the simplest of all data for a student: let the
*teacher* respond to your prompts, once, and train on that (sequence-level
distillation).

```python
responses = kd.text.generate_responses(teacher, prompts, max_length=256)
data = kd.text.GeneratedTexts(prompts, responses, writer=student, share=0.5)
```

A run that is interrupted goes on with its texts, if `GeneratedTexts` has a
`folder`.

## Better starting points

A student need not begin with random weights. `kd.students.shrink` makes it of
every second layer of the teacher. `config` says what differs, so that the
student is a KerasHub model of the same class.
"""

keras.utils.set_random_seed(0)
shrunk, _ = kd.students.shrink(
    teacher, depth=0.5, config={"backbone": {"num_layers": 2}}
)
shrunk.preprocessor = preprocessor
print(f"Shrunk: {shrunk.count_params():,} weights")
if not TRIAL:
    distill("shrunk", kd.schemes.causal_lm(teacher, shrunk))

"""
It has the width of the teacher here, so it is larger than our other student,
and slower.

A student of another width can still learn from the hidden layers.
`schemes.layer_map` pairs them: layer i of the student learns from layer
round(i * L_t / L_s) of the teacher.
"""

keras.utils.set_random_seed(0)
student = make_student()
transfers = kd.schemes.layer_map(teacher, student, states=0.0, relations=1.0)
for transfer in transfers:
    print(
        transfer.name,
        transfer.teacher_taps[0].text,
        transfer.student_taps[0].text,
    )
distiller = kd.schemes.causal_lm(teacher, student, transfers=transfers)
if not TRIAL:
    distill("+ relations", distiller)

"""
## LoRA, and a teacher in int8

A large student is too expensive to train as a whole. LoRA freezes it, and
trains two thin matrices beside each of its query and value projections. One
line does it, before you make the distiller:

```python
student.backbone.enable_lora(rank=8)
```

A teacher is only run, so it may be kept in 8 bits, a quarter of the memory:

```python
teacher.quantize("int8")
```

Both together repair a model that was quantized. The student is the teacher's
own copy in int8, with a LoRA. The teacher is the original. What the rounding
has broken, the LoRA learns to mend.

One layer must stay as it is: a `ReversibleEmbedding`, which makes the logits.
In int8 its logits are right, but with Keras 3.15 their gradient is wrong, and a
student gets worse with each step. So a student needs the `filters`; a teacher
does not.
"""


def is_hidden_product(layer):
    return isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense))


copy = make_model(4, 64)
copy.set_weights(teacher.get_weights())
copy.preprocessor = preprocessor
copy.quantize("int8", filters=is_hidden_product)
copy.backbone.enable_lora(rank=4)
number = sum(int(np.prod(v.shape)) for v in copy.trainable_variables)
print(f"{number:,} weights are trained, of {copy.count_params():,}")
distiller = kd.schemes.causal_lm(teacher, copy, weight=1.0, hard_weight=0.0)
compile_for(distiller, steps=1, rate=0.0)
measure("int8 copy", distiller)
distill("int8 copy with LoRA", distiller, epochs=1, rate=1e-3)

"""
Here rounding to 8 bits has hardly broken anything, and nothing is lost by the
training: a divergence below 0.001 before and after.

## A teacher of another tokenizer

All losses so far compare token by token, and class by class. That needs one
tokenizer. `causal_lm` tries both on some texts, and raises an error if they
differ. You can ask yourself:
"""

other_tokenizer = make_tokenizer(num_merges=60)
try:
    kd.text.check_same_ids(tokenizer, other_tokenizer)
except ValueError as error:
    print(error)

"""
If one tokenizer is the other's, with more tokens at its end, `check_same_ids`
returns how many they share. Pass that number to the loss, as
`kd.losses.ReverseKL(classes=...)`.

With two tokenizers, what both sides have in common is the bytes of the text.
`kd.text.PairedTexts` cuts each text by both, and finds the shortest pieces at
whose ends both have a cut. `LikelihoodMatching` (ALM) compares how likely each
model finds each of these pieces.

Here is a student whose tokenizer has 60 merges only. Its texts have more tokens
than the teacher's. Each side has a length of its own (`length`,
`teacher_length`); here both are as long as our models can be.
"""

teacher_side = kd.text.OffsetTokenizer(tokenizer)
student_side = kd.text.OffsetTokenizer(other_tokenizer)
print(teacher_side.encode("the name")[1].tolist())
print(student_side.encode("the name")[1].tolist())


def paired(texts):
    return kd.text.PairedTexts(
        [response for _, response in texts],
        teacher_side,
        student_side,
        prompts=[prompt for prompt, _ in texts],
        length=LENGTH,
        batch_size=BATCH_SIZE,
        seed=0,
    )


keras.utils.set_random_seed(0)
student = make_model(2, 32, other_tokenizer)
matching = kd.Transfer(kd.losses.LikelihoodMatching(), weight=20.0)
distiller = kd.Distiller(teacher, student, [matching], hard_weight=1.0)
schedule = keras.optimizers.schedules.CosineDecay(
    4e-3, 2 * len(train_texts) // BATCH_SIZE
)
distiller.compile(keras.optimizers.Adam(schedule), hard_loss())
distiller.fit(paired(train_texts), epochs=2, verbose=0)
logs = distiller.evaluate(paired(test_texts), verbose=0, return_dict=True)
print({name: round(value, 3) for name, value in logs.items()})

"""
The values of `LikelihoodMatching` are small, so its weight is large.
`kd.losses.UniversalLogit` (ULD) needs no pieces: it compares the sorted
probabilities. That is simpler, and teaches the student less.

## Store the predictions

The teacher's predictions for given texts are the same in every epoch. Store
them once, and train without the teacher. All logits of a large vocabulary are
too many to store. Store the k likeliest tokens of each position, and all others
as one number.

First ask what it costs. `plan` runs the teacher on a few samples, and says how
large each way to store is, how long writing takes, and how near it is to the
full predictions.
"""

top_k = kd.cache.TopK(16, temperature=1.0)
plan = kd.cache.plan(
    teacher, x, epochs=10, outputs=top_k, temperature=1.0, verbose=0
)
print(plan)

"""
The last numbers of a line are bytes for 1 M and 1 G tokens. Padding is stored,
too: pack short texts together, or sort them by length, before you write 1 G.
For numbers of your own:
"""

own = next(choice for choice in plan.choices if choice.name == "yours")
stored, seconds = plan.of_tokens(1e9, own)
print(f"1 G tokens: {stored / 1e9:.0f} GB, {seconds / 3600:.1f} h to write")

"""
Then write, open, and join with your data. The cache takes the teacher's place.
"""

folder = tempfile.mkdtemp()  # Yours is one that stays.
kd.cache.write(
    teacher, x, folder, outputs=top_k, batch_size=BATCH_SIZE, verbose=0
)
predictions = kd.cache.open(folder)
keras.utils.set_random_seed(0)
student = make_student()
distiller = kd.schemes.causal_lm(
    predictions, student, kd.losses.TopKTargets(16)
)
schedule = keras.optimizers.schedules.CosineDecay(
    4e-3, 2 * len(train_texts) // BATCH_SIZE
)
distiller.compile(keras.optimizers.Adam(schedule), hard_loss())
distiller.fit(
    predictions.join(x, y, weights, batch_size=BATCH_SIZE, seed=0),
    epochs=2,
    verbose=0,
)

# The teacher is here, too, so we can measure as before.
distiller = kd.schemes.causal_lm(teacher, student)
compile_for(distiller, steps=1, rate=0.0)
measure("from a top-16 cache", distiller)

"""
Only given texts can be stored. Texts that the student writes are new each time.

## Several teachers

One teacher may know code, another one prose. With `TeacherBySample` each sample
says who teaches it, by a number in a column of the inputs.

Our second teacher is a copy of the first that was trained further, on private
functions only. Their names begin with an underscore. Every teacher runs on
every batch, so two take the time of two.
"""

specialist = make_model(4, 64)
specialist.set_weights(teacher.get_weights())
private = np.array([prompt.startswith("def _") for prompt, _ in train_texts])
trained = keras.Model(specialist.input, specialist.output)
trained.compile(keras.optimizers.Adam(5e-4), hard_loss())
trained.fit(
    {name: array[private] for name, array in x.items()},
    y[private],
    BATCH_SIZE,
    sample_weight=weights[private],
    verbose=0,
)

teachers = kd.teachers.TeacherBySample(
    {"public": teacher, "private": specialist}
)
names = ["private" if each else "public" for each in private]
keras.utils.set_random_seed(0)
student = make_student()
distiller = kd.schemes.causal_lm(teachers, student)
distiller.compile(keras.optimizers.Adam(4e-3), hard_loss())
history = distiller.fit(
    {**x, "teacher": teachers.numbers(names)},
    y,
    BATCH_SIZE,
    sample_weight=weights,
    verbose=0,
)
print({key: round(values[-1], 3) for key, values in history.history.items()})

"""
## What we found

Bits a byte, divergence and agreement on test texts, one seed, with PyTorch on a
CPU. Another version of Python has other texts, and so other figures.

| student                    | weights | bits a byte | divergence | agreement |
|----------------------------|---------|-------------|------------|-----------|
| alone                      | 43,232  | 3.363       | 0.565      | 43.6 %    |
| forward KL                 | 43,232  | 3.148       | 0.200      | 61.1 %    |
| reverse KL                 | 43,232  | 3.323       | 0.435      | 46.5 %    |
| forward KL + relations     | 43,232  | 3.311       | 0.359      | 60.0 %    |
| from a top-16 cache        | 43,232  | 3.176       | 0.298      | 53.2 %    |
| forward KL, then given     | 43,232  | 3.158       | 0.116      | 70.3 %    |
| forward KL, then on-policy | 43,232  | 3.161       | 0.118      | 69.9 %    |
| from the teacher's layers  | 135,616 | 2.995       | 0.086      | 71.4 %    |
| teacher                    | 235,584 | 3.073       |            |           |

The teacher's predictions gain 0.2 bits a byte, most of what there is between
student and teacher. The best student is the one of the teacher's layers. It has
seen the labels for longer than the teacher itself, and passes it.

Not all of it helps here. Reverse KL is worse on given texts, as the table of
divergences says. The relations of hidden layers at weight 1 hinder more than
they help: look at the logged parts, and lower the weight. The top-16 cache is
near to the live teacher in bits, and further in divergence. `plan` showed it:
0.57 nats off, where 0.05 is close enough. Our teacher is so unsure that 16
tokens are too few.

And on-policy? Given texts and own texts do the same here: on texts of their own
the students' divergence is 0.112 and 0.110. After a few hundred steps such a
student writes hardly more than its most frequent words, and again and again.
There is little to learn from that, and writing took 70 % of the time. Let a
student write when it can.
"""

names = list(results)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
bits = [bits_per_byte(results[name]["perplexity"]) for name in names]
axes[0].barh(names, bits)
axes[0].axvline(
    bits_per_byte(results["forward KL"]["teacher_perplexity"]), color="black"
)
axes[0].set_xlabel("bits a byte; the line is the teacher")
axes[0].set_xlim(left=0.9 * min(bits))
axes[1].barh(names, [results[name]["teacher_divergence"] for name in names])
axes[1].set_xlabel("divergence from the teacher (nats a token)")
axes[0].invert_yaxis()
figure.tight_layout()
plt.savefig("language_models.png", dpi=120)
plt.show()

"""
*Figure: Bits a byte and divergence of the students.*

## What to watch

- **Padding that counts.** Compile the loss with
  `reduction="mean_with_sample_weight"`, and give metrics to
  `weighted_metrics`. Try it: with twice the padding, nothing may change.
- **Prompts that count.** Print tokens, labels and weights of one row, as
  above. The weight belongs to the *label*, so it begins one position before the
  response does.
- **The end token.** It must be there, count, and be there once. A response that
  was cut has none. Many tokenizers pad with a real token (ours with `!`): only
  the mask and the weights mark padding.
- **The hard loss on the student's own texts.** It teaches the student its own
  mistakes. With `GeneratedTexts` set `hard_weight=0.0`; or give the data an
  `ignore_class`, and the compiled loss the same.
- **Temperature.** Take 1, the default of `causal_lm`. The 4 of image
  classifiers lifts tens of thousands of tokens that can't come next.
- **The learning rate.** Our models begin with random weights, so we take 4e-3.
  For pretrained ones begin with 2e-5. That is Keras' `AdamW(2e-5)`, with some
  warm-up. Ten times as much destroys what the model knows.
- **Tokens, not texts.** In each batch the loss is a mean over its tokens. Under
  `gradient_accumulation_steps` the batches then count the same, whether they
  have ten tokens that count or a thousand. Let batches have about as many.
- **Numbers that can't be compared.** The training loss depends on temperature,
  divergence and weights. Compare `TeacherDivergence` and perplexity; and
  between tokenizers bits per byte only.
- **Time.** A student alone takes more steps in the same time, as no teacher is
  run. Train one for comparison, for as long.
- **The wrong pair.** Let `causal_lm` check the tokenizers, with a few
  `probe_texts` of your own. A single token of another meaning does not stop a
  run: it only makes the results bad.

## Where to go from here

- *Caching predictions* explains caches, on several machines, too.
- *Learning from features and attention* shows how taps and weights of hidden
  layers are chosen.
- `examples/benchmarks/large_vocabulary.py` measures memory and time of chunks.
"""
