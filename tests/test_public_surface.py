"""The whole public surface, so that a change of it is a decision.

What is listed here keeps its name and its meaning from one version to the
next. All else is in `keras_kd._src`, and may change at any time.
"""

import ast
import importlib
import pathlib
import pkgutil

import pytest
from support import assert_none

import keras_kd

pytestmark = pytest.mark.one_backend
ROOT = pathlib.Path(keras_kd.__file__).parent

SURFACE = {
    "keras_kd": [
        "ComparisonReport",
        "Distiller",
        "ExportReport",
        "SelfDistiller",
        "Tap",
        "Transfer",
        "Way",
        "cache",
        "callbacks",
        "compare",
        "data_free",
        "diagnosis",
        "distribution",
        "export",
        "extract_features",
        "find_layer",
        "layers",
        "losses",
        "metrics",
        "quantization",
        "rules",
        "schedules",
        "schemes",
        "students",
        "teachers",
        "testing",
        "text",
    ],
    "keras_kd.cache": [
        "AugmentedViews",
        "Choice",
        "Dense",
        "Int8",
        "Plan",
        "TeacherCache",
        "TopK",
        "merge",
        "open",
        "plan",
        "verify",
        "write",
    ],
    "keras_kd.callbacks": [
        "EpochBackup",
        "TemperatureAnnealing",
        "WeightAnnealing",
    ],
    "keras_kd.data_free": [
        "BatchNormMatching",
        "ClassBalance",
        "ClassCertainty",
        "Comparison",
        "ComparisonRow",
        "DataFreeDistiller",
        "Disagreement",
        "FeatureActivation",
        "LatentDiversity",
        "LatentReconstruction",
        "SamplePictures",
        "SquaredNorm",
        "SynthesisLoss",
        "SyntheticBatch",
        "TargetClasses",
        "TotalVariation",
        "boundary_samples",
        "compare",
        "dafl",
        "dfad",
        "image_generator",
        "impressions",
        "invert",
        "kegnet",
        "noise",
        "sample_sheet",
        "zskt",
    ],
    "keras_kd.diagnosis": [
        "Diagnosis",
        "Finding",
    ],
    "keras_kd.distribution": ["initialize"],
    "keras_kd.layers": [
        "AttentionAdapter",
        "FeatureAdapter",
        "MaskedGeneration",
        "MemoryBank",
        "Paraphraser",
        "PredictionBank",
        "ReviewFusion",
        "Translator",
        "VariationalRegressor",
    ],
    "keras_kd.losses": [
        "ActivationBoundaries",
        "AttentionDivergence",
        "AttentionMapMatching",
        "AttentionTransfer",
        "BinarySoftTargets",
        "BoundedRegression",
        "ChannelWiseDistillation",
        "ChunkedLogits",
        "CollaborativeTargets",
        "ContrastiveMemory",
        "ContrastiveRepresentation",
        "CorrelationCongruence",
        "DIST",
        "DecoupledKD",
        "DistillationLoss",
        "FactorTransfer",
        "FeatureMatching",
        "FlowOfSolution",
        "HierarchicalContext",
        "InterChannelCorrelation",
        "JensenShannon",
        "LikelihoodMatching",
        "LogSumDistance",
        "LogitDivergence",
        "LogitMatching",
        "MarginMixedTeacher",
        "MarginReLU",
        "NeuronSelectivity",
        "OrdinalSoftTargets",
        "PastPredictions",
        "ProbabilisticTransfer",
        "RelationalAngle",
        "RelationalDistance",
        "ReverseKL",
        "SelfAttentionRelation",
        "SimilarityPreserving",
        "SingularVectors",
        "SkewKL",
        "SkewReverseKL",
        "SoftTargets",
        "StreamlinedDirection",
        "TargetEnhancement",
        "TemperedLoss",
        "TopKTargets",
        "UniversalLogit",
        "VariationalInformation",
        "VirtualTeacher",
        "activation_boundaries",
        "attention_divergence",
        "attention_map",
        "attention_map_matching",
        "attention_transfer",
        "binary_soft_targets",
        "bounded_regression",
        "channel_wise_distillation",
        "chunk_log_likelihoods",
        "contrastive_representation",
        "correlation_congruence",
        "decoupled_kd",
        "dist",
        "factor_transfer",
        "feature_matching",
        "flow_of_solution",
        "hierarchical_context",
        "inter_channel_correlation",
        "jensen_shannon",
        "keep_top_k",
        "likelihood_matching",
        "log_sum_distance",
        "logit_matching",
        "logits_of",
        "margin_mixed_teacher",
        "margin_of_batch_norm",
        "margin_relu",
        "neuron_selectivity",
        "ordinal_soft_targets",
        "probabilistic_transfer",
        "relational_angle",
        "relational_distance",
        "reverse_kl",
        "self_attention_relation",
        "similarity_preserving",
        "singular_vectors",
        "skew_kl",
        "skew_reverse_kl",
        "soft_targets",
        "streamlined_direction",
        "target_enhancement",
        "top_k_targets",
        "universal_logit",
        "variational_information",
        "virtual_teacher",
    ],
    "keras_kd.metrics": [
        "Perplexity",
        "TeacherAgreement",
        "TeacherDivergence",
        "TeacherMetric",
    ],
    "keras_kd.quantization": ["QuantizationAwareModel"],
    "keras_kd.quickstart": ["main"],
    "keras_kd.rules": [
        "Audit",
        "ClipTail",
        "DropAtRandom",
        "DropUnsure",
        "DropUnusual",
        "DropWrong",
        "EasiestFirst",
        "LearnedTemperature",
        "LiftTrueClass",
        "ProbabilityShift",
        "Rule",
        "RuleInputs",
        "TemperatureByEntropy",
        "Touched",
        "WeighByAgreement",
        "WeighByDifficulty",
        "WeighByEntropy",
        "WeighByLoss",
        "apply_rules",
        "audit",
    ],
    "keras_kd.schedules": [
        "Annealing",
    ],
    "keras_kd.schemes": [
        "Chain",
        "Stage",
        "be_your_own_teacher",
        "born_again",
        "causal_lm",
        "collaborative_learning",
        "densely_guided",
        "layer_map",
        "mutual_learning",
        "native_ensemble",
    ],
    "keras_kd.students": [
        "Exits",
        "gated_branches",
        "peers",
        "shrink",
        "with_teacher_head",
    ],
    "keras_kd.teachers": [
        "Ensemble",
        "FunctionTeacher",
        "JaxFunction",
        "Member",
        "MovingAverage",
        "OnnxModel",
        "Teacher",
        "TeacherBySample",
        "TorchModule",
        "confidence_weights",
        "entropy_weights",
        "fingerprint",
        "mean_of_probabilities",
    ],
    "keras_kd.testing": [
        "LossCase",
        "assert_close",
        "check_loss",
        "checks_of",
        "compiled",
        "finite_differences",
        "value_and_gradient",
    ],
    "keras_kd.text": [
        "GeneratedTexts",
        "OffsetTokenizer",
        "PairedTexts",
        "align",
        "check_same_ids",
        "generate_responses",
    ],
}
MODULES = {name: importlib.import_module(name) for name in SURFACE}


