"""Loads the questions beside this file, whatever the working directory: lm_eval itself looks for data_files from there."""

import json
from pathlib import Path

import datasets


def load(data_files: dict[str, str], **_metadata) -> dict[str, datasets.Dataset]:
    """One data set per split; `data_files` says which file each comes from."""
    return {split: _read(Path(__file__).parent / name) for split, name in data_files.items()}


def _read(path: Path) -> datasets.Dataset:
    with path.open(encoding="utf-8") as lines:
        return datasets.Dataset.from_list([json.loads(line) for line in lines])
