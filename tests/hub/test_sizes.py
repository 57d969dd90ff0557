"""KerasHub's models, as they are: sizes come from the data."""

import pytest
from support import cross_entropy

keras_hub = pytest.importorskip("keras_hub")

import hub_models  # noqa: E402


# KerasHub makes a grain dataset of texts, of which Keras says this.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
def test_the_models_fit_by_themselves():
    x, y = hub_models.bert_inputs(), hub_models.texts()[1]
    model = hub_models.bert()
    model.compile("sgd", cross_entropy())
    model.fit(x, y, batch_size=4, verbose=0)
    texts, y = hub_models.texts()
    model = hub_models.bert(preprocessor=hub_models.bert_preprocessor())
    model.compile("sgd", cross_entropy())
    model.fit(texts, y, batch_size=4, verbose=0)
    for model in (hub_models.gpt2(), hub_models.llama()):
        x, y, weight = hub_models.causal_lm_batch()
        model.compile("sgd", cross_entropy())
        model.fit(x, y, sample_weight=weight, batch_size=4, verbose=0)
