"""Conversations to token ids for a local model: where the prompt ends and the answer begins. No torch here.

The prompt is rendered with the tokenizer's chat template if it has one, else with the plain renderer below. What
is scored or trained is always `ids(prompt) + ids(answer)`, so that scoring, training and generation condition on the
same prompt tokens.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any

from gnothi.errors import DataError, ModelError
from gnothi.records import Message, Messages, messages_to_json

PLAIN = "plain/1"
"""Name of the renderer used where a tokenizer has no chat template; part of a model's digest."""

_SENTINEL = "QXZANSWERQXZ"

SWITCHES = ("enable_thinking", "thinking")
"""Variables by which templates are told whether the model thinks before it answers (Qwen 3, SmolLM 3; DeepSeek, Granite)."""

_OPENED = re.compile(r"(?i)assistant[^'\"{}%]{0,40}<think>")
_THINK, _CLOSE = "<think>", "\n</think>\n\n"


def thinking_switch(template: str) -> str | None:
    """The variable that a chat template reads, if it has such a switch.

    >>> thinking_switch("{% if enable_thinking is defined and not enable_thinking %}...{% endif %}")
    'enable_thinking'
    """
    code = " ".join(re.findall(r"\{[{%].*?[}%]\}", template, re.DOTALL))
    return next((s for s in SWITCHES if re.search(rf"(?<![\w.'\"]){s}(?![\w'\"])", code)), None)


def thinking_state(template: str) -> str | None:
    """How a template is spoken to: `off` where it has a switch, `closed` where it always opens a thought, else None."""
    if thinking_switch(template):
        return "off"
    return "closed" if _OPENED.search(template) else None


def without_system(messages: Messages) -> Messages:
    r"""Put system messages in front of the first user's: for templates that refuse them or leave them out.

    >>> without_system((Message("system", "Be brief."), Message("user", "Hi")))[0].content
    'Be brief.\n\nHi'
    """
    system = "\n\n".join(m.content for m in messages if m.role == "system")
    rest = [m for m in messages if m.role != "system"]
    first = next((i for i, m in enumerate(rest) if m.role == "user"), None)
    if not system:
        return messages
    if first is None:
        return (Message("user", system), *rest)
    rest[first] = Message("user", f"{system}\n\n{rest[first].content}")
    return tuple(rest)


def render_plain(messages: Messages) -> str:
    r"""Render a conversation for a model without a chat template, up to where the answer begins.

    >>> render_plain((Message("system", "Be brief."), Message("user", "A or B?")))
    'Be brief.\n\nUser: A or B?\nAssistant:'
    """
    parts = []
    for message in messages:
        if message.role == "system":
            parts.append(f"{message.content}\n\n")
        else:
            parts.append(f"{message.role.capitalize()}: {message.content}\n")
    return "".join(parts) + "Assistant:"


def _default(template: Any) -> str:
    """The template that is used where a tokenizer has several, by name."""
    if isinstance(template, dict):
        template = template.get("default")
    return template if isinstance(template, str) else ""


def _closed(text: str) -> str:
    """Close a thought that a prompt ends in."""
    return text.rstrip() + _CLOSE if text.rstrip().endswith(_THINK) else text


