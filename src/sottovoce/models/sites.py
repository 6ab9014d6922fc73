"""The sites that encoder-decoder transformers share, made from the names of their modules."""

from collections.abc import Sequence

from sottovoce.models.structure import Attention, Collected, Inner, Site, Unit


def self_attention_sites(
    block: str, *, norm: str | None, out: str, over: str, part: str = "self_attn"
) -> tuple[Site, ...]:
    """Queries, keys and values read `norm`; what attention mixes, written by v_proj, is read by `out`."""
    attention, writer = f"{block}.{part}", norm and f"{block}.{norm}"
    readers = tuple(f"{attention}.{each}_proj" for each in ("q", "k", "v"))
    return (
        Site(f"{block}.attn_in", readers, writer, over=over, component="self_attention"),
        Site(
            f"{block}.attn_out", (f"{attention}.{out}",), f"{attention}.v_proj", over=over, component="self_attention"
        ),
    )


def attention_of(block: str, part: str, *, out: str, head_width: int, rotary: bool) -> Attention:
    """The attention `part` of a block, by the layers that its sites name too."""
    query, key, value = (f"{block}.{part}.{name}_proj" for name in ("q", "k", "v"))
    module = f"{block}.{part}"
    return Attention(module, part == "encoder_attn", query, key, value, f"{module}.{out}", head_width, rotary)


def neurons_of(first: str, second: str, *, gated: bool = False) -> Inner:
    """The neurons between the two layers of an MLP; gated, where the first has the gates' rows behind the values'."""
    return Inner(first, "neurons", (first,), second, runs=2 if gated else 1)


def cross_attention_sites(block: str, *, norm: str, out: str) -> tuple[Site, ...]:
    """Queries read `norm`; keys and values read the encoder's output, one site for all decoder blocks."""
    attention = f"{block}.encoder_attn"
    return (
        Site(
            f"{block}.cross_q", (f"{attention}.q_proj",), f"{block}.{norm}", over="tokens", component="cross_attention"
        ),
        Site(
            "decoder.memory",
            (f"{attention}.k_proj", f"{attention}.v_proj"),
            collected="memory",
            component="cross_attention",
        ),
        Site(
            f"{block}.cross_out",
            (f"{attention}.{out}",),
            f"{attention}.v_proj",
            over="tokens",
            component="cross_attention",
        ),
    )


def leaving_site(norm: str, blocks: Sequence[Unit]) -> Site:
    """What leaves the encoder, once for the keys and values of all decoder blocks, with the norm that writes it."""
    readers = [name for unit in blocks for site in unit.sites if site.collected == "memory" for name in site.readers]
    return Site("encoder.out", tuple(readers), norm, collected="out", component="cross_attention")


def token_site(*, tied: bool) -> Site:
    """The table of tokens: by the head's statistics where it is the head too, else only looked up."""
    collected: Collected = "head" if tied else "lookup"
    return Site("decoder.tokens", ("decoder.embed_tokens",), over="tokens", collected=collected, component="embeddings")


def head_sites(*, tied: bool, norm: str) -> tuple[Site, ...]:
    """What a head of its own reads; a tied one is compressed with the table of tokens."""
    return () if tied else (Site("decoder.head", ("proj_out",), f"decoder.{norm}", over="tokens", component="head"),)
