"""Runtime of classification configs."""

_base_ = './default_runtime.py'

default_scope = 'mmpretrain'
visualizer = dict(type='mmpretrain.UniversalVisualizer', vis_backends=_base_.vis_backends)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='toast_mm.CheckpointHook', interval=1, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='toast_mm.VisualizationHook'),
)
