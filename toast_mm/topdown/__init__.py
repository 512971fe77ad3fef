"""The method: torch only, without any mm package and without any backbone."""

from .feedback import PUBLISHED_GAIN, DeconvFeedback, FeedbackPath, LinearFeedback
from .losses import variational_loss
from .route import FeedbackRoute
from .selection import FeatureSelection
from .topdown import TopDown

__all__ = [
    'PUBLISHED_GAIN',
    'DeconvFeedback',
    'FeatureSelection',
    'FeedbackPath',
    'FeedbackRoute',
    'LinearFeedback',
    'TopDown',
    'variational_loss',
]
