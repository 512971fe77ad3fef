"""Full disk: the error names the file, and no incomplete file remains."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.hooks import Hook

from toast_mm.engine import Runner
from toast_mm.files import WriteError


class Draw(Hook):
    """Draws a picture, as mmseg's hook does."""

    def before_train(self, runner) -> None:
        runner.visualizer.add_image('scene', np.full((4, 4, 3), 255, np.uint8), step=3)


@pytest.mark.parametrize(
    ('name', 'task'),
    [
        ('scalars.json', 'train'),  # LocalVisBackend
        ('config.py', 'train'),
        ('2*.py', 'train'),  # the config in the work_dir; there is none of a name
        ('tuned_parameters*', 'train'),
        ('scene_3.png', 'train'),
        ('2*.log', 'train'),
        ('2*.json', 'test'),  # metrics of LoggerHook
    ],
)
def test_what_mmengine_writes(toy_config, toy_weights, full_disk, tmp_path, name, task):
    cfg = toy_config(tmp_path, default_hooks__logger=dict(type='LoggerHook', interval=1))
    full_disk(name)
    with pytest.raises(WriteError) as info:
        runner = Runner.from_cfg(cfg)
        runner.register_hook(Draw())
        runner.load_or_resume = lambda: None
        getattr(runner, task)()
    path, sentence = str(info.value).split(' cannot be written: ')
    assert Path(path).match(name) and Path(path).is_relative_to(tmp_path)
    assert 'No space left on device' in sentence
    assert not list(tmp_path.rglob('*partial*'))
    grows = name in ('scalars.json', '2*.log')  # by lines, of which the last is cut
    assert [p for p in tmp_path.rglob(name) if p.is_file()] == [Path(path)] * grows


def test_pictures_are_as_mmengine_writes_them(toy_config, tmp_path):
    import cv2

    runner = Runner.from_cfg(toy_config(tmp_path))
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    runner.visualizer.add_image('scene', image, step=3)
    (path,) = tmp_path.rglob('vis_data/vis_image/scene_3.png')
    assert (cv2.imread(str(path))[..., ::-1] == image).all()


class TestConfigInTheWorkDir:
    def config(self, toy_config, folder, filename):
        cfg = toy_config(folder)
        object.__setattr__(cfg, '_filename', str(filename))
        return cfg

    @pytest.mark.parametrize('link', [False, True])
    def test_the_one_that_is_read_stays(self, toy_config, tmp_path, link):
        source = tmp_path / 'job.py'
        source.write_text('# my notes')
        if link:
            source = tmp_path / 'other' / 'job.py'
            source.parent.mkdir()
            source.symlink_to(tmp_path / 'job.py')
        Runner.from_cfg(self.config(toy_config, tmp_path, source))
        assert (tmp_path / 'job.py').read_text() == '# my notes'

    def test_that_of_a_former_run_is_replaced(self, toy_config, tmp_path):
        source = tmp_path / 'configs' / 'job.py'
        source.parent.mkdir()
        source.write_text('# my notes')
        (tmp_path / 'job.py').write_text('former')
        Runner.from_cfg(self.config(toy_config, tmp_path, source))
        assert "experiment_name='toy_" in (tmp_path / 'job.py').read_text()
        assert source.read_text() == '# my notes'
