"""Pre-tuning on ImageNet-1k: ConvNeXt-B of ImageNet-1k, feedback from the last layer.

bash tools/dist_train.sh configs/pretune/toast-last_convnext-b-in1k_8xb64-30e_in1k.py 8
"""

_base_ = [
    '../_base_/models/toast-convnext-b-in1k.py',
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
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1024,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
data_preprocessor = _base_.model.data_preprocessor  # mmengine.hub reads it here
