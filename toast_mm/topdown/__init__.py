"""The method: torch only, without any mm package and without any backbone."""

from .feedback import LinearFeedback
from .route import FeedbackRoute
from .selection import FeatureSelection
from .topdown import TopDown

__all__ = ['FeatureSelection', 'FeedbackRoute', 'LinearFeedback', 'TopDown']
