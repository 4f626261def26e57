"""
Compares the fast engine's token ids with those of lm_eval's own code, on tokenizers of many kinds and texts made to be hard
for them. argv[1] is JSON with `seed` and `pairs`; prints which encoder each kind gets and the pairs that differ.
"""

import json
import os
import random
import sys
import tempfile
from types import SimpleNamespace

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from eval_hive_harness import encoder, engine, seams  # noqa: E402
from lm_eval.models.api_models import JsonChatStr, TemplateAPI  # noqa: E402
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI  # noqa: E402
from tokenizers import (  # noqa: E402
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

settings = json.loads(sys.argv[1])
rng = random.Random(settings["seed"])

WORDS = "the of and a to in Haus river don't I'll THEY'RE we've x1 42 2024 3.14 naïve café e\u0301t\u0308 größer 漢字 שלום πρᾶγμα 한 한 😀 def_it f(x) a-b foo.Bar Ǆ ﬁ İ".split()
JOINTS = [" "] * 12 + ["", "", "  ", "   ", "\n", "\n\n", " \n ", "\t", "\u00a0", ". ", ", ", ": ", "'s ", "s' ", " '", "<s>", " <s> ", "<|im_start|>", "\r\n", "    "]


def text(most_words):
    return "".join(rng.choice(WORDS) + rng.choice(JOINTS) for _ in range(rng.randint(1, most_words)))


def pair():
    context = rng.choice([text(12), text(60), text(250), text(250), "", " ", "\n", " x", "A B"])
    context += rng.choice(["", "", "", " ", "  ", "\n", " \t"])
    continuation = rng.choice(["", " ", "", "\n"]) + text(rng.choice([1, 1, 3, 20]))
    return (context, rng.choice([continuation, continuation, continuation, "" if context.strip() else "x"]))


def byte_level(**options):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, **options)


def divided(*patterns):
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*steps, byte_level(use_regex=False)])


