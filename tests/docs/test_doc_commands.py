"""Commands in the documentation: tools, files, options and settings exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_pages import PAGES, PLACEHOLDER, ROOT, blocks
from shell_calls import calls
from tool_parsers import UsageError, parse, parser_of

from toast_mm.engine.config import apply_options, read_config

FOLDERS = ('benchmarks/', 'configs/', 'docs/', 'requirements/', 'tests/', 'toast_mm/', 'tools/')
BUILT = 'docs/_build'  # what a command makes
EXTRAS = {
    *re.findall(
        r'^([\w-]+) = \[',
        (ROOT / 'pyproject.toml').read_text().split('[project.optional-dependencies]')[1],
        re.MULTILINE,
    )
}


def check_call(program: str, *words: str) -> None:
    """Check one call.

    Raises:
        AssertionError: A program, a file or an extra does not exist.
        UsageError: A tool refuses its arguments.
    """
    assert program in ('bash', 'git', 'mim', 'pip', 'pre-commit', 'python'), f'what is {program}?'
    for word in words:
        if word.startswith(FOLDERS) and not word.startswith(BUILT) and not PLACEHOLDER.search(word):
            assert [*ROOT.glob(word)], f'{word} does not exist'
    if program == 'pip':
        named = {extra for word in words for extra in re.findall(r'\[([\w,-]+)\]', word)}
        assert named <= EXTRAS, f'there is no extra {named - EXTRAS}'
    if program == 'python' and words[0].endswith('.py') and words[0].startswith(FOLDERS):
        check_arguments(ROOT / words[0], [*words[1:]])
    if program == 'python' and words[0] == '-c':
        compile(words[1], 'command', 'exec')
    if program == 'bash' and re.fullmatch(r'tools/dist_(train|test)\.sh', words[0]):
        train = 'train' in words[0]
        *positional, processes = words[1 : 3 if train else 4]
        assert processes.isdigit()
        options = words[len(positional) + 2 :]
        check_arguments(ROOT / f'tools/{"train" if train else "test"}.py', [*positional, *options])


def check_arguments(script: Path, arguments: list[str]) -> None:
    args = parse(script, arguments)
    options = getattr(args, 'cfg_options', None)
    if options and (ROOT / args.config).is_file():
        apply_options(read_config(str(ROOT / args.config)), options)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands(page, tmp_path):
    code = ''.join(block.code for block in blocks(page, 'bash'))
    for call in calls(code, tmp_path):
        check_call(*call)


def test_bash_expands_what_a_block_says(tmp_path):
    block = """
    source .venv/bin/activate
    JOB=birds
    for N in 1 2; do
        OMP_NUM_THREADS=2 python tools/train.py configs/$JOB.py \\
            --cfg-options "a=b c" n=$N    # a comment
    done
    cd .. && pip install 'x[y]'
    """
    train = ['python', 'tools/train.py', 'configs/birds.py', '--cfg-options', 'a=b c']
    assert calls(block, tmp_path) == [
        [*train, 'n=1'],
        [*train, 'n=2'],
        ['pip', 'install', 'x[y]'],
    ]
    with pytest.raises(ValueError, match='unexpected EOF'):
        calls('echo "', tmp_path)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        ('pythn tools/train.py', 'what is pythn'),
        ('python tools/trian.py CONFIG', 'trian.py does not exist'),
        ('python tools/train.py configs/none.py', 'configs/none.py does not exist'),
        ('python tools/train.py CONFIG --ampp', 'unrecognized arguments: --ampp'),
        ('python tools/test.py CONFIG', 'required: checkpoint'),
        ('bash tools/dist_train.sh CONFIG 8 --tta', 'unrecognized arguments: --tta'),
        ('bash tools/dist_test.sh CONFIG 8', 'required: checkpoint'),
        ('pip install toast_mm[pef]', 'no extra'),
        ('python tools/train.py configs/ade20k_toast_upernet.py --cfg-options model.type.x=1', 'x'),
    ],
)
def test_what_is_wrong_is_found(call, message):
    with pytest.raises((AssertionError, UsageError, ValueError), match=message):
        check_call(*call.split())


CONVERTERS = 'coco csv_table cvat folders label_studio labelme rgb_masks'


@pytest.mark.parametrize('name', CONVERTERS.split())
def test_all_options_of_converters_are_described(name):
    parser, _ = parser_of(ROOT / f'tools/dataset_converters/{name}.py')
    options = {text for action in parser._actions for text in action.option_strings}
    page = (ROOT / 'docs/data.md').read_text()
    described = {*re.findall(r'--[a-z][a-z-]*', page)}
    assert options >= {'--group', '--seed'} and options - described - {'-h'} == set()