class Codec:
    """Turns conversations and answers into token ids for one tokenizer.

    `glue` is the white space between prompt and answer: a space for the plain renderer, and for a template whatever
    white space it puts before an assistant's content beyond its generation prompt. It goes before an answer that does
    not start with white space itself, so that `A` and ` A` are the same answer.

    Attributes:
        renderer: `template`, or the name of the plain renderer.
        thinking: None where the template knows of no thinking; `off` or `on` as its switch was set; `closed` where it
            always opens a thought, which is closed again at once, so that what follows is the answer.
    """

    def __init__(self, tokenizer: Any, *, thinking: bool = False):
        """Look at a tokenizer's template.

        Args:
            tokenizer: A transformers tokenizer.
            thinking: Whether a model that can think before it answers is let to; answers are then no longer what follows
                the prompt, so that scoring means nothing.
        """
        self.tokenizer = tokenizer
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        self.renderer = "template" if self.has_template else PLAIN
        template = _default(getattr(tokenizer, "chat_template", None))
        switch = thinking_switch(template)
        self.thinking = thinking_state(template)
        if thinking and self.thinking:
            self.thinking = "on"
        self._switch: dict[str, Any] = {switch: thinking} if switch else {}
        self.glue, self.end_ids = self._boundary()

    def _apply(self, rows: Any, generation: bool) -> Any:
        """What the template makes of one conversation or several."""
        found = self.tokenizer.apply_chat_template(
            rows, tokenize=False, add_generation_prompt=generation, **self._switch
        )
        if self.thinking != "closed" or not generation:
            return found
        return _closed(found) if isinstance(found, str) else [_closed(text) for text in found]

    def _template(self, messages: Messages, generation: bool) -> str:
        try:
            return self._apply(messages_to_json(messages), generation)
        except Exception as error:  # jinja2 raises many kinds; all mean that the template refuses this conversation
            roles = [m.role for m in messages]
            raise ModelError(
                f"chat template must accept roles {roles}, got {type(error).__name__}: {error}. "
                "Render the conversation without that role, or give the tokenizer another template."
            ) from error

    def _boundary(self) -> tuple[str, tuple[int, ...]]:
        """The glue, and the first token of what ends an assistant's turn (the tokenizer's EOS if nothing special)."""
        eos = () if self.tokenizer.eos_token_id is None else (int(self.tokenizer.eos_token_id),)
        if not self.has_template:
            return " ", eos
        user = Message("user", "x")
        prompt = self._template((user,), True)
        try:
            whole = self._template((user, Message("assistant", _SENTINEL)), False)
        except ModelError:
            return "", eos
        before, found, after = whole.partition(_SENTINEL)
        extra = before[len(prompt) :] if found and before.startswith(prompt) else ""
        glue = extra if extra.isspace() else ""
        end = self.tokenizer(after, add_special_tokens=False)["input_ids"][:1] if after.strip() else []
        return glue, tuple(end) or eos

    @functools.cached_property
    def system_role(self) -> bool:
        """Whether a system message reaches the model."""
        if not self.has_template:
            return True
        try:
            return _SENTINEL in self._template((Message("system", _SENTINEL), Message("user", "x")), True)
        except ModelError:
            return False

    def join(self, answer: str) -> str:
        """The answer's text as it follows a prompt."""
        return answer if not answer or answer[0].isspace() else self.glue + answer

    def render(self, prompts: Sequence[Messages]) -> list[str]:
        """The prompts' texts; a last assistant message is a started answer and ends its text."""
        if any(not messages for messages in prompts):
            raise DataError("prompt must have at least one message, got none.")
        if any(m.role == "system" for messages in prompts for m in messages) and not self.system_role:
            prompts = [without_system(messages) for messages in prompts]
        started = [m[-1].content if m[-1].role == "assistant" else None for m in prompts]
        asked = [m if s is None else m[:-1] for m, s in zip(prompts, started, strict=True)]
        texts = self._templates(asked) if self.has_template else [render_plain(m) for m in asked]
        return [t if s is None else t + self.join(s) for t, s in zip(texts, started, strict=True)]

    def _templates(self, asked: Sequence[Messages]) -> list[str]:
        """All at once, because transformers spends more on a call than on a conversation."""
        if not asked:
            return []
        rows = [messages_to_json(messages) for messages in asked]
        try:
            return self._apply(rows, True)
        except Exception:  # again one by one, so that the message names the conversation's roles
            return [self._template(messages, True) for messages in asked]

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        # a template writes its own BOS; without one the tokenizer adds what it adds to any text
        special = not self.has_template
        encoded = self._encode_batch(texts, special)
        eos = self.tokenizer.eos_token_id
        if special and eos is not None:
            # some tokenizers close every text with EOS: a prompt is not closed
            encoded = [ids[:-1] if len(ids) > 1 and ids[-1] == eos else ids for ids in encoded]
        return encoded

    def _encode_batch(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return self.tokenizer(list(texts), add_special_tokens=special, return_attention_mask=False)["input_ids"]
        # the same as calling the tokenizer, which spends longer on wrapping each result than on making it
        backend.no_padding()
        backend.no_truncation()
        return [e.ids for e in backend.encode_batch_fast(list(texts), add_special_tokens=special)]

    def encode_many(
        self, prompts: Sequence[Messages], answers: Sequence[Sequence[str]]
    ) -> tuple[list[list[int]], list[list[list[int]]]]:
        """Token ids of prompts and of each prompt's answers.

        Args:
            prompts: (n_prompts,) conversations.
            answers: For each prompt any number of answers.

        Returns:
            Prompt ids, one list a prompt; and for each prompt the ids of each of its answers. An answer's ids are what
            the tokenizer adds to the prompt's ids when it follows in the text; where it would merge across the
            boundary, what it adds to a line's end.

        Raises:
            DataError: An empty conversation, or an answer without tokens.
        """
        texts = self.render(prompts)
        started = [messages[-1].role == "assistant" for messages in prompts]
        flat, owners = [], []
        for j, options in enumerate(answers):
            for answer in options:
                flat.append(answer if started[j] else self.join(answer))
                owners.append(j)
        encoded = self._tokenize([*texts, *(texts[j] + a for j, a in zip(owners, flat, strict=True))])
        prompt_ids, whole_ids = encoded[: len(texts)], encoded[len(texts) :]
        answer_ids: list[list[list[int]]] = [[] for _ in prompts]
        for j, answer, whole in zip(owners, flat, whole_ids, strict=True):
            head = prompt_ids[j]
            follows = whole[: len(head)] == head and len(whole) > len(head)
            ids = whole[len(head) :] if follows else self._continued(answer)
            if not ids:
                raise DataError(f"answer must have at least one token, got {answer!r}.")
            answer_ids[j].append(list(ids))
        if any(not ids for ids in prompt_ids):
            raise DataError("prompt must have at least one token, got an empty text. Give the conversation content.")
        return prompt_ids, answer_ids

    def _continued(self, answer: str) -> list[int]:
        """Ids of an answer inside a text: some tokenizers put a space before a text, which is no part of the answer."""
        before, whole = (self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("\n", f"\n{answer}"))
        if whole[: len(before)] == before and len(whole) > len(before):
            return whole[len(before) :]
        return self.tokenizer(answer, add_special_tokens=False)["input_ids"]

    def first_tokens(self, messages: Messages, options: Sequence[str]) -> list[int]:
        """The first token of each option after a prompt, for those who read nothing else.

        Raises:
            ModelError: Two options begin with the same token.
        """
        _, answers = self.encode_many([messages], [options])
        first = [ids[0] for ids in answers[0]]
        for i, token in enumerate(first):
            if token in first[:i]:
                same, piece = options[first.index(token)], self.tokenizer.convert_ids_to_tokens(token)
                raise ModelError(
                    f"options must begin with different tokens, got {same!r} and {options[i]!r} both with {piece!r}. "
                    "Score whole options (option_logprobs), or ask in another way."
                )
        return first

    def encode(self, messages: Messages, answer: str | None = None) -> tuple[list[int], int]:
        """Token ids of a prompt and, if given, of an answer after it.

        Returns:
            The ids, and the position of the answer's first token (the number of prompt tokens).
        """
        prompts, answers = self.encode_many([messages], [[] if answer is None else [answer]])
        ids = prompts[0] + (answers[0][0] if answer is not None else [])
        return ids, len(prompts[0])

    @functools.cached_property
    def digit_ids(self) -> list[int]:
        """Ids of all tokens whose text begins with a digit: what would make a number longer."""
        tokenizer = self.tokenizer
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        return [i for i, piece in enumerate(pieces) if piece and piece[0].isdigit()]

    def token_of(self, word: str) -> list[int]:
        """Ids of the single tokens that spell `word`, with and without a space before it.

        Raises:
            ModelError: The word is no single token of this tokenizer.
        """
        found: list[int] = []
        unknown = self.tokenizer.unk_token_id
        for text in (word, f" {word}"):
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] != unknown and ids[0] not in found:
                found.append(ids[0])
        if not found:
            raise ModelError(
                f"row word must be one token of the tokenizer, got {word!r}. "
                "Use kind 'lora', or a word that the tokenizer knows."
            )
        return found
