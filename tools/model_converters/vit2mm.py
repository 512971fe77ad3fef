"""ViT of timm, DeiT, JAX (.npz) or Hugging Face as a checkpoint of mmpretrain's ViT.

python tools/model_converters/vit2mm.py B_16.npz checkpoints/vit-b16_in21k.pth
"""

import argparse

from toast_mm.conversion import convert_vit
from toast_mm.conversion.cli import add_files, run
from toast_mm.conversion.reference import build_timm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser)
    parser.add_argument('--img-size', type=int, help='resize position embeddings to these images')
    parser.add_argument(
        '--timm',
        metavar='NAME',
        help="what timm calls the model: its features and the converted model's are compared",
    )
    run(
        parser,
        lambda weights, container, args: convert_vit(
            weights, container, args.img_size, build_timm(args.timm)
        ),
    )


if __name__ == '__main__':
    main()
