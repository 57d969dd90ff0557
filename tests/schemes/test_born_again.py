"""Born-again generations, and their ensemble."""

import chains
import keras
import numpy as np
import pytest
from chains import model_of
from chains import samples
from support import numpy

import keras_kd as kd
from keras_kd.schemes import born_again
from keras_kd.testing import assert_close


def test_generations(tmp_path):
    teacher = model_of(4)
    stages = born_again(
        lambda: model_of(4), 3, epochs=2, compile=chains.compiled
    )
    chain = kd.schemes.Chain(teacher, stages, folder=tmp_path, seed=0)
    report = chains.fit(chain)
    assert [stage["teachers"] for stage in report] == [
        ["teacher"],
        ["generation_1"],
        ["generation_2"],
    ]
    for stage in report:
        # The paper's loss: the teacher's predictions alone.
        assert stage["history"]["hard_loss"] == [0.0, 0.0]
        assert stage["history"]["soft_targets_loss"][1] > 0
        assert stage["parameters"] == teacher.count_params()
    ensemble = kd.teachers.Ensemble([teacher, *chain.students])
    x, _ = samples()
    found = numpy(keras.ops.softmax(ensemble(x)))
    each = [
        numpy(keras.ops.softmax(model(x)))
        for model in [teacher, *chain.students]
    ]
    assert_close(found, np.mean(each, axis=0))
    kernels = [model.get_weights()[0] for model in chain.students]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    assert np.abs(kernels[1] - kernels[2]).max() > 0.1


@pytest.mark.one_backend
def test_generations_with_labels_and_other_transfers():
    stages = born_again(
        lambda: model_of(4),
        2,
        epochs=1,
        compile=chains.compiled,
        transfers=chains.hints,
        hard_weight=1.0,
        callbacks=lambda: [chains.LowerRate()],
    )
    assert len(stages) == 2
    assert stages[1].transfers is chains.hints
    assert stages[1].hard_weight == 1.0
    assert len(stages[1].callbacks()) == 1
    (plain,) = born_again(lambda: model_of(4), 1, epochs=1, compile=dict)
    (transfer,) = plain.transfers([model_of(4)])
    assert transfer.loss.temperature == 1.0 and float(transfer.weight) == 1.0
    with pytest.raises(ValueError, match="Received: generations=0"):
        born_again(lambda: model_of(4), 0, epochs=1, compile=dict)
