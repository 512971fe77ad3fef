"""Pre-tuning on ImageNet-1k for segmentation: feedback from the middle layer (paper table 6).

bash tools/dist_train.sh configs/pretune/toast-early_vit-b16-in21k_8xb64-30e_in1k.py 8
"""

_base_ = './toast-last_vit-b16-in21k_8xb64-30e_in1k.py'

model = dict(backbone=dict(feedback_from='middle'))
