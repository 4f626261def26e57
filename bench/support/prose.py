"""
Documents and a tokenizer for them, always the same: argv[1] is JSON with `directory`, `documents` and `tokens`. Made-up words with the
frequencies of a language, and a BPE of 8,000 tokens that divides words as GPT-2's does: about four letters per
token, as with real ones. Writes tokenizer.json, tokenizer_config.json and documents.jsonl.
"""

import itertools
import json
import os
import random
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

settings = json.loads(sys.argv[1])
directory = settings["directory"]
rng = random.Random(7)
ONSETS = "b c d f g h j k l m n p r s t v w st tr pl sh th".split()
VOWELS = "a e i o u ai ou ee".split()
SYLLABLES = [onset + vowel for onset in ONSETS for vowel in VOWELS]
WORDS = ["".join(rng.choice(SYLLABLES) for _ in range(rng.choice([1, 1, 2, 2, 3, 4]))) for _ in range(30_000)]
WEIGHTS = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(WORDS))))


def prose(words):
    chosen = rng.choices(WORDS, cum_weights=WEIGHTS, k=words)
    return " ".join(word + ("." if rng.random() < 0.08 else "") for word in chosen)


tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=8_000,
    special_tokens=["<s>", "</s>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
tokenizer.train_from_iterator((prose(200) for _ in range(1_500)), trainer)


def document():
    """Cut to the wanted number of tokens, as near as whole words allow."""
    text = prose(settings["tokens"])
    start, end = tokenizer.encode(text).offsets[settings["tokens"]]
    text = text[: text.rfind(" ", 0, end)]
    return {"text": text, "choices": [prose(3) for _ in range(4)], "label": rng.randrange(4)}


tokenizer.save(os.path.join(directory, "tokenizer.json"))
config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
with open(os.path.join(directory, "tokenizer_config.json"), "w") as stream:
    json.dump({**config, "model_max_length": 8192, "clean_up_tokenization_spaces": False}, stream)
with open(os.path.join(directory, "documents.jsonl"), "w") as stream:
    for _ in range(settings["documents"]):
        stream.write(json.dumps(document()) + "\n")
