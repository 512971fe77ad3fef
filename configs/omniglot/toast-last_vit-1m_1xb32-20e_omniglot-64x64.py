"""The protocol of VTAB-1k on a small scale: characters of Omniglot on the small ViT.

python tools/dataset_converters/split_folders.py data/omniglot_small1 work_dirs/lists/omniglot \
    --train 800 --val 200
python tools/vtab.py configs/omniglot/toast-last_vit-1m_1xb32-20e_omniglot-64x64.py \
    --data-root work_dirs/lists --tasks omniglot --cfg-options first_pass_cache=True
"""

_base_ = [
    '../_base_/models/toast-vit-1m-tinyin100.py',
    '../_base_/datasets/omniglot_64x64.py',
    '../_base_/schedules/small_20e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    backbone=dict(pretuned='toast_mm://vit-1m_tinyin100_toast-last.safetensors'),
    head=dict(num_classes=_base_.num_classes),
)
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
