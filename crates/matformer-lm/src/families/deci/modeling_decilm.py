"""A Llama whose feed-forward blocks have a width for each layer."""

import copy

from torch import nn
from transformers import LlamaForCausalLM

from .configuration_decilm import DeciLMConfig


class DeciLMForCausalLM(LlamaForCausalLM):
    config_class = DeciLMConfig

    def __init__(self, config):
        super().__init__(config)
        # `attention_bias` is for all four projections, unless `qkv_bias` says otherwise for three of them.
        qkv_bias = getattr(config, "qkv_bias", config.attention_bias)
        for layer, block in zip(self.model.layers, config.block_configs):
            narrow = copy.copy(config)
            narrow.intermediate_size = block.ffn.intermediate_size
            layer.mlp = type(layer.mlp)(narrow)
            if qkv_bias != config.attention_bias:
                attention = layer.self_attn
                for name in ("q_proj", "k_proj", "v_proj"):
                    old = getattr(attention, name)
                    setattr(attention, name, nn.Linear(old.in_features, old.out_features, bias=qkv_bias))
        self.post_init()
