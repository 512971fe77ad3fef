"""ADE20K: UPerNet on a frozen ViT-B/16 steered from its middle layer (paper table 6).

bash tools/dist_train.sh configs/ade20k_toast_upernet.py 8
"""

_base_ = './ade20k/toast-vit-b16_upernet_8xb2-160k_ade20k-512x512.py'
