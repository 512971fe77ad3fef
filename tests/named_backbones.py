"""Models of timm by name, with random weights and few layers, in classifier and segmentor."""

from types import SimpleNamespace

import pytest
import timm
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from toast_mm.engine import TaskFileHook
from toast_mm.models import TOASTTimm

FEW, FEW_STAGES = dict(depth=2), dict(depths=(1, 1, 1, 1))
TOKENS = {  # name in timm, and sides of images of 2 x 2 patches
    'ViT': ('vit_tiny_patch16_224.augreg_in21k', 32),
    'DeiT III': ('deit3_small_patch16_224.fb_in1k', 32),
    'MAE': ('vit_base_patch16_224.mae', 32),
    'CLIP': ('vit_base_patch32_clip_224.openai', 64),
    'SigLIP 2': ('vit_base_patch32_siglip_256.v2_webli', 64),
    'DINOv2': ('vit_small_patch14_dinov2.lvd142m', 28),
    'DINOv2 with registers': ('vit_small_patch14_reg4_dinov2.lvd142m', 28),
    'DINOv3': ('vit_small_patch16_dinov3.lvd1689m', 32),
    'EVA-02': ('eva02_tiny_patch14_224.mim_in22k', 28),
    'Perception Encoder': ('vit_pe_core_tiny_patch16_384.fb', 32),
}
STAGES = {  # name in timm, and arguments
    'ConvNeXt': ('convnext_atto.d2_in1k', FEW_STAGES),
    'ConvNeXt v2': ('convnextv2_atto.fcmae', FEW_STAGES),
    'ConvNeXt of DINOv3': ('convnext_tiny.dinov3_lvd1689m', FEW_STAGES),
    'Swin': ('swin_tiny_patch4_window7_224.ms_in1k', FEW_STAGES),
    'Swin v2': ('swinv2_tiny_window8_256.ms_in1k', FEW_STAGES),
    'ResNet': ('resnet14t.c3_in1k', {}),
    'RegNet': ('regnetx_002.pycls_in1k', {}),
    'EfficientNet': ('efficientnet_b0.ra_in1k', {}),
    'MobileNet': ('mobilenetv3_small_050.lamb_in1k', {}),
}
HAVE_MLP = ('ConvNeXt', 'ConvNeXt v2', 'ConvNeXt of DINOv3', 'Swin', 'Swin v2')
PLAIN = dict(feedback_from=None)
METHODS = {
    'toast': {},
    'toast-early': dict(feedback_from='middle'),
    'toast-late': dict(feedback_to='middle'),
    'lite': dict(lite=dict(rank=2)),
    'toast-lora': dict(tuning=dict(type='toast_mm.LoRA', rank=2)),
    'inca': PLAIN,
    **{
        name: dict(PLAIN, tuning=dict(tuning, type=f'toast_mm.{name}'))
        for name, tuning in {
            'LoRA': dict(rank=2),
            'BitFit': {},
            'Partial': {},
            'SSF': {},
            'AdaptFormer': dict(bottleneck=8),
            'VPT': dict(num_prompts=2),
        }.items()
    },
    'peft': dict(
        PLAIN,
        tuning=dict(type='toast_mm.PEFT', config=dict(peft_type='LORA', r=2, use_dora=True)),
    ),
}
slow = pytest.mark.slow
methods = pytest.mark.parametrize(
    'method', [name if name == 'toast' else pytest.param(name, marks=slow) for name in METHODS]
)


def all_of(models, fast):
    """Parameters; those that are not fast are marked as slow."""
    return [name if name in fast else pytest.param(name, marks=slow) for name in models]


