"""What is left of a distiller that is gone."""

import gc

import keras
import numpy as np

import keras_kd as kd


def model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def forget():
    keras.utils.clear_session()
    gc.collect()


def own_objects():
    """How many objects of classes of ours are alive."""
    names = (str(type(each).__module__) for each in gc.get_objects())
    return sum(name.startswith("keras_kd.") for name in names)


def test_distillers_leave_no_objects_behind():
    for _ in range(2):  # What is made once.
        kd.Distiller(model(), model())
    forget()
    before = len(gc.get_objects())
    for _ in range(3):
        kd.Distiller(model(), model())
    forget()
    # On JAX it was 648 for each, as each trace had a symbol of its own.
    assert len(gc.get_objects()) - before < 100


def test_training_leaves_no_distiller_behind():
    forget()
    before = own_objects()
    distiller = kd.Distiller(model(), model())
    distiller.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    distiller.fit(np.ones((4, 4)), np.zeros(4), verbose=0)
    assert own_objects() > before
    del distiller
    forget()
    assert own_objects() <= before
