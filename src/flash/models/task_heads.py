"""Heads that answer questions about a text, one implementation for all architectures."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import (
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from flash.errors import InputError
from flash.models.inputs import real_tokens, segments_of_positions
from flash.models.losses import class_ids, class_loss, span_loss, value_loss


class ClassificationHead(nn.Module):
    """Score the labels from hidden states: dropout, then a linear map."""

    def __init__(self, hidden_size: int, num_labels: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, num_labels)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map ``(..., hidden_size)`` to logits ``(..., num_labels)``."""
        return self.out_proj(self.dropout(hidden_states))


def classification_head(config: PreTrainedConfig, num_labels: int | None = None) -> ClassificationHead:
    """Build the head for the labels of ``config``."""
    dropout = config.classifier_dropout
    if dropout is None:
        dropout = config.dropout if hasattr(config, "dropout") else config.hidden_dropout_prob
    return ClassificationHead(
        config.hidden_size, config.num_labels if num_labels is None else num_labels, dropout=dropout
    )


class TaskMixin:
    """What the heads share: running the model without a head, and one vector a sequence."""

    config: Any
    base_model: Any
    classifier: ClassificationHead
    answers_rows = True  # one answer a row; a classifier of tokens answers each token, packed or not

    def encode(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        **options: Any,
    ) -> Any:
        """Run the model without a head on whole texts."""
        if options.get("past_key_values") is not None:
            raise InputError("past_key_values continues a text; this head reads a whole one: leave it out")
        if self.answers_rows:
            if options.get("seq_idx") is not None:
                raise InputError("seq_idx packs several sequences into a row, but this head gives one answer a row")
            if segments_of_positions(position_ids, attention_mask) is not None:
                raise InputError(
                    "position_ids that begin anew pack several sequences into a row, but this head gives one answer a "
                    "row; where they are one text, give its attention_mask"
                )
        return self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **options | {"use_cache": False, "return_dict": True},
        )

    def pool(self, hidden_states: Tensor, input_ids: Tensor | None, attention_mask: Tensor | None) -> Tensor:
        """Take one vector of each sequence, by ``config.classifier_pooling``.

        Args:
            hidden_states: ``(batch_size, sequence_length, hidden_size)``.
            input_ids: As for the model, like the mask: they tell which tokens are real.
            attention_mask: 1 where a token is real.

        Returns:
            ``(batch_size, hidden_size)``: the first real token's ([CLS]; the last one's in a causal model, which has
            seen all), the mean of the real tokens, or the sum of the two. A row without a real token takes its first
            position, and zeros for the mean.
        """
        pooling = self.config.classifier_pooling
        batch_size, length = hidden_states.shape[:2]
        last = getattr(self.config, "causal", False)
        mask = real_tokens(
            input_ids,
            attention_mask,
            shape=(batch_size, length),
            past_length=0,
            pad_token_id=self.config.pad_token_id,
        )
        if mask is not None:
            mask = mask.to(hidden_states.device)
        if pooling == "mean":
            return _mean(hidden_states, mask)
        token = _token_that_saw_all(hidden_states, mask, last=last)
        return token if pooling == "cls" else token + _mean(hidden_states, mask)


def _token_that_saw_all(hidden_states: Tensor, mask: Tensor | None, *, last: bool) -> Tensor:
    batch_size, length = hidden_states.shape[:2]
    if mask is None:
        return hidden_states[:, -1 if last else 0]
    real = mask.int()
    index = length - 1 - real.flip(1).argmax(dim=1) if last else real.argmax(dim=1)
    return hidden_states[torch.arange(batch_size, device=hidden_states.device), index]


def _mean(hidden_states: Tensor, mask: Tensor | None) -> Tensor:
    """Average in float32 at least: a sum of many tokens loses digits in bfloat16."""
    dtype = torch.promote_types(hidden_states.dtype, torch.float32)
    if mask is None:
        return hidden_states.mean(dim=1, dtype=dtype).to(hidden_states.dtype)
    total = hidden_states.masked_fill(~mask[..., None], 0).sum(dim=1, dtype=dtype)
    return (total / mask.sum(dim=1, keepdim=True).clamp_min(1)).to(hidden_states.dtype)


