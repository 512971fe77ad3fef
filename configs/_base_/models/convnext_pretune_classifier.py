"""Classifier that pre-tunes a top-down module on a ConvNeXt (paper sec. A.2)."""

_base_ = './convnext_classifier.py'

model = dict(type='toast_mm.PretuneClassifier', variational_weight=0.03, both_passes=False)
