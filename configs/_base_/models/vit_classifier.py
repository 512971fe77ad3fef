"""Classifier on the class token of a ViT.

A job adds the backbone, its width, the preprocessing and the number of classes.
"""

model = dict(
    type='ImageClassifier',
    _scope_='mmpretrain',  # for mmengine.hub, which builds the model without the job's scope
    data_preprocessor=dict(type='ClsDataPreprocessor', to_rgb=True),
    head=dict(
        type='VisionTransformerClsHead',
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
