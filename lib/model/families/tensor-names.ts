import type { DenseTensors } from './dense-decoder';

/** Names that transformers gives the tensors of most dense decoders. */
export const HUGGINGFACE_TENSORS: DenseTensors = {
  embedding: 'model.embed_tokens',
  positions: null,
  finalNorm: 'model.norm',
  head: 'lm_head',
  layerPrefix: (layer) => `model.layers.${layer}.`,
  attentionNorm: 'input_layernorm',
  attentionPostNorm: null,
  mlpNorm: 'post_attention_layernorm',
  mlpPostNorm: null,
  q: { name: 'self_attn.q_proj' },
  k: { name: 'self_attn.k_proj' },
  v: { name: 'self_attn.v_proj' },
  o: { name: 'self_attn.o_proj' },
  qNorm: 'self_attn.q_norm',
  kNorm: 'self_attn.k_norm',
  gate: { name: 'mlp.gate_proj' },
  up: { name: 'mlp.up_proj' },
  down: { name: 'mlp.down_proj' },
};

/** The same in GGUF. */
export const GGUF_TENSORS: DenseTensors = {
  embedding: 'token_embd',
  positions: null,
  finalNorm: 'output_norm',
  head: 'output',
  layerPrefix: (layer) => `blk.${layer}.`,
  attentionNorm: 'attn_norm',
  attentionPostNorm: null,
  mlpNorm: 'ffn_norm',
  mlpPostNorm: null,
  q: { name: 'attn_q' },
  k: { name: 'attn_k' },
  v: { name: 'attn_v' },
  o: { name: 'attn_output' },
  qNorm: 'attn_q_norm',
  kNorm: 'attn_k_norm',
  gate: { name: 'ffn_gate' },
  up: { name: 'ffn_up' },
  down: { name: 'ffn_down' },
};

/** Rotary buffers that old exporters saved beside the weights; the tables are computed anew. */
export const ROTARY_BUFFERS = /rotary_emb\.inv_freq$/;
