"""Wrong arguments of the tools: numbers, files, options, and what excludes each other."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from bad_world import World
from judging import Case, WrongResultError
from small_jobs import ROOT

# Tools that end soon, with arguments that are right; {} are folders of the clean jobs.
TOOLS: dict[str, list[str]] = {
    'train': ['{job}/short.py', '--work-dir', '{out}/trained'],
    'test': ['{job}/short.py', '{job}/trained/epoch_1.pth', '--work-dir', '{out}/trained'],
    'new_job': ['vit-1m', '{images}', '--out', '{out}/job.py'],
    'multi_task': [
        *('{images}/val/class_0/00.png', '--task', 'small', '{job}/short.py'),
        '{job}/trained/epoch_1.pth',
    ],
    'misc/check_dataset': ['{job}/short.py', '--jobs', '0'],
    'misc/print_config': ['{job}/short.py'],
    'misc/publish_model': ['{job}/trained/epoch_1.pth', '{out}/model.safetensors'],
    'analysis_tools/analyze_logs': ['{job}/trained'],
    'analysis_tools/get_flops': ['{job}/short.py', '--shape', '16', '16'],
    'analysis_tools/confusion_matrix': [
        *('{job}/short.py', '{job}/trained/epoch_1.pth', '--out', '{out}/table.csv'),
        *('--work-dir', '{out}/trained', '--picture', '{out}/table.png'),
    ],
    'analysis_tools/result_table': ['{job}/trained'],
    'model_converters/fold': ['{job}/short.py', '{job}/trained/epoch_1.pth', '{out}/folded.pth'],
    'visualization/attention': [
        *('{job}/short.py', '{job}/trained/epoch_1.pth', '{images}/val/class_0/00.png'),
        *('--out', '{out}/picture.png'),
    ],
    'visualization/browse_dataset': ['{job}/short.py', '--out-dir', '{out}/pictures'],
    'dataset_converters/folders': ['{images}/train', '{out}/data'],
    'dataset_converters/split_folders': [
        *('{images}/train', '{out}/lists', '--train', '8', '--val', '4'),
    ],
}
NUMBERS = ['abc', '-1', '0', '1.5', 'nan', 'inf', '1e400', '99999999999', '', '\u0661', '--1']


# What a number may mean after all.
ALLOWED = {
    '0': ('--seed', '--jobs', '--val', '--test', '--lr'),
    '-1': (),
    '99999999999': ('--jobs', '--samples', '--epochs', '--max-iters', '--batch-size'),
    '\u0661': (
        '--shape',
        '--seed',
        '--jobs',
        '--samples',
        '--epochs',
        '--max-iters',
        '--train',
        '--val',
    ),
}


class _Parsed(BaseException):
    """Ends a tool when it parses its arguments."""


@functools.cache
def options_of(tool: str) -> tuple[argparse.Action, ...]:
    """The options that the parser of a tool has."""
    found: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        found.append(parser)
        raise _Parsed

    script = ROOT / 'tools' / f'{tool}.py'
    with (
        mock.patch.object(argparse.ArgumentParser, 'parse_args', stop),
        mock.patch.object(argparse.ArgumentParser, 'parse_intermixed_args', stop),
        mock.patch.object(sys, 'path', [str(script.parent), *sys.path]),
        mock.patch.object(sys, 'argv', [str(script)]),
        contextlib.suppress(_Parsed),
    ):
        runpy.run_path(str(script), run_name='__main__')
    return tuple(action for action in found[0]._actions if action.dest != 'help')


@dataclass
class Command:
    """A command line, and what a sentence about it must name."""

    arguments: list[str]
    names: tuple[str, ...]


Damage = Callable[[str, list[str], World], 'Command | None']


def unknown_option(tool: str, arguments: list[str], world: World) -> Command:
    option = world.random.choice(['--no-such-option', '--configg', '-x', '--epochs=3x'])
    return Command([*arguments, option], (option, '--epochs', 'ambiguous'))


def further_argument(tool: str, arguments: list[str], world: World) -> Command:
    return Command([*arguments, 'one-too-many'], ('one-too-many',))


def missing_argument(tool: str, arguments: list[str], world: World) -> Command:
    first = next((n for n, text in enumerate(arguments) if text.startswith('-')), len(arguments))
    place = world.random.randrange(first)
    return Command([*arguments[:place], *arguments[first:]], ('required', 'must be given'))


def no_arguments(tool: str, arguments: list[str], world: World) -> Command:
    dests = tuple(action.metavar or action.dest for action in options_of(tool))
    return Command([], tuple(name for name in dests if isinstance(name, str)))


def missing_file(tool: str, arguments: list[str], world: World) -> Command:
    places = [n for n, text in enumerate(arguments) if '/out/' not in text and '/' in text]
    changed = [*arguments]
    place = world.random.choice(places)
    old = Path(changed[place])
    changed[place] = str(old.with_name(f'gone_{old.name}'))
    return Command(changed, (f'gone_{old.name}',))


def folder_for_file(tool: str, arguments: list[str], world: World) -> Command | None:
    """A folder in place of a file that is no image: a folder of images is right."""
    files = [(n, Path(text)) for n, text in enumerate(arguments)]
    places = [n for n, path in files if path.is_file() and path.suffix != '.png']
    if not places:
        return None
    place = world.random.choice(places)
    changed = [*arguments]
    changed[place] = str(Path(changed[place]).parent)
    return Command(changed, (Path(changed[place]).name, arguments[place]))


def file_for_folder(tool: str, arguments: list[str], world: World) -> Command | None:
    places = [n for n, text in enumerate(arguments) if Path(text).is_dir()]
    if not places:
        return None
    place = world.random.choice(places)
    file = next(path for path in sorted(Path(arguments[place]).rglob('*')) if path.is_file())
    changed = [*arguments]
    changed[place] = str(file)
    return Command(changed, (file.name,))


def wrong_file(tool: str, arguments: list[str], world: World) -> Command | None:
    """A file of another kind, of an ending that may fit."""
    places = [n for n, text in enumerate(arguments) if Path(text).is_file()]
    if not places:
        return None
    place = world.random.choice(places)
    file = other_file(world)
    if tool != 'misc/print_config' and world.random.random() < 0.5:  # which shows an empty config
        file = empty_file(world, Path(arguments[place]).suffix)
    changed = [*arguments]
    changed[place] = str(file)
    names = ('no model', 'dataloader') if file.suffix == '.py' else ()
    return Command(changed, (file.name, *names))


def wrong_number(tool: str, arguments: list[str], world: World) -> Command | None:
    numbers = [a for a in options_of(tool) if a.type is not None and a.type is not Path]
    numbers = [a for a in numbers if a.option_strings and a.help != argparse.SUPPRESS]
    if not numbers:
        return None
    action = world.random.choice(numbers)
    option, value = action.option_strings[0], world.random.choice(NUMBERS)
    count = action.nargs if isinstance(action.nargs, int) else 1
    share = {'--val': 'validation', '--test': 'testing'}.get(option, option)
    names = (option, share, value or option)
    return Command([*without(arguments, option), option, *[value] * count], names)


def wrong_choice(tool: str, arguments: list[str], world: World) -> Command | None:
    choices = [a for a in options_of(tool) if a.choices and a.option_strings]
    if not choices:
        return None
    option = world.random.choice(choices).option_strings[0]
    return Command([*without(arguments, option), option, 'neither'], (option,))


def missing_value(tool: str, arguments: list[str], world: World) -> Command | None:
    takes = [a for a in options_of(tool) if a.nargs not in (0, '?', '*') and a.option_strings]
    takes = [a for a in takes if a.help != argparse.SUPPRESS]
    if not takes:
        return None
    option = world.random.choice(takes).option_strings[0]
    return Command([*without(arguments, option), option], (option,))


def wrong_setting(tool: str, arguments: list[str], world: World) -> Command | None:
    if not any('--cfg-options' in a.option_strings for a in options_of(tool)):
        return None
    setting = world.random.choice(
        ['model', '=3', 'model.=3', 'model..type=3', 'model="[1,2"', 'model.type.x=3']
    )
    last = setting.split('=')[0].split('.')[-1] or setting
    return Command([*arguments, '--cfg-options', setting], (setting, last, setting.split('=')[0]))


def bad_output(tool: str, arguments: list[str], world: World) -> Command | None:
    """An output below a file, or with another ending."""
    places = [n for n, text in enumerate(arguments) if '/out/' in text]
    if not places:
        return None
    place = world.random.choice(places)
    file = other_file(world)
    changed = [*arguments]
    changed[place] = str(file / Path(changed[place]).name)
    return Command(changed, (file.name,))


def output_exists(tool: str, arguments: list[str], world: World) -> Command | None:
    """An output that exists already, or is the input."""
    places = [n for n, text in enumerate(arguments) if '/out/' in text and Path(text).suffix]
    inputs = [text for text in arguments if Path(text).is_file()]
    if not places or not inputs:
        return None
    changed = [*arguments]
    place = world.random.choice(places)
    changed[place] = world.random.choice(inputs)
    return Command(changed, (Path(changed[place]).name,))


EXCLUDING: list[tuple[str, list[str], tuple[str, ...]]] = [
    ('misc/publish_model', ['--base', 'elsewhere.pth'], ('--base',)),
    ('misc/publish_model', ['--pretuned', 'elsewhere.pth'], ('--pretuned',)),
    ('visualization/browse_dataset', ['--samples', '3', '--indices', '1'], ('--indices',)),
    ('test', ['--out-item', 'pred'], ('--out-item', '--out')),
    ('train', ['--auto-scale-lr'], ('--auto-scale-lr',)),
    ('new_job', ['--method', 'nothing'], ('nothing', '--method')),
    ('new_job', ['--max-iters', '5'], ('max', 'iters')),
    ('new_job', ['--epochs', '3', '--max-iters', '5'], ('--max-iters', 'max_iters')),
    ('dataset_converters/folders', ['--val', '0.7', '--test', '0.6'], ('validation',)),
    ('dataset_converters/folders', ['--group', '('], ('--group', "'('")),
    ('analysis_tools/analyze_logs', ['--keys', 'nothing'], ('nothing',)),
    ('analysis_tools/analyze_logs', ['--legend', 'a', 'b', '--out', 'x.png'], ('--legend',)),
    ('analysis_tools/result_table', ['--metric', 'nothing'], ('nothing',)),
    ('visualization/attention', ['--blocks', '99'], ('99',)),
    ('multi_task', ['--device', 'nowhere'], ('nowhere',)),
]


def excluding(tool: str, arguments: list[str], world: World) -> Command | None:
    """Options that exclude each other, or ask for what is not there."""
    fitting = [(further, names) for name, further, names in EXCLUDING if name == tool]
    if not fitting:
        return None
    further, names = world.random.choice(fitting)
    return Command([*arguments, *further], names)


def other_file(world: World) -> Path:
    """A file that no tool can read, beside the folder of outputs."""
    file = world.fresh() / 'notes.toml'
    file.write_text('title = "notes"')
    return file


def empty_file(world: World, suffix: str) -> Path:
    file = world.fresh() / f'nothing{suffix}'
    file.touch()
    return file


def without(arguments: list[str], option: str) -> list[str]:
    """Arguments without an option and its values."""
    if option not in arguments:
        return arguments
    place = arguments.index(option)
    end = next(
        (n for n in range(place + 1, len(arguments)) if arguments[n].startswith('-')),
        len(arguments),
    )
    return [*arguments[:place], *arguments[end:]]


KINDS: dict[str, Damage] = {
    'an unknown option': unknown_option,
    'an argument too many': further_argument,
    'a missing argument': missing_argument,
    'no arguments': no_arguments,
    'a missing file': missing_file,
    'a folder for a file': folder_for_file,
    'a file for a folder': file_for_folder,
    'a file of another kind': wrong_file,
    'a wrong number': wrong_number,
    'a wrong choice': wrong_choice,
    'an option without value': missing_value,
    'a wrong --cfg-options': wrong_setting,
    'an output below a file': bad_output,
    'an output that exists': output_exists,
    'options that exclude each other': excluding,
}


class Arguments:
    """Command lines of the tools."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.turns = 0

    def case(self, turn: int) -> Case:
        damage = [*KINDS][turn % len(KINDS)]
        out = self.world.fresh() / 'out'
        out.mkdir()
        places = dict(job=self.world.trained, images=self.world.images, out=out)
        tools = [*TOOLS]
        self.world.random.shuffle(tools)
        for tool in tools:
            arguments = [text.format(**places) for text in TOOLS[tool]]
            command = KINDS[damage](tool, arguments, self.world)
            if command is not None:
                break
        assert command is not None
        run = functools.partial(self.run, tool, damage, command, out)
        return Case('arguments', damage, command.names, run)

    def run(self, tool: str, damage: str, command: Command, out: Path) -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            self.world.tool(tool, *command.arguments)
        option, value = command.names[0], command.names[-1]
        if damage != 'a wrong number' or option not in ALLOWED.get(value, ()):
            shown = ' '.join(command.arguments).replace(str(self.world.folder), '')
            raise WrongResultError(f'{tool} {shown} ends well')
