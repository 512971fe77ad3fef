"""Which task files the page offers."""

import pytest

from toast_mm.demo import TaskFiles, find_task_files
from toast_mm.engine.config import ConfigError


def test_files_and_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ['runs/a/iter_9.pth', 'runs/a/iter_10.pth', 'runs/a/best_mIoU_iter_9.pth']
    files += ['runs/b/epoch_2.pth', 'runs/b/notes.txt', 'x.safetensors', 'other/x.safetensors']
    for file in map(tmp_path.joinpath, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found, older = find_task_files(['x.safetensors', 'runs', 'other'])
    assert found == {
        'x.safetensors': 'x.safetensors',
        'a/best_mIoU_iter_9.pth': 'runs/a/best_mIoU_iter_9.pth',
        'a/iter_10.pth': 'runs/a/iter_10.pth',
        'b/epoch_2.pth': 'runs/b/epoch_2.pth',
        'other/x.safetensors': 'other/x.safetensors',
    }
    assert older == ['runs/a/iter_9.pth']
    found, older = find_task_files(['runs', 'runs/a/iter_9.pth', 'runs/a/iter_10.pth'])
    assert (len(found), older) == (4, [])


def test_equal_names_get_longer(tmp_path):
    for run in 'ab':
        (tmp_path / run / 'job').mkdir(parents=True)
        (tmp_path / run / 'job' / 'x.pth').touch()
    assert set(find_task_files([str(tmp_path)])[0]) == {'a/job/x.pth', 'b/job/x.pth'}


def test_what_is_no_task_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere: there is no such task file or folder'):
        find_task_files(['nowhere'])
    (tmp_path / 'a.jpg').touch()
    with pytest.raises(ValueError, match=r'must end in \.pth or \.safetensors'):
        find_task_files([str(tmp_path / 'a.jpg')])
    assert find_task_files([str(tmp_path)]) == ({}, [])


def test_the_last_few_that_were_asked_for_stay(task_folder):
    paths, _ = find_task_files([str(task_folder)])
    birds, streets = paths.values()
    files = TaskFiles({'birds': birds, 'streets': streets, 'again': birds}, 'cpu', kept=2)
    first = files['birds']
    assert files['streets'].is_segmentor and files['birds'] is first
    assert files['again'] is not first
    assert [*files._loaded] == ['birds', 'again'] and files['birds'] is first


def test_files_are_loaded_when_asked_for(task_folder):
    paths, _ = find_task_files([str(task_folder)])
    names = [f'{task_folder.name}/birds.pth', f'{task_folder.name}/streets.pth']
    files = TaskFiles({**paths, 'none': 'toast_mm://vit-1m_tinyin100.safetensors'}, 'cpu', kept=1)
    assert [*files] == [*names, 'none']
    assert 'none' in files
    assert not files._loaded
    birds = files[names[0]]
    assert files[names[0]] is birds
    assert files[names[1]].is_segmentor
    assert [*files._loaded] == names[1:]
    with pytest.raises(ConfigError, match='holds no config'):
        files['none']
    with pytest.raises(KeyError):
        files['/etc/passwd']
