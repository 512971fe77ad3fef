"""No command line replaces a file without --overwrite, and never one of its inputs."""

import os

import pytest
import torch
from PIL import Image

# Output, inputs and command.
COMMANDS = [
    ('o.pkl', 'w.pth', 'test job.py w.pth --out o.pkl'),
    ('o.json', 'job.py', 'test job.py w.pth --out o.json --out-item metrics'),
    ('show/a/o.png', 'w.pth', 'test job.py w.pth --show-dir show'),
    ('o.png', 'w.pth', 'visualization/attention job.py w.pth --out o.png'),
    ('work/attention.png', 'job.py', 'visualization/attention job.py w.pth --work-dir work'),
    ('o.onnx', 'job.py', 'deployment/export_onnx job.py w.pth o.onnx --size 8 8'),
    ('o.pth', 'w.pth', 'model_converters/fold job.py w.pth o.pth'),
    ('o.safetensors', 'w.pth', 'model_converters/fold job.py w.pth o.safetensors'),
    ('o.pth', 'w.pth', 'model_converters/vit2mm w.pth o.pth'),
    ('o.safetensors', 'w.pth', 'model_converters/convnext2mm w.pth o.safetensors'),
    ('o.pth', 'job.py', 'model_converters/toast2mm w.pth o.pth --pretuned job.py'),
    ('o.safetensors', 'w.pth', 'misc/publish_model w.pth o.safetensors --no-hash'),
    ('o.csv', 'runs/runs.jsonl', 'analysis_tools/result_table runs --out o.csv'),
    ('o.png', 'runs/runs.jsonl', 'analysis_tools/result_table runs --curve o.png'),
    ('o.csv', 'w.pth', 'analysis_tools/confusion_matrix job.py w.pth --out o.csv'),
    ('o.png', 'job.py', 'analysis_tools/confusion_matrix job.py w.pth --picture o.png'),
    ('o.png', 'runs/scalars.json', 'analysis_tools/analyze_logs runs/scalars.json --out o.png'),
    ('o.py', 'job.py', 'misc/print_config job.py --out o.py'),
    (
        'lists/val.txt',
        'images/a/1.png',
        'dataset_converters/split_folders images lists --train 1 --val 1',
    ),
]


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ('show/a', 'work', 'runs', 'images/a', 'lists'):
        (tmp_path / folder).mkdir(parents=True)
    hook = "dict(type='VisualizationHook')"
    (tmp_path / 'job.py').write_text(
        f'default_hooks = dict(visualization={hook})\nvisualizer = {{}}\n'
        "default_scope = 'mmseg'\nmodel = test_dataloader = {}"
    )
    torch.save({'x': torch.ones(1)}, 'w.pth')
    for name in ('runs.jsonl', 'scalars.json'):
        (tmp_path / 'runs' / name).touch()
    for number in range(3):
        Image.new('1', (4, 4)).save(tmp_path / 'images' / 'a' / f'{number}.png')


@pytest.mark.parametrize(('output', 'read', 'command'), COMMANDS)
def test_existing_files_stay(tool, tmp_path, output, read, command):
    (tmp_path / output).write_text('mine')
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    with pytest.raises(SystemExit, match=rf'{output} exists already: choose another path, or add'):
        tool(*command.split())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == before


@pytest.mark.parametrize(
    ('output', 'command'),
    [(output, command) for output, _, command in COMMANDS if ' o.' in command],
)
def test_folders_are_checked_before_the_work(tool, tmp_path, output, command):
    """With a file in the place of the folder."""
    before = {*tmp_path.rglob('*')}
    with pytest.raises(
        SystemExit, match=rf'^job\.py/{output} cannot be written: job\.py is no fol'
    ):
        tool(*command.replace(f' {output}', f' job.py/{output}').split())
    assert {*tmp_path.rglob('*')} == before


@pytest.mark.parametrize(('output', 'read', 'command'), COMMANDS)
def test_inputs_stay_in_any_case(tool, tmp_path, output, read, command):
    os.link(read, output)
    content = (tmp_path / read).read_bytes()
    with pytest.raises(SystemExit, match=rf'{output} would replace {read}, which is read: choose'):
        tool(*command.split(), '--overwrite')
    assert (tmp_path / read).read_bytes() == content and os.path.samefile(output, read)
