"""The page itself, in Gradio."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from toast_mm.apis import Classification, Predictor, Segmentation
from toast_mm.demo.answers import (
    Answer,
    answer,
    attention_picture,
    default_block,
    legend,
    save_files,
    smaller,
)
from toast_mm.demo.uploads import FORMATS, Limits, RequestLimit, UploadError, read_upload

NONE = 'none'
TOP = 5  # classes that are listed
KEPT = 60 * 60  # seconds that files of visitors stay
TITLE = 'toast_mm: predictions, and where the model looks'


def build_page(
    task_files: Mapping[str, Predictor], limits: Limits, folder: Path, busy: threading.Lock
) -> gr.Blocks:
    """Build the page.

    Args:
        task_files: Predictors by name.
        limits: Limits for visitors.
        folder: Where the files for visitors are written.
        busy: Is held while something is computed.
    """
    names = [*task_files]
    requests = RequestLimit(limits.per_minute)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEPT // 6, KEPT)) as page:
        gr.Markdown(f'## {TITLE}')
        with gr.Row():
            picture = gr.Image(
                label='Picture',
                type='filepath',
                sources=['upload', 'clipboard'],
                buttons=[],
                height=300,
                elem_id='picture',
            )
            _take_only_uploads(picture)
            with gr.Column():
                chosen = [
                    gr.Dropdown(names, value=names[0], label='Task file', elem_id='first'),
                    gr.Dropdown([NONE, *names], value=NONE, label='Compare with', elem_id='second'),
                ]
                block = gr.Slider(0, 1, step=1, label='Block of the backbone', elem_id='block')
                gr.Markdown(_terms(limits))
        message = gr.Textbox(
            label='This did not work', visible=False, interactive=False, elem_id='message'
        )
        with gr.Row():
            panels = [_Panel('left'), _Panel('right')]
        answers = gr.State([], time_to_live=KEPT)
        shown = [component for panel in panels for component in panel.components]

        def predict(upload: Any, first: Any, second: Any, request: gr.Request) -> list[Any]:
            """Everything on the page, for a picture and one or two task files."""
            if upload is None:
                return _page_without('', panels)
            try:
                _check_rate(requests, request.client.host)
                name = str(upload.get('orig_name') or 'picture')
                image = read_upload(upload['path'], name, limits)
                wanted = [one for one in (first, second) if one != NONE]
                with busy:
                    found = [answer(_chosen(task_files, one), image) for one in wanted]
                    files = [save_files(one.result, name, _new_folder(folder)) for one in found]
            except (OSError, RuntimeError, ValueError, MemoryError) as error:
                return _page_without(_sentence(error), panels)
            looks = [one.attention for one in found if one.attention is not None]
            start = min(map(default_block, looks), default=0)
            blocks = gr.Slider(
                maximum=max((max(look.maps) for look in looks), default=1),
                value=start,
                visible=bool(looks),
            )
            filled = [
                update
                for panel, title, one, written in zip(panels, wanted, found, files, strict=False)
                for update in panel.updates(title, one, written, start)
            ]
            empty = _nothing(panels[len(found) :])
            return [gr.Textbox(visible=False), found, blocks, *filled, *empty]

        def draw(block: int, found: list[Answer]) -> list[Any]:
            """The attention of one block."""
            drawn = [update for one in found for update in _attention(one, block)]
            return drawn + [gr.skip()] * (2 * len(panels) - len(drawn))

        gr.on(
            [picture.change, *(dropdown.input for dropdown in chosen)],
            predict,
            [picture, *chosen],
            [message, answers, block, *shown],
            # Gradio itself would open the picture, and raise errors of its own.
            preprocess=False,
            trigger_mode='always_last',
            concurrency_limit=1,  # models run one at a time
            api_visibility='private',
        )
        block.input(
            draw,
            [block, answers],
            [component for panel in panels for component in panel.attention],
            trigger_mode='always_last',
            show_progress='hidden',
            api_visibility='private',
        )
    return page


class _Panel:
    """What is shown of one task file."""

    def __init__(self, side: str) -> None:
        with gr.Column(visible=False) as column:
            title = gr.Markdown(elem_id=f'{side}-title')
            classes = gr.Label(num_top_classes=TOP, label='Classes', elem_id=f'{side}-classes')
            segments = gr.AnnotatedImage(label='Classes of pixels', elem_id=f'{side}-segments')
            caption = gr.Markdown(elem_id=f'{side}-caption')
            picture = gr.Image(
                show_label=False,
                format='png',
                interactive=False,
                buttons=['fullscreen'],
                elem_id=f'{side}-attention',
            )
            with gr.Row():
                mask = gr.DownloadButton('Download mask', elem_id=f'{side}-mask')
                overlay = gr.DownloadButton('Download overlay', elem_id=f'{side}-overlay')
        self.attention = [caption, picture]
        self.components = [column, title, classes, segments, *self.attention, mask, overlay]

    def updates(self, name: str, one: Answer, files: Mapping[str, str], block: int) -> list[Any]:
        """New values of the components."""
        result = one.result
        classes: Any = gr.update(visible=False)
        segments: Any = gr.update(visible=False)
        mask: Any = gr.update(visible=False)
        if isinstance(result, Classification):
            classes = gr.Label(dict(result.top(TOP)), visible=True)
        if isinstance(result, Segmentation):
            segments = _segments(result)
            mask = gr.DownloadButton(value=files['mask'], visible=True)
        return [
            gr.Column(visible=True),
            f'### {name}',
            classes,
            segments,
            *_attention(one, block),
            mask,
            gr.DownloadButton(value=files['overlay']),
        ]


def _segments(result: Segmentation) -> Any:
    entries = legend(result)
    shown = smaller(result)
    masks: Any = [(np.float32(shown.labels == n) * 0.6, name) for name, (n, _) in entries.items()]
    colours = {name: colour for name, (_, colour) in entries.items()}
    return gr.AnnotatedImage(
        (shown.image, masks), color_map=colours, label='Classes of pixels', visible=True
    )


def _attention(one: Answer, block: int) -> list[Any]:
    """Caption and picture of the attention of a block; or the reason why there is none."""
    if one.attention is None:
        return [one.reason, gr.Image(visible=False)]
    picture, caption = attention_picture(one.attention, int(block))
    return [caption, gr.Image(picture, visible=True)]


def _page_without(sentence: str, panels: list[_Panel]) -> list[Any]:
    """A page without results, with a sentence if something did not work."""
    return [gr.Textbox(sentence, visible=bool(sentence)), [], gr.skip(), *_nothing(panels)]


def _nothing(panels: list[_Panel]) -> list[Any]:
    """Hide panels, and drop what they show."""
    return [
        gr.update(visible=False) if number == 0 else None
        for panel in panels
        for number in range(len(panel.components))
    ]


def _take_only_uploads(picture: Any) -> None:
    """Refuse requests that name a picture by its address, which Gradio would fetch."""
    move = picture.async_move_resource_to_block_cache

    async def uploaded(path: Any) -> Any:
        if '://' in str(path):
            raise gr.Error('Upload the picture itself.', print_exception=False)
        return await move(path)

    picture.async_move_resource_to_block_cache = uploaded


def _terms(limits: Limits) -> str:
    """What visitors may upload."""
    return (
        f'Pictures: {", ".join(FORMATS)}; at most {limits.megabytes:g} megabytes and '
        f'{limits.megapixels:g} million pixels; {limits.per_minute} a minute. They stay on this '
        f'server for at most {(KEPT + KEPT // 6) // 60} minutes.'
    )


def _check_rate(requests: RequestLimit, visitor: str) -> None:
    """Count a prediction.

    Raises:
        UploadError: There were too many.
    """
    if seconds := requests.seconds_to_wait(visitor):
        raise UploadError(
            f'{requests.per_minute} predictions a minute are allowed: try again in {seconds:.0f} '
            'seconds'
        )


def _chosen(task_files: Mapping[str, Predictor], name: Any) -> Predictor:
    """The predictor of a task file.

    Raises:
        UploadError: It is none of those that the page offers.
    """
    if name not in task_files:
        raise UploadError(f'there is no task file {name!r} on this page: choose one of the list')
    return task_files[name]


def _new_folder(parent: Path) -> Path:
    """A folder whose name nobody can guess, since any visitor can fetch files by their name."""
    folder = parent / secrets.token_hex(16)
    folder.mkdir()
    return folder


def _sentence(error: Exception) -> str:
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= 600 else f'{text[:600]} ...'
