"""Pre-tuning on ImageNet-1k: ViT-L/16 of ImageNet-21k, feedback from the last layer.

bash tools/dist_train.sh configs/pretune/toast-last_vit-l16-in21k_8xb64-30e_in1k.py 8
"""

_base_ = [
    '../_base_/models/toast-vit-l16-in21k.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/pretune_30e.py',
    '../_base_/pretune_runtime.py',
]

model = dict(
    type='toast_mm.PretuneClassifier',
    variational_weight=0.03,  # paper sec. A.2
    both_passes=False,
    head=dict(
        _delete_=True,
        type='VisionTransformerClsHead',
        num_classes=1000,
        in_channels=1024,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
data_preprocessor = _base_.model.data_preprocessor  # mmengine.hub reads it here
