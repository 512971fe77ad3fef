from .pretune import PretuneClassifier

__all__ = ['PretuneClassifier']
