from .attention_hook import AttentionHook
from .best_layer_hook import BestLayerHook
from .channels_last_hook import ChannelsLastHook
from .checkpoint_hook import CheckpointHook
from .compile_hook import CompileHook
from .data_check_hook import DataCheckHook
from .early_stopping_hook import EarlyStoppingHook
from .evaluation_precision_hook import EvaluationPrecisionHook
from .finite_check_hook import FiniteCheckHook, NotFiniteError
from .first_pass_cache_hook import FirstPassCacheHook
from .mean_token_init_hook import MeanTokenInitHook
from .metric_model_hook import MetricModelHook
from .preemption_hook import Preempted, PreemptionHook
from .pretuned_hook import PretunedHook
from .resume_hook import ResumeHook
from .skip_bad_files_hook import SkipBadFilesHook
from .steering_health_hook import SteeringHealthHook
from .step_seed_hook import StepSeedHook
from .task_file_hook import TaskFileHook
from .tuned_parameters_hook import TunedParametersHook
from .visualization_hook import SegVisualizationHook, VisualizationHook
from .write_check_hook import WriteCheckHook

__all__ = [
    'AttentionHook',
    'BestLayerHook',
    'ChannelsLastHook',
    'CheckpointHook',
    'CompileHook',
    'DataCheckHook',
    'EarlyStoppingHook',
    'EvaluationPrecisionHook',
    'FiniteCheckHook',
    'FirstPassCacheHook',
    'MeanTokenInitHook',
    'MetricModelHook',
    'NotFiniteError',
    'Preempted',
    'PreemptionHook',
    'PretunedHook',
    'ResumeHook',
    'SegVisualizationHook',
    'SkipBadFilesHook',
    'SteeringHealthHook',
    'StepSeedHook',
    'TaskFileHook',
    'TunedParametersHook',
    'VisualizationHook',
    'WriteCheckHook',
]
