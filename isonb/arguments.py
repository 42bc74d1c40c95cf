"""What the command line, `python -m isonb`, takes: the commands, and what goes with each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command and what goes with it; settings may stand before, between and after options.

    argparse can mix them, but not in a parser with commands, where it leaves over what follows the options. What
    follows `sweep` is Snakemake's to read, but for a request for help.
    """
    parser, words = _parser(), list(arguments)
    if words[:1] == ["sweep"] and not {"-h", "--help"} & {*words}:
        return argparse.Namespace(**{**vars(parser.parse_args(words[:1])), "words": words[1:]})
    chosen, left = parser.parse_known_args(words)
    if left and ("settings" not in chosen or any(word.startswith("-") for word in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        chosen.settings += left
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m isonb", description="Run and inspect the study's cells.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, text in (
        ("run-cell", "run one cell with some settings changed"),
        ("sweep", "run what is left of a study by Snakemake, as `make study` does"),
        ("pretrain", "pre-train one network, alone or as a process of torchrun, without probes or a record"),
        ("cells", "list the cells of a study"),
        ("estimate", "predict the hours and the memory of a study"),
        ("complete", "add to a study's records what later versions measure; nothing is trained"),
        ("claims", "judge the paper's claims from a study's results"),
        ("report", "write the table, the verdicts and the failures of a sweep, as the Snakefile does"),
        ("sample", "complete test images by an autoregressive network whose weights were kept, as a picture"),
        ("probe", "probe every layer of a network whose weights were kept, image-GPT's own or that of a run"),
        ("finetune", "train a network whose weights were kept to name classes, and its twin from scratch"),
        ("import-igpt", "make a network for isonb.load of a checkpoint of image-GPT by Hugging Face"),
        ("share", "add a finished run's network, at half its size, to those that come with the project"),
        ("pack", "write a study's results, checkpoints and weights into one file, to go on with elsewhere"),
        ("unpack", "take over what a pack has beyond what is here"),
        ("book", "build the book from the results at hand; warnings are errors"),
        ("pdf", "print the whole book into one file, by Chromium"),
        ("links", "check that every link of the book leads somewhere, on other sites too"),
    ):
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(command=name)
        if name == "report":
            sub.add_argument("folder", type=Path, help="of the sweep")
        elif name == "sweep":
            text = "settings of the sweep, as in study=cpu only=missing, and then options of Snakemake, as -n"
            sub.add_argument("words", nargs="*", metavar="name=value", help=text)
        elif name == "probe":
            sub.add_argument("network", help="the file of its weights, or the name of its run")
            sub.add_argument("settings", nargs="*", metavar="name=value", help="as in probe_data=cifar10")
        elif name == "finetune":
            sub.add_argument("network", help="the file of its weights, or the name of its run")
            sub.add_argument("settings", nargs="*", metavar="name=value", help="as in finetune_epochs=10")
        elif name == "share":
            sub.add_argument("run", help="its name")
        elif name == "import-igpt":
            sub.add_argument("folder", type=Path, help="with config.json, preprocessor_config.json and the weights")
            sub.add_argument("out", type=Path, nargs="?", help="the file to write; else FOLDER.safetensors, right here")
        elif name == "sample":
            sub.add_argument("run", help="its name or the file of its weights")
            sub.add_argument("out", type=Path, help="the picture to write, OUT.png")
            sub.add_argument("--images", type=int, default=8, help="the first so many test images; 8 unless told")
            sub.add_argument("--rows", type=int, default=16, help="of each image that are given; 16 unless told")
            sub.add_argument("--temperature", type=float, default=1.0, help="of the draws; 1 unless told, 0: no chance")
            sub.add_argument("--seed", type=int, default=0, help="of the draws; 0 unless told")
        elif name == "unpack":
            sub.add_argument("file", type=Path, help="the pack, or the first of its parts")
        elif name not in ("book", "pdf", "links"):
            text = "smoke, which is the default, cpu or paper; --profile is the older name of this option"
            sub.add_argument("--study", "--profile", action="append", dest="studies", metavar="STUDY", help=text)
        if name == "run-cell":
            sub.add_argument("--template", type=Path, help="a notebook to run instead of notebooks/cell.ipynb")
        if name in ("run-cell", "pretrain"):
            sub.add_argument("settings", nargs="*", metavar="name=value", help="as in block=mixer depth=3")
        if name == "pretrain":
            sub.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # of `launch.pretrain`
        if name == "estimate":
            sub.add_argument("--device", default="auto", help="auto, cpu or cuda; some steps are timed on it, once")
            sub.add_argument("--images-per-second", type=float, help="of the study's first cell, instead of timing any")
        if name == "pack":
            sub.add_argument("file", type=Path, help="to write; with --part-size, FILE.001 and so on")
            sub.add_argument("--part-size", default="", metavar="SIZE", help="of a part at most, as in 500M or 2G")
        if name == "claims":
            sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser
