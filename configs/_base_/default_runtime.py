"""Runtime of all configs of this project."""

custom_imports = dict(imports=['toast_mm'], allow_failed_imports=False)
runner_type = 'toast_mm.Runner'
randomness = dict(seed=0)

custom_hooks = [
    dict(type='toast_mm.StepSeedHook'),
    dict(type='toast_mm.DataCheckHook'),
    dict(type='toast_mm.MetricModelHook'),
    dict(type='toast_mm.SteeringHealthHook', interval=500),
]

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
log_level = 'INFO'
load_from = None
resume = False
