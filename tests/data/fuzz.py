"""Coverage-guided fuzzing of one reader; needs `atheris` (the extra ``fuzz``).

    python tests/data/fuzz.py cifar-pickle --seconds 60

Ends with libFuzzer's count of executions; a finding is an exception that the command line would not print as
one line, and its input is left in the working folder as ``crash-...``.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cmw_pipeline", "tarfile", "gzip", "zipfile", "json", "ruamel"]):
    from tests.support.fuzz_targets import NAMES, Targets


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    logging.disable()
    folder = Path(tempfile.mkdtemp())
    targets = Targets(folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(targets.seeds(options.name)):
        (corpus / str(number)).write_bytes(seed)
    limits = [f"-max_total_time={options.seconds}", "-rss_limit_mb=4096", "-timeout=20", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], lambda data: targets.read(options.name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
