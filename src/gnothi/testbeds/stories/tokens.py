"""The story models' own tokenizer, and records as rows of token ids.

Source: the paper's models have a byte-pair tokenizer of 8,192 tokens that splits digits and falls back to bytes; so has
this one, from the `tokenizers` library, of whatever size, trained on the text at hand. `<bos>` stands before each record
and ends it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, trainers

from gnothi.errors import DataError
from gnothi.testbeds.stories.records import STORY, Record, instruction

BOS, PAD = "<bos>", "<pad>"
BOS_ID, PAD_ID = 0, 1
_AT_ONCE = 1000  # what the tokenizer gives for a record takes many times its tokens


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Learn byte pairs.

    Args:
        texts: What to learn from.
        size: Tokens at most; 258 are the specials and the bytes.

    Raises:
        DataError: Too few tokens for the bytes.
    """
    if size < 300:
        raise DataError(f"vocabulary must have at least 300 tokens (258 are bytes and specials), got {size}.")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[BOS, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def prompts(tokenizer: Tokenizer, records: Sequence[Record], rng: np.random.Generator) -> list[list[int]]:
    """Token ids of each record's instruction, from `<bos>` to `Story:`."""
    encoded = tokenizer.encode_batch([instruction(record, rng) for record in records])
    return [[BOS_ID, *e.ids] for e in encoded]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record as token ids."""

    ids: list[int]
    """With `<bos>` at both ends."""
    start: int
    """Where the story begins."""
    outcome: tuple[int, int]
    """Where the sentence that says how it turned out begins and ends; equal where it is not known."""


def encode(tokenizer: Tokenizer, records: Sequence[Record], rng: np.random.Generator) -> list[Encoded]:
    """Whole records.

    Args:
        tokenizer: Theirs.
        records: What is encoded.
        rng: Order of the lines of instructions.
    """
    found: list[Encoded] = []
    for start in range(0, len(records), _AT_ONCE):
        part = records[start : start + _AT_ONCE]
        bodies = tokenizer.encode_batch([f" {record.story}" for record in part])
        found += [_encoded(*one) for one in zip(part, prompts(tokenizer, part, rng), bodies, strict=True)]
    return found


def _encoded(record: Record, head: list[int], body: Encoding) -> Encoded:
    at = record.story.find(record.outcome) + 1 if record.outcome else 0  # the story comes after a space
    inside = [i for i, (_, end) in enumerate(body.offsets) if at < end <= at + len(record.outcome)]
    first = len(head)
    outcome = (first + inside[0], first + inside[-1] + 1) if inside else (first, first)
    return Encoded([*head, *body.ids, BOS_ID], first, outcome)


def stories_alone(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of stories without instructions, after `<bos>`."""
    return [[BOS_ID, *e.ids] for e in tokenizer.encode_batch([f" {text}" for text in texts])]


def story_of(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """What a model wrote, cut where it begins another instruction."""
    told = tokenizer.decode(list(ids)).strip()
    for line in (f"{STORY}:", "Words:", "Features:", "Summary:", "Sentence:"):
        told = told.split(line)[0]
    return " ".join(told.split())