class SequenceClassificationMixin(TaskMixin):
    """Forward pass of a classifier of whole texts."""

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Score the labels of each sequence; with labels, also compute the loss of ``config.problem_type``.

        Args:
            input_ids: As for the model without a head, like the next four.
            attention_mask: 1 where a token is real.
            token_type_ids: Segment of each token.
            position_ids: Position of each token.
            inputs_embeds: Word embeddings in place of ``input_ids``.
            labels: Class ids ``(batch_size,)``; values ``(batch_size,)`` or ``(batch_size, num_labels)`` to regress;
                0/1 floats ``(batch_size, num_labels)`` where several labels may hold.
            **kwargs: Options of the model without a head, and ``num_items_in_batch``.
        """
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)
        outputs = self.encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits = self.classifier(self.pool(outputs.last_hidden_state, input_ids, attention_mask))
        loss = None
        if labels is not None:
            loss = self._loss(logits, labels, num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def _loss(self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None) -> Tensor:
        config = self.config
        problem_type = config.problem_type
        if problem_type is None:
            several = config.num_labels > 1
            integers = not labels.is_floating_point() and labels.dtype != torch.bool
            one_of_several = "single_label_classification" if integers else "multi_label_classification"
            problem_type = one_of_several if several else "regression"
            if several and integers and labels.shape == logits.shape:
                raise InputError(
                    f"labels of shape {tuple(labels.shape)} are integers, which number one label of each sequence; "
                    "where several may hold, give floats, or problem_type='multi_label_classification'"
                )
        if problem_type == "single_label_classification":
            labels = labels[:, 0] if labels.dim() == 2 and labels.shape[1] == 1 else labels
            labels = class_ids(labels, logits.shape[:1], config.num_labels, what="labels of the configuration")
            loss = class_loss(logits, labels, num_items)
        else:
            loss = value_loss(logits, labels, problem_type, num_items)
        if config.problem_type is None:
            # as in transformers, the first labels decide; but not those that were refused
            config.problem_type = problem_type
        return loss


class TokenClassificationMixin(TaskMixin):
    """Forward pass of a classifier of tokens."""

    answers_rows = False

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Score the labels of each token; with labels, also compute the loss.

        Args:
            input_ids: As for the model without a head, like the next four.
            attention_mask: 1 where a token is real.
            token_type_ids: Segment of each token.
            position_ids: Position of each token.
            inputs_embeds: Word embeddings in place of ``input_ids``.
            labels: Class ids ``(batch_size, sequence_length)``, -100 where not scored.
            **kwargs: Options of the model without a head, and ``num_items_in_batch``.
        """
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)
        outputs = self.encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits = self.classifier(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            labels = class_ids(labels, logits.shape[:2], self.config.num_labels, what="labels of the configuration")
            loss = class_loss(logits, labels, num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class QuestionAnsweringMixin(TaskMixin):
    """Forward pass of a reader that points at the span of an answer."""

    qa_outputs: nn.Linear

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """Score each token as first and as last one of the answer; with positions, also compute the loss.

        Args:
            input_ids: As for the model without a head, like the next four.
            attention_mask: 1 where a token is real.
            token_type_ids: Segment of each token.
            position_ids: Position of each token.
            inputs_embeds: Word embeddings in place of ``input_ids``.
            start_positions: First token of each answer, ``(batch_size,)``; one at or beyond the end of the input (an
                answer that was cut off) is not scored.
            end_positions: Last token of each answer.
            **kwargs: Options of the model without a head. (``Trainer`` counts no answers: under accumulation the
                other answers of a micro-batch in which some were cut off weigh more.)
        """
        outputs = self.encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        start_logits, end_logits = self.qa_outputs(outputs.last_hidden_state).unbind(dim=-1)
        if (start_positions is None) != (end_positions is None):
            raise InputError("give both start_positions and end_positions, or neither")
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(start_logits, end_logits, start_positions, end_positions)
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class MultipleChoiceMixin(TaskMixin):
    """Forward pass of a chooser among texts."""

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> MultipleChoiceModelOutput:
        """Score each choice; with labels, also compute the loss.

        Args:
            input_ids: Token ids ``(batch_size, choices, sequence_length)``; the next four have the same first axes.
            attention_mask: 1 where a token is real.
            token_type_ids: Segment of each token.
            position_ids: Position of each token.
            inputs_embeds: Word embeddings ``(batch_size, choices, sequence_length, hidden_size)``.
            labels: Number of the right choice, ``(batch_size,)``.
            **kwargs: Options of the model without a head; hidden states and attentions have the rows of all choices.
        """
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)
        given = input_ids if input_ids is not None else inputs_embeds
        axes = 3 if input_ids is not None else 4
        if given is None or given.dim() != axes:
            raise InputError(
                "input_ids must have the shape (batch_size, choices, sequence_length), got "
                f"{None if given is None else tuple(given.shape)}"
            )
        choices = given.shape[1]
        others = {
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
        }
        for name, x in others.items():
            if x is not None and x.shape != given.shape[:3]:
                raise InputError(
                    f"{name} must have the shape (batch_size, choices, sequence_length) = {tuple(given.shape[:3])}, "
                    f"got {tuple(x.shape)}"
                )
        input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds = (
            None if x is None else x.flatten(0, 1) for x in (input_ids, *others.values(), inputs_embeds)
        )
        outputs = self.encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        scores = self.classifier(self.pool(outputs.last_hidden_state, input_ids, attention_mask))
        logits = scores.reshape(-1, choices)
        loss = None
        if labels is not None:
            labels = class_ids(labels, logits.shape[:1], choices, what="choices")
            loss = class_loss(logits, labels, num_items_in_batch)
        return MultipleChoiceModelOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
