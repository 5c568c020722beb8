"""Batches of about equal cost, of one kind of dialogue and of like length, so that little of them is padding."""

from dataclasses import dataclass, field
from random import Random

import torch
from transformers import PreTrainedTokenizerFast

from headrace_platform.catalog.tiny.dialogue import segments
from headrace_platform.catalog.tiny.sampler import KINDS, sample

TOKENS_A_BATCH = 4500
IGNORED = -100
"""What torch's cross entropy leaves out."""

# Rows are sorted by length within so many batches' worth of them: enough for even batches, and so few that
# the sampler's progress is never far behind the trainer's.
_BATCHES_DRAWN_AT_ONCE = 8

Row = tuple[list[int], list[bool]]
Batch = tuple[str, torch.Tensor, torch.Tensor]


@dataclass(slots=True)
class Batches:
    tokenizer: PreTrainedTokenizerFast
    rng: Random
    _ready: dict[str, list[list[Row]]] = field(default_factory=dict)

    def draw(self, progress: float) -> Batch:
        """The kind, the ids to read, and the ids to predict; what the model is given, it does not learn."""
        kind = self.rng.choices(KINDS, [kind.share for kind in KINDS])[0].name
        if not self._ready.get(kind):
            self._ready[kind] = self._batches(kind, progress)
        rows = self._ready[kind].pop()
        width = max(len(ids) for ids, _ in rows) - 1
        read = torch.full((len(rows), width), self.tokenizer.pad_token_id)
        predict = torch.full((len(rows), width), IGNORED)
        for index, (ids, learnt) in enumerate(rows):
            targets = [token if counts else IGNORED for token, counts in zip(ids, learnt, strict=True)]
            read[index, : len(ids) - 1] = torch.tensor(ids[:-1])
            predict[index, : len(ids) - 1] = torch.tensor(targets[1:])
        return kind, read, predict

    def _batches(self, kind: str, progress: float) -> list[list[Row]]:
        rows: list[Row] = []
        tokens = 0
        while tokens < _BATCHES_DRAWN_AT_ONCE * TOKENS_A_BATCH:
            rows.append(self._row(kind, progress))
            tokens += len(rows[-1][0])
        rows.sort(key=lambda row: len(row[0]))
        batches: list[list[Row]] = [[]]
        for row in rows:
            if (len(batches[-1]) + 1) * len(row[0]) > TOKENS_A_BATCH and batches[-1]:
                batches.append([])
            batches[-1].append(row)
        self.rng.shuffle(batches)
        return batches

    def _row(self, kind: str, progress: float) -> Row:
        ids: list[int] = []
        learnt: list[bool] = []
        for segment in segments(sample(kind, self.rng, progress)):
            piece = self.tokenizer.backend_tokenizer.encode(segment.text, add_special_tokens=False).ids
            ids += piece
            learnt += [segment.learnt] * len(piece)
        return ids, learnt
