"""FGVC on ViT-g/14 (DINOv2): TOAST, feedback from the last layer, weights sharded over 8 GPUs.

Experimental: nobody has run it on GPUs. bash tools/dist_train.sh \
    configs/fgvc/toast-last_vit-g14-dinov2_8xb4-100e_fgvc-224x224.py 8
"""

_base_ = './toast-last_vit-b14-dinov2_1xb32-100e_fgvc-224x224.py'

_name = 'vit_giant_patch14_reg4_dinov2.lvd142m'
model = dict(
    data_preprocessor=dict(model_name=_name),
    backbone=dict(model_name=_name),
    head=dict(in_channels=1536),
)
model_wrapper_cfg = dict(type='toast_mm.FullyShardedDataParallel')
optim_wrapper = dict(type='toast_mm.BFloat16OptimWrapper')
task_files = True
train_dataloader = dict(batch_size=4)
