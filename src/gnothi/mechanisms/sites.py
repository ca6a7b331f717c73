"""Names of the places inside a transformer: one scheme for every model.

| name | what is there | shape | in TransformerLens |
|---|---|---|---|
| `embed` | embedding of the tokens, without positions | (B, T, width) | `hook_embed` |
| `resid.L` | residual stream before block L; `resid.n` after the last of n | (B, T, width) | `blocks.L.hook_resid_pre` |
| `block.L.attn.out` | what attention adds to the stream | (B, T, width) | `blocks.L.hook_attn_out` |
| `block.L.mlp.out` | what the MLP adds to the stream | (B, T, width) | `blocks.L.hook_mlp_out` |
| `block.L.attn.head.H.out` | values of head H, mixed, before the output matrix | (B, T, head_width) | head H of `blocks.L.attn.hook_z` |
| `block.L.attn.heads` | those of all heads, side by side | (B, T, heads x head_width) | `blocks.L.attn.hook_z` |
| `block.L.mlp.neurons` | hidden units, which the MLP's last matrix reads | (B, T, mlp) | `blocks.L.mlp.hook_post` |

Where a model has a norm after attention or after the MLP (Gemma 2 and 3), `out` is what comes out of that norm, since that
is what is added; TransformerLens has the same under these names.
"""

import difflib
import re
from dataclasses import dataclass

from gnothi.errors import ModelError

PATTERNS = {
    "embed": "embed",
    "resid": "resid.{block}",
    "attn": "block.{block}.attn.out",
    "mlp": "block.{block}.mlp.out",
    "head": "block.{block}.attn.head.{head}.out",
    "heads": "block.{block}.attn.heads",
    "neurons": "block.{block}.mlp.neurons",
}
"""How a site of each kind is written."""

_READ = {
    kind: re.compile(p.replace(".", r"\.").replace("{block}", r"(?P<block>\d+)").replace("{head}", r"(?P<head>\d+)"))
    for kind, p in PATTERNS.items()
}
_TRANSFORMER_LENS = {
    "embed": "hook_embed",
    "resid": "blocks.{block}.hook_resid_pre",
    "attn": "blocks.{block}.hook_attn_out",
    "mlp": "blocks.{block}.hook_mlp_out",
    "head": "blocks.{block}.attn.hook_z",
    "heads": "blocks.{block}.attn.hook_z",
    "neurons": "blocks.{block}.mlp.hook_post",
}


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """A place where activations can be read and changed.

    >>> Site.parse("block.3.attn.head.1.out")
    Site(kind='head', block=3, head=1)
    >>> str(Site("resid", 4))
    'resid.4'
    """

    kind: str
    """A key of `PATTERNS`."""
    block: int | None = None
    """Counted from 0; None for `embed`."""
    head: int | None = None
    """Counted from 0; None where all heads are meant or none is."""

    def __post_init__(self) -> None:
        if self.kind not in PATTERNS:
            raise ModelError(f"Site.kind must be one of {', '.join(PATTERNS)}, got {self.kind!r}.")
        pattern = PATTERNS[self.kind]
        for name, value in (("block", self.block), ("head", self.head)):
            if (f"{{{name}}}" in pattern) != (value is not None) or (value is not None and value < 0):
                rule = "a number of at least 0" if f"{{{name}}}" in pattern else "None"
                raise ModelError(f"Site.{name} must be {rule} for the kind {self.kind!r}, got {value}.")

    def __str__(self) -> str:
        return PATTERNS[self.kind].format(block=self.block, head=self.head)

    @classmethod
    def parse(cls, text: "str | Site") -> "Site":
        """Read a name; a site is returned as it is.

        Raises:
            ModelError: A name outside the scheme; the message has the nearest name inside it.
        """
        if isinstance(text, Site):
            return text
        for kind, pattern in _READ.items():
            found = pattern.fullmatch(text)
            if found is not None:
                return cls(kind, **{name: int(value) for name, value in found.groupdict().items()})
        raise ModelError(f"site must be named as in mechanisms.sites, got {text!r}. Did you mean {nearest(text)}?")

    def transformer_lens(self, n_blocks: int) -> tuple[str, int | None]:
        """The name of the same place in TransformerLens, and the head's index on its second last axis.

        Args:
            n_blocks: Of the model: the stream after the last block is a `hook_resid_post`.

        >>> Site("resid", 2).transformer_lens(2)
        ('blocks.1.hook_resid_post', None)
        """
        if self.kind == "resid" and self.block == n_blocks:
            return f"blocks.{n_blocks - 1}.hook_resid_post", None
        return _TRANSFORMER_LENS[self.kind].format(block=self.block), self.head


def nearest(text: str) -> str:
    """The name of the scheme that comes nearest to a wrong one, with the numbers of the wrong one.

    >>> nearest("blocks.3.mlp.output")
    'block.3.mlp.out'
    """
    numbers = re.findall(r"\d+", text)
    blank = re.sub(r"\d+", "0", text)
    plain = {p.format(block=0, head=0): p for p in PATTERNS.values()}
    alike = [name for name in plain if name.count("0") == len(numbers)]
    close = difflib.get_close_matches(blank, alike, n=1, cutoff=0.8)
    found = (close or difflib.get_close_matches(blank, plain, n=1, cutoff=0.0))[0]
    block, head = [*numbers, "0", "0"][:2]
    return plain[found].format(block=block, head=head)
