"""Configuration of a Llama whose feed-forward blocks have a width for each layer.

`block_configs` has an entry for each layer, in the schema of `nemotron-nas`. `ffn.intermediate_size` is the width;
`ffn.ffn_mult` says the same to programs that round it to a multiple of 256.
"""

from transformers import LlamaConfig


class Block(dict):
    """A JSON object whose keys are attributes too: vLLM reads entries of `block_configs` by attribute."""

    def __getattr__(self, name):
        # vLLM prefers `ffn_mult`, which is exact for multiples of 256 only.
        if name not in self or (name == "ffn_mult" and "intermediate_size" in self):
            raise AttributeError(name)
        value = self[name]
        return Block(value) if isinstance(value, dict) else value


class DeciLMConfig(LlamaConfig):
    model_type = "nemotron-nas"

    def __init__(self, block_configs=None, **kwargs):
        super().__init__(**kwargs)
        self.block_configs = [Block(block) for block in block_configs or []]
