"""Writes a GGUF file of a known shape with random weights: make_model.py SHAPE FORMAT OUT.gguf

Speed does not depend on what the weights say, only on their bytes; but activations have to stay finite and ordinary, so
every tensor gets the spread that a trained one would have. Tensors are gathered from a pool of random rows, which takes
seconds where drawing each weight would take minutes. As in files that llama-quantize writes, the tensor that makes the
logits of a Q4_0 file is Q6_K.
"""

import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

SHAPES = {
    "llama-3.2-1b": {
        "layers": 16,
        "hidden": 2048,
        "ffn": 8192,
        "heads": 32,
        "kv_heads": 8,
        "head_dim": 64,
        "tied": True,
    },
    "llama-3.1-8b": {
        "layers": 32,
        "hidden": 4096,
        "ffn": 14336,
        "heads": 32,
        "kv_heads": 8,
        "head_dim": 128,
        "tied": False,
    },
}
FORMATS = {"q4_0": (Type.Q4_0, Type.Q6_K), "bf16": (Type.BF16, Type.BF16)}
VOCAB, CONTEXT, ROPE_BASE, EPSILON = 128256, 131072, 500000.0, 1e-5
BEGIN, END = 128000, 128001
POOL_BLOCKS = 1 << 16


class BlockPool:
    """Random blocks of one format, of weights with a standard deviation near 1 / sqrt(k)."""

    def __init__(self, rng, kind, deviation):
        self.rng = rng
        self.kind = kind
        self.elements, self.bytes = gguf.GGML_QUANT_SIZES[kind]
        if kind == Type.BF16:  # gathered 256 at a time
            self.elements, self.bytes = 256, 512
        if kind == Type.Q6_K:
            self.blocks = self.q6_k_blocks(deviation)
        else:
            weights = rng.standard_normal((POOL_BLOCKS, self.elements), dtype=np.float32) * deviation
            self.blocks = gguf.quants.quantize(weights, kind).reshape(POOL_BLOCKS, self.bytes)

    def q6_k_blocks(self, deviation):
        """Uniform codes -32..31 with scales 32..127: ql[128], qh[64], scales[16] and the half d."""
        rng = self.rng
        codes = rng.integers(0, 256, (POOL_BLOCKS, 192), dtype=np.uint8)
        scales = rng.integers(32, 128, (POOL_BLOCKS, 16), dtype=np.uint8)
        spread = 18.5 * 84.0  # of code times scale
        d = np.full((POOL_BLOCKS, 1), deviation / spread, dtype=np.float16).view(np.uint8)
        return np.concatenate([codes, scales, d], axis=1)

    def tensor(self, rows, cols):
        blocks_per_row = cols // self.elements
        chosen = self.rng.integers(0, POOL_BLOCKS, rows * blocks_per_row)
        return self.blocks[chosen].reshape(rows, blocks_per_row * self.bytes)


def add_vocabulary(writer):
    """All bytes, one merge, and names for the rest: enough for any tokenizer that reads the file."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    tokens = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))] + ["th"]
    tokens += [f"token{i}" for i in range(len(tokens), VOCAB)]
    types = [gguf.TokenType.NORMAL] * VOCAB
    for special, name in ((BEGIN, "<|begin_of_text|>"), (END, "<|end_of_text|>")):
        tokens[special] = name
        types[special] = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)


def add_settings(writer, shape, kind):
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0 if kind == Type.Q4_0 else gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_vocab_size(VOCAB)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["ffn"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_key_length(shape["head_dim"])
    writer.add_value_length(shape["head_dim"])
    writer.add_rope_dimension_count(shape["head_dim"])
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(EPSILON)


def add_tensors(writer, shape, body, top, rng):
    hidden, ffn = shape["hidden"], shape["ffn"]
    q_size, kv_size = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]
    pools = {kind: BlockPool(rng, kind, hidden**-0.5) for kind in {body, top}}

    def matrix(name, kind, rows, cols):
        writer.add_tensor(name, pools[kind].tensor(rows, cols), raw_dtype=kind)

    def norm(name):
        writer.add_tensor(name, np.ones(hidden, dtype=np.float32))

    matrix("token_embd.weight", top if shape["tied"] else body, VOCAB, hidden)
    if not shape["tied"]:
        matrix("output.weight", top, VOCAB, hidden)
    norm("output_norm.weight")
    for layer in range(shape["layers"]):
        prefix = f"blk.{layer}."
        norm(f"{prefix}attn_norm.weight")
        norm(f"{prefix}ffn_norm.weight")
        matrix(f"{prefix}attn_q.weight", body, q_size, hidden)
        matrix(f"{prefix}attn_k.weight", body, kv_size, hidden)
        matrix(f"{prefix}attn_v.weight", body, kv_size, hidden)
        matrix(f"{prefix}attn_output.weight", body, hidden, q_size)
        matrix(f"{prefix}ffn_gate.weight", body, ffn, hidden)
        matrix(f"{prefix}ffn_up.weight", body, ffn, hidden)
        matrix(f"{prefix}ffn_down.weight", body, hidden, ffn)


def main():
    shape_name, format_name, path = sys.argv[1:]
    shape = SHAPES[shape_name]
    body, top = FORMATS[format_name]
    writer = gguf.GGUFWriter(path, "llama", use_temp_file=shape_name == "llama-3.1-8b")
    writer.add_name(f"{shape_name} shape, random weights")
    add_settings(writer, shape, body)
    add_vocabulary(writer)
    add_tensors(writer, shape, body, top, np.random.default_rng(1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
