"""Lines of key tables for the layers of OpenAI's CLIP, which many released files share."""

from internvideo_hf.checkpoints.table import Table, pairs, split_rows


def attention(released: str, ours: str) -> Table:
    """Return lines for torch's `MultiheadAttention`, which stacks queries, keys and values."""
    return {
        f"{released}.in_proj_{kind}": split_rows(*(f"{ours}.{part}_proj.{kind}" for part in "qkv"))
        for kind in ("weight", "bias")
    } | pairs({f"{released}.out_proj": f"{ours}.out_proj"})


def layer(released: str, ours: str) -> Table:
    """Return lines for a transformer layer, such as `visual.transformer.resblocks.{}`."""
    return attention(f"{released}.attn", f"{ours}.self_attn") | pairs(
        {
            f"{released}.ln_1": f"{ours}.layer_norm1",
            f"{released}.ln_2": f"{ours}.layer_norm2",
            f"{released}.mlp.c_fc": f"{ours}.mlp.fc1",
            f"{released}.mlp.c_proj": f"{ours}.mlp.fc2",
        }
    )
