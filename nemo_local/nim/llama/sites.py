"""The places of a Llama at which joined linear layers stand."""

Site = tuple[int, str]
"""Layer number and part: qkv, o, gate_up or down; (-1, "head") is the language head."""

PARTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
HEAD: Site = (-1, "head")


def member_names(site: Site) -> list[str]:
    """The linear layers of transformers' Llama that are joined at a site."""
    layer, part = site
    return ["lm_head"] if site == HEAD else [f"model.layers.{layer}.{m}" for m in PARTS[part]]
