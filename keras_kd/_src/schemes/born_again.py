"""Born-again networks: one architecture, trained in generations."""

from keras_kd._src.arguments import integer
from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.losses.soft_targets import SoftTargets
from keras_kd._src.schemes.chain import Stage


def born_again(
    student,
    generations,
    *,
    epochs,
    compile,
    transfers=None,
    hard_weight=0.0,
    callbacks=None,
):
    """Born-again networks (BAN): stages of one architecture, in generations.

    Use it to make a model more accurate, not smaller. Give the chain a trained
    teacher of the same architecture (or of another). Each generation starts
    from new random weights, and its teacher is the generation before:

        chain = Chain(
            teacher,
            born_again(make_model, 3, epochs=30, compile=settings),
            folder="runs/born_again",
        )
        chain.fit(x, y)
        best = Ensemble([teacher, *chain.students])

        loss_k = KL(softmax(generation_{k-1}) || softmax(generation_k))

    The paper, too, ends with the ensemble of the generations (the last line of
    code, `keras_kd.teachers.Ensemble`). Generations resemble their teachers, so
    it gains less than an ensemble of models trained independently.

    Args:
        student: function without arguments that builds the model.
        generations: their number, a positive integer; 1 to 3 in the paper.
        epochs: the number of epochs of each generation.
        compile: function without arguments that returns the arguments of
            `compile`.
        transfers: as in `Stage`; by default as in the paper: soft targets at
            temperature 1, with weight 1.
        hard_weight: weight of the labels: 0 in the paper's formula, 1 in its
            variant with labels.
        callbacks: as in `Stage`.

    Returns:
        List of `Stage`s, "generation_1", "generation_2", ....

    Raises:
        ValueError: `generations` is no positive integer.

    Example:
    >>> stages = born_again(lambda: None, 3, epochs=30, compile=dict)
    >>> [stage.name for stage in stages]
    ['generation_1', 'generation_2', 'generation_3']

    Reference: Furlanello et al., 2018, "Born-Again Neural Networks",
    arXiv 1805.04770.
    """
    return [
        Stage(
            f"generation_{number}",
            student,
            epochs=epochs,
            compile=compile,
            transfers=transfers or _soft_targets,
            hard_weight=hard_weight,
            callbacks=callbacks,
        )
        for number in range(1, integer(generations, "generations") + 1)
    ]


def _soft_targets(teachers):
    return [Transfer(SoftTargets(temperature=1.0))]