def build(pre_tokenizer, normalizer=None, added=(), model=None, post_processor=None):
    tokenizer = Tokenizer(model or models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    options = {"vocab_size": 700, "special_tokens": ["<s>", "</s>", "<unk>"], "show_progress": False}
    if isinstance(model, models.WordPiece):
        trainer = trainers.WordPieceTrainer(**options)
    else:
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    tokenizer.train_from_iterator([text(200) for _ in range(8)], trainer)
    tokenizer.add_tokens(list(added))
    tokenizer.add_special_tokens(["<|im_start|>"])
    if post_processor is not None:
        tokenizer.post_processor = post_processor
    return tokenizer


def load(tokenizer, **model_args):
    with tempfile.TemporaryDirectory() as directory:
        tokenizer.save(os.path.join(directory, "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
        with open(os.path.join(directory, "tokenizer_config.json"), "w") as stream:
            json.dump({**config, "clean_up_tokenization_spaces": False}, stream)
        model = engine.fast_model(LocalCompletionsAPI)
        return model(
            base_url="http://127.0.0.1:9/v1/completions",
            tokenizer_backend="huggingface",
            model=directory,
            num_concurrent=4,
            **model_args,
        )


WITH_BOS = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
CASES = {
    # Name: encoder that the engine is to take, tokenizer, further model_args.
    "gpt2": ("SeamEncoder", build(byte_level()), {}),
    "nfc and digits": (
        "SeamEncoder",
        build(
            pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()]),
            normalizer=normalizers.NFC(),
            added=[AddedToken("  ", normalized=True), AddedToken("Haus", normalized=True), AddedToken("\n\n")],
        ),
        {},
    ),
    **{
        name: ("SeamEncoder", build(divided(pattern), normalizer=normalizers.NFC()), {})
        for name, pattern in seams._WORD_PATTERNS.items()
    },
    "numbers first": (
        "SeamEncoder",
        build(divided(*seams._NUMBER_PATTERNS, seams._WORD_PATTERNS["cl100k"]), post_processor=WITH_BOS),
        {"custom_prefix_token_id": 5},
    ),
    "behind BOS": ("Encoder", build(byte_level(), post_processor=WITH_BOS), {"add_bos_token": True}),
    "undivided": ("Encoder", build(byte_level(use_regex=False)), {}),
    "numbers only": ("Encoder", build(divided(r"\p{N}")), {}),
    "prefix space": ("Encoder", build(pre_tokenizers.ByteLevel(add_prefix_space=True)), {}),
    "another pattern": ("Encoder", build(divided(r"\p{L}+ ?|[^\p{L}]+")), {}),
    "metaspace": ("Encoder", build(pre_tokenizers.Metaspace()), {}),
    "other normalizer": ("Encoder", build(byte_level(), normalizer=normalizers.NFKC()), {}),
    "token over a seam": ("Encoder", build(byte_level(), added=["river don"]), {}),
    "token that eats blanks": ("Encoder", build(byte_level(), added=[AddedToken("of", lstrip=True)]), {}),
    "token that looks around": ("Encoder", build(byte_level(), added=[AddedToken("the", single_word=True)]), {}),
    "dropout": (None, build(byte_level(), model=models.BPE(dropout=0.5)), {}),
    "wordpiece": (
        "Encoder",
        build(
            pre_tokenizers.BertPreTokenizer(),
            normalizer=normalizers.BertNormalizer(),
            model=models.WordPiece(unk_token="<unk>"),
        ),
        {},
    ),
}


def compare(tokenizer, model_args):
    lm = load(tokenizer, **model_args)
    found = encoder.open_encoder(lm)
    report = {"encoder": found and type(found).__name__, "different": []}
    if found is None:
        return report
    pairs = [pair() for _ in range(settings["pairs"])]
    # What lm_eval's own loglikelihood hands on to be sent, request by request.
    lm._loglikelihood_tokens = lambda encoded, **_: [tuple(ids) for _, *ids in encoded]
    requests = [SimpleNamespace(args=args) for args in pairs]
    expected = super(engine._Engine, lm).loglikelihood(requests, disable_tqdm=True)
    given = [ids for at in range(0, len(pairs), 40) for ids in found.encode_pairs(pairs[at : at + 40])]
    report["different"] = [(args, *ids) for args, *ids in zip(pairs, expected, given) if ids[0] != ids[1]]
    texts = [context for context, _ in pairs]
    for one, ids in zip(texts, found.encode(texts)):
        if ids != lm.tok_encode(one):
            report["different"].append(one)
    return report


def own_method(lm):
    own = type("Own", (type(lm.tokenizer),), {"_encode_plus": lambda self, *args, **kwargs: None})
    lm.tokenizer.__class__ = own
    return encoder.open_encoder(lm)


def fallbacks():
    """By name: whether lm_eval's own code is left to do it."""
    lm = load(CASES["gpt2"][1])
    slow = load(CASES["gpt2"][1])
    slow.tokenizer = SimpleNamespace(is_fast=False)
    chat = JsonChatStr("[]")
    report = {
        "other model": engine.fast_model(LocalChatCompletion) is LocalChatCompletion,
        "slow tokenizer": encoder.open_encoder(slow) is None,
        "tokenizer with a method of its own": own_method(load(CASES["gpt2"][1])) is None,
        "chat messages": lm._encoder([(chat,), (chat,)], 1) is None,
        "images": lm._encoder([("a", {}, {"visual": []})], 1) is None,
    }
    encoder.SeamEncoder.encode = lambda _self, texts: [[1] for _ in texts]
    report["texts that differ"] = lm._encoder([("so it is",)], 1) is None
    report["pairs that differ"] = lm._encoder([("so it", " is")], 2) is None
    plugin = type("Plugin", (LocalCompletionsAPI,), {})
    report["plugin's model"] = engine.fast_model(plugin) is plugin
    TemplateAPI.tok_encode = lambda self, string, **_: [len(string)]
    report["patched lm_eval"] = engine.fast_model(LocalCompletionsAPI) is LocalCompletionsAPI
    return report


cases = {name: {"expected": kind, **compare(tokenizer, model_args)} for name, (kind, tokenizer, model_args) in CASES.items()}
print(json.dumps({"cases": cases, "fallbacks": fallbacks()}))
