"""The joint model: one encoder, a tag head and a document head, one forward pass."""

import inspect

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class JointModel(nn.Module):
    """Reads a window and says of each token its tags and what it adds to each document label."""

    def __init__(self, encoder: PreTrainedModel, tags: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        hidden = encoder.config.hidden_size
        self.tag_head = nn.Linear(hidden, tags)
        # Scores weigh tokens against each other, so a bias would cancel out.
        self.label_scores = nn.Linear(hidden, labels, bias=False)
        self.label_values = nn.Linear(hidden, labels)
        # All tokens weigh the same at first; the values decide what is worth attention.
        nn.init.zeros_(self.label_scores.weight)
        self._has_token_types = "token_type_ids" in inspect.signature(encoder.forward).parameters

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """*Shape:* (windows, tokens) each -> (…, tags), (…, labels), (…, labels)."""
        types = {"token_type_ids": token_type_ids} if self._has_token_types else {}
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        hidden = self.dropout(hidden)
        return self.tag_head(hidden), self.label_scores(hidden), self.label_values(hidden)


def document_logits(scores: Tensor, values: Tensor, document_of: Tensor, documents: int) -> Tensor:
    """Label-wise attention over all tokens of each document.

    serving/document_head.py judges by the best stretch of a text of more than 1,024 tokens; of such
    texts a corpus of articles has too few to train on, and shorter ones are judged alike in both.

    *Shape:* scores, values (tokens, labels); document_of (tokens,) -> (documents, labels).
    """
    rows = document_of[:, None].expand_as(scores)
    empty = scores.new_full((documents, scores.shape[1]), -torch.inf)
    highest = empty.scatter_reduce(0, rows, scores.detach(), "amax")
    weights = torch.exp(scores - highest[document_of])
    # Sums as products: a GPU adds them up in the same order every time, which scatter_add does not.
    members = (document_of == torch.arange(documents, device=scores.device)[:, None]).to(scores.dtype)
    return (members @ (weights * values)) / (members @ weights)