class Base:
    """A model of timm with random weights, all of which matter, and a file of them."""

    def __init__(self, name, folder):
        self.model_name, self.size = TOKENS.get(name, (STAGES.get(name, ' ')[0], 64))
        self.settings = STAGES[name][1] if name in STAGES else FEW
        self.images = torch.rand(
            2, 3, self.size, self.size, generator=torch.Generator().manual_seed(1)
        )
        source = timm.create_model(self.model_name, num_classes=3, **self.settings)
        generator = torch.Generator().manual_seed(0)
        for key, parameter in source.named_parameters():
            scale = parameter.ndim == 1 and key.endswith(('weight', 'gamma'))
            std = 0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
            values = std * torch.randn(parameter.shape, generator=generator)
            parameter.data = values + float(scale)
        self.file = str(folder / 'base.pth')
        torch.save(source.state_dict(), self.file)
        self.unfit = set()  # methods
        if name in STAGES:
            self.unfit = {'VPT'} if name in HAVE_MLP else {'VPT', 'AdaptFormer'}
            self.pooled, self.raw = 'avg_featmap', 'featmap'
        else:
            self.pooled = 'avg_featmap' if source.cls_token is None else 'cls_token'
            self.raw = 'raw'
        with torch.no_grad():
            self.width = TOASTTimm(**self.config('toast', self.pooled))(self.images)[0].shape[1]
            maps = TOASTTimm(**self.config('toast', 'featmap', (-2, -1)))(self.images)
        self.channels = [feature_map.shape[1] for feature_map in maps]

    def config(self, method, out_type, out_indices=-1):
        return dict(
            model_name=self.model_name,
            out_type=out_type,
            out_indices=out_indices,
            init_cfg=dict(type='Pretrained', checkpoint=self.file),
            **self.settings,
            **METHODS[method],
        )

    def classifier(self, method):
        """One that is built, but has no weights yet."""
        if method == 'inca':
            backbone = self.config(method, self.raw, (-2, -1))
            adapter = dict(embed_dims=8, num_heads=2)
            head = dict(type='toast_mm.InCAHead', in_channels=self.channels, num_layers=2)
            head['adapter'] = adapter
        else:
            backbone = self.config(method, self.pooled)
            head = dict(type='LinearClsHead', in_channels=self.width)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return MODELS.build(
                dict(
                    type='ImageClassifier',
                    backbone=dict(backbone, type='toast_mm.TOASTTimm'),
                    head=dict(head, num_classes=3),
                )
            )

    def segmentor(self, method):
        backbone = self.config(method, 'featmap', (-2, -1))
        head = dict(in_channels=self.channels, in_index=(0, 1), channels=8, num_classes=3)
        if method == 'inca':
            head |= dict(type='toast_mm.InCADecodeHead', num_heads=2)
        else:
            norm = dict(type='BN')
            head |= dict(type='UPerHead', pool_scales=(1, 2), norm_cfg=norm, align_corners=False)
        with DefaultScope.overwrite_default_scope('mmseg'):
            return MODELS.build(
                dict(
                    type='EncoderDecoder',
                    backbone=dict(backbone, type='toast_mm.TOASTTimm'),
                    decode_head=head,
                    train_cfg={},
                    test_cfg=dict(mode='whole'),
                )
            )

    def labels(self, model):
        if not hasattr(model, 'decode_head'):
            return [DataSample().set_gt_label(label) for label in (0, 2)]
        masks = (3 * self.images.mean(1, keepdim=True)).long()
        return [SegDataSample(gt_sem_seg=PixelData(data=mask)) for mask in masks]

    def train(self, model):
        """Three steps; the base stays as it is in the file, statistics included."""
        model.train()
        tuned = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
        frozen = {n: t.clone() for n, t in model.backbone.state_dict().items()}
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        for _ in range(3):
            losses = model(self.images, self.labels(model), mode='loss')
            total = sum(value.mean() for name, value in losses.items() if 'loss' in name)
            assert total.isfinite()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        unchanged = {n for n, p in model.named_parameters() if torch.equal(p, tuned.get(n, p))}
        assert len(unchanged & tuned.keys()) <= 0.1 * len(tuned)  # some biases have no gradient
        for name, tensor in model.backbone.state_dict().items():
            assert f'backbone.{name}' in tuned or torch.equal(tensor, frozen[name]), name
        return model


def check(base, build, method, path):
    """Train a model, write its task file, and reload it: the outputs are equal bit for bit."""
    if method in base.unfit:
        with pytest.raises(ValueError, match=r'VPT adds tokens, but|AdaptFormer extends'):
            build(method)
        return
    torch.manual_seed(2)
    model = build(method)
    model.init_weights()
    if model.backbone.topdown is not None:
        with torch.no_grad(), model.backbone.recording() as record:
            model.backbone(base.images)
        model.backbone.topdown.selection.task_embedding.data = record.z.flatten(0, -2).mean(0)
    hook, runner = TaskFileHook(), SimpleNamespace(model=model)
    hook.before_train(runner)
    start = outputs(model, base.images)
    base.train(model)
    expected = outputs(model, base.images)
    assert not torch.allclose(start, expected)
    content = dict(state_dict=model.state_dict(), meta={})
    hook.before_save_checkpoint(runner, content)
    alone = model.backbone.left_alone - set(model.backbone.resized_parameters)
    assert alone and not {f'backbone.{name}' for name in alone} & content['state_dict'].keys()
    torch.save(content, path)
    other = build(method)
    load_checkpoint(other, str(path), strict=True)
    assert torch.equal(outputs(other, base.images), expected)


@torch.no_grad()
def outputs(model, images):
    return model.eval()(images, mode='tensor')