def difference(found, listed):
    """A line for each name that is new, and for each that is gone."""
    new = [f"+ {name}" for name in sorted(set(found) - set(listed))]
    gone = [f"- {name}" for name in sorted(set(listed) - set(found))]
    return new + gone


def test_public_modules_are_those_listed():
    found = {
        f"keras_kd.{module.name}"
        for module in pkgutil.iter_modules(keras_kd.__path__)
        if not module.name.startswith("_")
    }
    assert_none(difference({"keras_kd", *found}, SURFACE))


@pytest.mark.parametrize("module", SURFACE)
def test_public_names_are_those_listed(module):
    assert_none(difference(MODULES[module].__all__, SURFACE[module]))


@pytest.mark.parametrize("module", SURFACE)
def test_what_is_seen_of_a_module_is_public(module):
    """Tab completion, and each listed name is there."""
    names = MODULES[module].__all__
    assert dir(MODULES[module]) == sorted(names)
    assert len(set(names)) == len(names)
    for name in names:
        getattr(MODULES[module], name)


@pytest.mark.parametrize("module", SURFACE)
def test_public_modules_hold_imports_only(module):
    tree = ast.parse(pathlib.Path(MODULES[module].__file__).read_text())
    assert ast.get_docstring(tree)
    others = [
        ast.unparse(node) for node in tree.body[1:] if not is_of_a_face(node)
    ]
    assert_none(others)


def is_of_a_face(node):
    """An import, `__all__`, `__version__`, `__dir__`, or what `-m` runs."""
    if ast.unparse(node) == "if __name__ == '__main__':\n    main()":
        return True
    if isinstance(node, ast.Assign):
        names = {ast.unparse(target) for target in node.targets}
        return names <= {"__all__", "__version__"}
    if isinstance(node, ast.FunctionDef):
        return node.name == "__dir__"
    return isinstance(node, ast.ImportFrom) and node.module.startswith(
        "keras_kd"
    )


def test_packages_below_have_no_names_of_their_own():
    """One way leads to each thing: the modules above."""
    others = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "_src").rglob("__init__.py")
        if len(ast.parse(path.read_text()).body) > 1
    ]
    assert_none(others)
