"""Runtime of segmentation configs."""

_base_ = './default_runtime.py'

default_scope = 'mmseg'
visualizer = dict(
    type='mmseg.SegLocalVisualizer', vis_backends=_base_.vis_backends, name='visualizer', alpha=0.6
)
log_processor = dict(by_epoch=False)
tta_model = dict(type='SegTTAModel')
