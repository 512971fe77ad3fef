"""A cache that a disk, a kill or a copy damaged is repaired before it is used."""

import json
import os

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from test_first_pass_cache_images import ToyScenes  # noqa: F401  registers it

from toast_mm.models import TOASTViT

NUMBER = 4


class Losses(Hook):
    def __init__(self) -> None:
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.values.append(outputs['loss'].item())


@pytest.fixture
def train(steered_config, run, tmp_path, monkeypatch):
    """Train on the cache of four images: the losses, and how many first passes were computed."""
    plain, computed = TOASTViT.run_first_pass, []

    def counted(self, image):
        computed.extend(image)
        return plain(self, image)

    monkeypatch.setattr(TOASTViT, 'run_first_pass', counted)

    def train():
        computed.clear()
        cfg = steered_config(tmp_path / 'work', train_cfg__max_iters=2)
        cfg.train_dataloader.dataset = ConfigDict(
            type='toast_mm.ToyScenesOfClasses', pipeline=[dict(type='mmpretrain.PackInputs')]
        )
        cfg.model.backbone.img_size = 24
        cfg.first_pass_cache = dict(folder=str(tmp_path / 'cache'), dtype='float32')
        losses = Losses()
        run(cfg, losses)
        return losses.values, len(computed)

    return train


def whole(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def cut(folder):
    path = folder / '3.npy'
    os.truncate(path, path.stat().st_size - 300)  # a record has 10 * 16 * 4 bytes


def cut_to_nothing(folder):
    os.truncate(folder / 'image.npy', 0)


def zeroed(folder):
    array = np.load(folder / '3.npy', mmap_mode='r+')
    array[1:3] = 0
    array.flush()


def one_bit(folder):
    array = np.load(folder / 'image.npy', mmap_mode='r+')
    array[2, 0, 5, 7] ^= 4
    array.flush()


def header(folder):
    """Damage the header of the array, which is never read."""
    with open(folder / '3.npy', 'r+b') as file:
        file.write(b'x' * 64)


def meta_cut(folder):
    os.truncate(folder / 'meta.json', 100)


def meta_is_a_folder(folder):
    (folder / 'meta.json').unlink()
    (folder / 'meta.json').mkdir()


def meta_changed(folder):
    content = json.loads((folder / 'meta.json').read_text())
    content['sizes'] = {block: [1, 1] for block in content['sizes']}
    (folder / 'meta.json').write_text(json.dumps(content))


def missing(folder):
    (folder / '3.npy').unlink()


@pytest.mark.parametrize(
    ('damage', 'computed'),
    [
        (cut, 1),
        (cut_to_nothing, NUMBER),
        (zeroed, 2),
        (one_bit, 1),
        (header, 0),
        (meta_cut, NUMBER),
        (meta_is_a_folder, NUMBER),
        (meta_changed, NUMBER),
        (missing, NUMBER),
    ],
)
def test_what_is_damaged_is_computed_again(train, tmp_path, capsys, damage, computed):
    expected, first = train()
    (folder,) = (path for path in (tmp_path / 'cache').iterdir() if path.is_dir())
    files = whole(folder)
    assert first == NUMBER and files.keys() == {'3.npy', 'image.npy', 'meta.json'}
    damage(folder)
    assert whole(folder) != files
    capsys.readouterr()
    losses, again = train()
    assert again == computed
    assert losses == pytest.approx(expected, rel=1e-5)
    said = capsys.readouterr().out
    assert f'{computed} of 4 records in {folder} are damaged' in said or (
        f'{folder} is damaged and is computed again' in said
        if computed
        else 'are damaged' not in said
    )
    assert train() == (losses, 0)
    if damage is not header:
        tokens = torch.from_numpy(np.load(folder / '3.npy'))
        original = np.frombuffer(files['3.npy'][128:], np.float32).reshape(tokens.shape)
        torch.testing.assert_close(tokens, torch.from_numpy(original.copy()))
        assert (folder / 'image.npy').read_bytes()[128:] == files['image.npy'][128:]
