"""Writes a GPT-2 with 30,000 random weights, always the same, to the directory argv[1]; its tokenizer lies there already."""

import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(20261124)
config = GPT2Config(
    vocab_size=258,
    n_positions=512,
    n_embd=32,
    n_layer=2,
    n_head=2,
    # Large enough for answers to differ clearly.
    initializer_range=0.4,
    bos_token_id=256,
    eos_token_id=257,
)
GPT2LMHeadModel(config).save_pretrained(sys.argv[1])
