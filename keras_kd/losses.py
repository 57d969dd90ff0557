"""Losses that compare outputs or features of teacher and student."""

from keras_kd._src.losses.activation_boundaries import ActivationBoundaries
from keras_kd._src.losses.activation_boundaries import activation_boundaries
from keras_kd._src.losses.attention_maps import AttentionDivergence
from keras_kd._src.losses.attention_maps import AttentionMapMatching
from keras_kd._src.losses.attention_maps import attention_divergence
from keras_kd._src.losses.attention_maps import attention_map_matching
from keras_kd._src.losses.attention_relation import SelfAttentionRelation
from keras_kd._src.losses.attention_relation import self_attention_relation
from keras_kd._src.losses.attention_transfer import AttentionTransfer
from keras_kd._src.losses.attention_transfer import attention_map
from keras_kd._src.losses.attention_transfer import attention_transfer
from keras_kd._src.losses.binary_soft_targets import BinarySoftTargets
from keras_kd._src.losses.binary_soft_targets import binary_soft_targets
from keras_kd._src.losses.bounded_regression import BoundedRegression
from keras_kd._src.losses.bounded_regression import bounded_regression
from keras_kd._src.losses.channel_wise import ChannelWiseDistillation
from keras_kd._src.losses.channel_wise import channel_wise_distillation
from keras_kd._src.losses.chunked_logits import ChunkedLogits
from keras_kd._src.losses.collaborative_targets import CollaborativeTargets
from keras_kd._src.losses.contrastive_memory import ContrastiveMemory
from keras_kd._src.losses.contrastive_representation import (
    ContrastiveRepresentation,
)
from keras_kd._src.losses.contrastive_representation import (
    contrastive_representation,
)
from keras_kd._src.losses.correlation_congruence import CorrelationCongruence
from keras_kd._src.losses.correlation_congruence import correlation_congruence
from keras_kd._src.losses.decoupled_kd import DecoupledKD
from keras_kd._src.losses.decoupled_kd import decoupled_kd
from keras_kd._src.losses.dist import DIST
from keras_kd._src.losses.dist import dist
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import logits_of
from keras_kd._src.losses.factor_transfer import FactorTransfer
from keras_kd._src.losses.factor_transfer import factor_transfer
from keras_kd._src.losses.feature_matching import FeatureMatching
from keras_kd._src.losses.feature_matching import feature_matching
from keras_kd._src.losses.flow import FlowOfSolution
from keras_kd._src.losses.flow import flow_of_solution
from keras_kd._src.losses.hierarchical_context import HierarchicalContext
from keras_kd._src.losses.hierarchical_context import hierarchical_context
from keras_kd._src.losses.inter_channel_correlation import (
    InterChannelCorrelation,
)
from keras_kd._src.losses.inter_channel_correlation import (
    inter_channel_correlation,
)
from keras_kd._src.losses.kl_divergences import JensenShannon
from keras_kd._src.losses.kl_divergences import ReverseKL
from keras_kd._src.losses.kl_divergences import SkewKL
from keras_kd._src.losses.kl_divergences import SkewReverseKL
from keras_kd._src.losses.kl_divergences import jensen_shannon
from keras_kd._src.losses.kl_divergences import reverse_kl
from keras_kd._src.losses.kl_divergences import skew_kl
from keras_kd._src.losses.kl_divergences import skew_reverse_kl
from keras_kd._src.losses.likelihood_matching import LikelihoodMatching
from keras_kd._src.losses.likelihood_matching import chunk_log_likelihoods
from keras_kd._src.losses.likelihood_matching import likelihood_matching
from keras_kd._src.losses.logit_divergence import LogitDivergence
from keras_kd._src.losses.logit_matching import LogitMatching
from keras_kd._src.losses.logit_matching import logit_matching
from keras_kd._src.losses.margin_mixed_teacher import MarginMixedTeacher
from keras_kd._src.losses.margin_mixed_teacher import margin_mixed_teacher
from keras_kd._src.losses.margin_relu import MarginReLU
from keras_kd._src.losses.margin_relu import margin_of_batch_norm
from keras_kd._src.losses.margin_relu import margin_relu
from keras_kd._src.losses.neuron_selectivity import NeuronSelectivity
from keras_kd._src.losses.neuron_selectivity import neuron_selectivity
from keras_kd._src.losses.ordinal_soft_targets import OrdinalSoftTargets
from keras_kd._src.losses.ordinal_soft_targets import ordinal_soft_targets
from keras_kd._src.losses.past_predictions import PastPredictions
from keras_kd._src.losses.probabilistic_transfer import ProbabilisticTransfer
from keras_kd._src.losses.probabilistic_transfer import probabilistic_transfer
from keras_kd._src.losses.relational_angle import RelationalAngle
from keras_kd._src.losses.relational_angle import relational_angle
from keras_kd._src.losses.relational_distance import RelationalDistance
from keras_kd._src.losses.relational_distance import relational_distance
from keras_kd._src.losses.similarity_preserving import SimilarityPreserving
from keras_kd._src.losses.similarity_preserving import similarity_preserving
from keras_kd._src.losses.singular_vectors import SingularVectors
from keras_kd._src.losses.singular_vectors import singular_vectors
from keras_kd._src.losses.soft_targets import SoftTargets
from keras_kd._src.losses.soft_targets import soft_targets
from keras_kd._src.losses.srd import LogSumDistance
from keras_kd._src.losses.srd import log_sum_distance
from keras_kd._src.losses.streamlined_direction import StreamlinedDirection
from keras_kd._src.losses.streamlined_direction import streamlined_direction
from keras_kd._src.losses.target_enhancement import TargetEnhancement
from keras_kd._src.losses.target_enhancement import target_enhancement
from keras_kd._src.losses.tempered_loss import TemperedLoss
from keras_kd._src.losses.top_k_targets import TopKTargets
from keras_kd._src.losses.top_k_targets import keep_top_k
from keras_kd._src.losses.top_k_targets import top_k_targets
from keras_kd._src.losses.universal_logit import UniversalLogit
from keras_kd._src.losses.universal_logit import universal_logit
from keras_kd._src.losses.variational_information import VariationalInformation
from keras_kd._src.losses.variational_information import variational_information
from keras_kd._src.losses.virtual_teacher import VirtualTeacher
from keras_kd._src.losses.virtual_teacher import virtual_teacher

__all__ = [
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
]


def __dir__():
    return __all__
