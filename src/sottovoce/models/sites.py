"""The sites that encoder-decoder transformers share, made from the names of their modules."""

from sottovoce.models.structure import Attention, Site


def self_attention_sites(block: str, *, norm: str, out: str, over: str) -> tuple[Site, ...]:
    """Queries, keys and values read `norm`; what attention mixes, written by v_proj, is read by `out`."""
    attention = f"{block}.self_attn"
    readers = tuple(f"{attention}.{part}_proj" for part in ("q", "k", "v"))
    return (
        Site(f"{block}.attn_in", readers, f"{block}.{norm}", over=over),
        Site(f"{block}.attn_out", (f"{attention}.{out}",), f"{attention}.v_proj", over=over),
    )


def attention_of(block: str, part: str, *, out: str, head_width: int, rotary: bool) -> Attention:
    """The attention `part` of a block, by the layers that its sites name too."""
    query, key, value = (f"{block}.{part}.{name}_proj" for name in ("q", "k", "v"))
    return Attention(query, key, value, f"{block}.{part}.{out}", head_width, rotary)


def cross_attention_sites(block: str, *, norm: str, out: str) -> tuple[Site, ...]:
    """Queries read `norm`; keys and values read the encoder's output, one site for all decoder blocks."""
    attention = f"{block}.encoder_attn"
    return (
        Site(f"{block}.cross_q", (f"{attention}.q_proj",), f"{block}.{norm}", over="tokens"),
        Site("decoder.memory", (f"{attention}.k_proj", f"{attention}.v_proj"), collected="memory"),
        Site(f"{block}.cross_out", (f"{attention}.{out}",), f"{attention}.v_proj", over="tokens"),
    )


def token_site(*, tied: bool) -> Site:
    """The table of tokens: by the head's statistics where it is the head too, else only looked up."""
    return Site("decoder.tokens", ("decoder.embed_tokens",), over="tokens", collected="head" if tied else "lookup")


def head_sites(*, tied: bool, norm: str) -> tuple[Site, ...]:
    """What a head of its own reads; a tied one is compressed with the table of tokens."""
    return () if tied else (Site("decoder.head", ("proj_out",), f"decoder.{norm}", over="tokens"),)
