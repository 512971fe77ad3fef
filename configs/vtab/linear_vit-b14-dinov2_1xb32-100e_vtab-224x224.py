"""VTAB-1k on ViT-B/14 (DINOv2): linear probe."""

_base_ = './toast-last_vit-b14-dinov2_1xb32-100e_vtab-224x224.py'

model = dict(backbone=dict(feedback_from=None))
search = dict(lr=[50.0, 25.0, 10.0, 5.0, 2.5, 1.0, 0.5, 0.25, 0.1, 0.05])
