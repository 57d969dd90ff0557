"""Losses: each compares a teacher view with a student view."""

from keras_kd.losses.activation_boundaries import (
    ActivationBoundaries as ActivationBoundaries,
)
from keras_kd.losses.activation_boundaries import (
    activation_boundaries as activation_boundaries,
)
from keras_kd.losses.attention_divergence import (
    AttentionDivergence as AttentionDivergence,
)
from keras_kd.losses.attention_divergence import (
    attention_divergence as attention_divergence,
)
from keras_kd.losses.attention_map_matching import (
    AttentionMapMatching as AttentionMapMatching,
)
from keras_kd.losses.attention_map_matching import (
    attention_map_matching as attention_map_matching,
)
from keras_kd.losses.attention_relation import (
    SelfAttentionRelation as SelfAttentionRelation,
)
from keras_kd.losses.attention_relation import (
    self_attention_relation as self_attention_relation,
)
from keras_kd.losses.attention_transfer import (
    AttentionTransfer as AttentionTransfer,
)
from keras_kd.losses.attention_transfer import attention_map as attention_map
from keras_kd.losses.attention_transfer import (
    attention_transfer as attention_transfer,
)
from keras_kd.losses.binary_soft_targets import (
    BinarySoftTargets as BinarySoftTargets,
)
from keras_kd.losses.binary_soft_targets import (
    binary_soft_targets as binary_soft_targets,
)
from keras_kd.losses.bounded_regression import (
    BoundedRegression as BoundedRegression,
)
from keras_kd.losses.bounded_regression import (
    bounded_regression as bounded_regression,
)
from keras_kd.losses.channel_wise import (
    ChannelWiseDistillation as ChannelWiseDistillation,
)
from keras_kd.losses.channel_wise import (
    channel_wise_distillation as channel_wise_distillation,
)
from keras_kd.losses.collaborative_targets import (
    CollaborativeTargets as CollaborativeTargets,
)
from keras_kd.losses.contrastive_memory import (
    ContrastiveMemory as ContrastiveMemory,
)
from keras_kd.losses.contrastive_memory import (
    contrastive_memory as contrastive_memory,
)
from keras_kd.losses.contrastive_representation import (
    ContrastiveRepresentation as ContrastiveRepresentation,
)
from keras_kd.losses.contrastive_representation import (
    contrastive_representation as contrastive_representation,
)
from keras_kd.losses.correlation_congruence import (
    CorrelationCongruence as CorrelationCongruence,
)
from keras_kd.losses.correlation_congruence import (
    correlation_congruence as correlation_congruence,
)
from keras_kd.losses.decoupled_kd import DecoupledKD as DecoupledKD
from keras_kd.losses.decoupled_kd import decoupled_kd as decoupled_kd
from keras_kd.losses.dist import DIST as DIST
from keras_kd.losses.dist import dist as dist
from keras_kd.losses.distillation_loss import (
    DistillationLoss as DistillationLoss,
)
from keras_kd.losses.factor_transfer import FactorTransfer as FactorTransfer
from keras_kd.losses.factor_transfer import factor_transfer as factor_transfer
from keras_kd.losses.feature_matching import FeatureMatching as FeatureMatching
from keras_kd.losses.feature_matching import (
    feature_matching as feature_matching,
)
from keras_kd.losses.flow import FlowOfSolution as FlowOfSolution
from keras_kd.losses.flow import flow_of_solution as flow_of_solution
from keras_kd.losses.hierarchical_context import (
    HierarchicalContext as HierarchicalContext,
)
from keras_kd.losses.hierarchical_context import (
    hierarchical_context as hierarchical_context,
)
from keras_kd.losses.inter_channel_correlation import (
    InterChannelCorrelation as InterChannelCorrelation,
)
from keras_kd.losses.inter_channel_correlation import (
    inter_channel_correlation as inter_channel_correlation,
)
from keras_kd.losses.jensen_shannon import JensenShannon as JensenShannon
from keras_kd.losses.jensen_shannon import jensen_shannon as jensen_shannon
from keras_kd.losses.logit_matching import LogitMatching as LogitMatching
from keras_kd.losses.logit_matching import logit_matching as logit_matching
from keras_kd.losses.margin_mixed_teacher import (
    MarginMixedTeacher as MarginMixedTeacher,
)
from keras_kd.losses.margin_mixed_teacher import (
    margin_mixed_teacher as margin_mixed_teacher,
)
from keras_kd.losses.margin_relu import MarginReLU as MarginReLU
from keras_kd.losses.margin_relu import (
    margin_of_batch_norm as margin_of_batch_norm,
)
from keras_kd.losses.margin_relu import margin_relu as margin_relu
from keras_kd.losses.neuron_selectivity import (
    NeuronSelectivity as NeuronSelectivity,
)
from keras_kd.losses.neuron_selectivity import (
    neuron_selectivity as neuron_selectivity,
)
from keras_kd.losses.ordinal_soft_targets import (
    OrdinalSoftTargets as OrdinalSoftTargets,
)
from keras_kd.losses.ordinal_soft_targets import (
    ordinal_soft_targets as ordinal_soft_targets,
)
from keras_kd.losses.past_predictions import PastPredictions as PastPredictions
from keras_kd.losses.probabilistic_transfer import (
    ProbabilisticTransfer as ProbabilisticTransfer,
)
from keras_kd.losses.probabilistic_transfer import (
    probabilistic_transfer as probabilistic_transfer,
)
from keras_kd.losses.relational_angle import RelationalAngle as RelationalAngle
from keras_kd.losses.relational_angle import (
    relational_angle as relational_angle,
)
from keras_kd.losses.relational_distance import (
    RelationalDistance as RelationalDistance,
)
from keras_kd.losses.relational_distance import (
    relational_distance as relational_distance,
)
from keras_kd.losses.reverse_kl import ReverseKL as ReverseKL
from keras_kd.losses.reverse_kl import reverse_kl as reverse_kl
from keras_kd.losses.similarity_preserving import (
    SimilarityPreserving as SimilarityPreserving,
)
from keras_kd.losses.similarity_preserving import (
    similarity_preserving as similarity_preserving,
)
from keras_kd.losses.singular_vectors import SingularVectors as SingularVectors
from keras_kd.losses.singular_vectors import (
    singular_vectors as singular_vectors,
)
from keras_kd.losses.skew_kl import SkewKL as SkewKL
from keras_kd.losses.skew_kl import SkewReverseKL as SkewReverseKL
from keras_kd.losses.skew_kl import skew_kl as skew_kl
from keras_kd.losses.skew_kl import skew_reverse_kl as skew_reverse_kl
from keras_kd.losses.soft_targets import SoftTargets as SoftTargets
from keras_kd.losses.soft_targets import logits_of as logits_of
from keras_kd.losses.soft_targets import soft_targets as soft_targets
from keras_kd.losses.soft_targets import standardized as standardized
from keras_kd.losses.srd import LogSumDistance as LogSumDistance
from keras_kd.losses.srd import log_sum_distance as log_sum_distance
from keras_kd.losses.streamlined_direction import (
    StreamlinedDirection as StreamlinedDirection,
)
from keras_kd.losses.streamlined_direction import (
    streamlined_direction as streamlined_direction,
)
from keras_kd.losses.target_enhancement import (
    TargetEnhancement as TargetEnhancement,
)
from keras_kd.losses.target_enhancement import (
    target_enhancement as target_enhancement,
)
from keras_kd.losses.tempered_loss import TemperedLoss as TemperedLoss
from keras_kd.losses.top_k_targets import TopKTargets as TopKTargets
from keras_kd.losses.top_k_targets import keep_top_k as keep_top_k
from keras_kd.losses.top_k_targets import top_k_targets as top_k_targets
from keras_kd.losses.variational_information import (
    VariationalInformation as VariationalInformation,
)
from keras_kd.losses.variational_information import (
    variational_information as variational_information,
)
from keras_kd.losses.virtual_teacher import VirtualTeacher as VirtualTeacher
from keras_kd.losses.virtual_teacher import virtual_teacher as virtual_teacher
from keras_kd.losses.vocabulary_chunks import (
    chunked_soft_targets as chunked_soft_targets,
)
