"""The script that made the built-in corpus: `python -m builtin.speak corpus|sets|lessons OUT`.

Needs the system packages espeak-ng, flite, festival, festvox-kallpc16k, festvox-kdlpc16k, festvox-us-slt-hts.
"""

import argparse
from pathlib import Path

from builtin.corpus import write_corpus
from builtin.sets import write_lessons, write_sets


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    corpus = commands.add_parser("corpus", help="clean clips with phone times, to train on")
    corpus.add_argument("--clips", type=int, default=40_000)
    corpus.add_argument("--human-share", type=float, help="clips in voices made from a person's recordings")
    sets = commands.add_parser("sets", help="the small sets that are shipped, as OGG/Opus")
    lessons = commands.add_parser("lessons", help="a larger set like the shipped one for training")
    lessons.add_argument("--clips", type=int, default=3000)
    for command in (corpus, sets, lessons):
        command.add_argument("out", type=Path)
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    if given.command == "corpus":
        write_corpus(given.out, given.clips, given.seed, given.jobs, given.human_share)
    elif given.command == "lessons":
        write_lessons(given.out, given.clips, given.seed, given.jobs)
    else:
        write_sets(given.out, given.seed, given.jobs)


if __name__ == "__main__":
    main()
