import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Random } from '../simulation/random';
import { Fixture } from './engine-under-test';

export interface ScriptedModelParts {
  /** Jinja. What the model says depends on the last token of the prompt alone. */
  readonly template: string;
  /** The last token of a prompt, and what the model then says. */
  readonly scripts: Readonly<Record<string, readonly string[]>>;
  /** Parts of scripts that are one token each, left out of text. A part stands in one place only. */
  readonly controlTokens?: readonly string[];
}

const HIDDEN_SIZE = 256;
const HEAD_SIZE = 16;
const MLP_SIZE = 32;
/** Of the fixtures' vocabulary. */
const END_OF_TEXT = 340;

/**
 * Writes a real checkpoint whose greedy answers are scripts: attention and MLP add nothing, so the next token is a function
 * of the last one. Every token of the scripts has an id of its own. The caller removes the folder.
 */
export function writeScriptedCheckpoint(parts: ScriptedModelParts): string {
  const folder = mkdtempSync(join(tmpdir(), 'autoglm-scripted-'));
  const read = (name: string): Record<string, unknown> =>
    JSON.parse(readFileSync(join(Fixture.float32, name), 'utf8')) as Record<string, unknown>;
  const write = (name: string, value: object): void =>
    writeFileSync(join(folder, name), JSON.stringify(value));
  const tokenizer = read('tokenizer.json');
  const added = [...(tokenizer.added_tokens as { id: number; content: string; special: boolean }[])];
  const next = addScripts(parts, added);
  const vocabSize = Math.ceil((Math.max(...added.map(({ id }) => id)) + 1) / 32) * 32;
  write('tokenizer.json', { ...tokenizer, added_tokens: added });
  write('tokenizer_config.json', { ...read('tokenizer_config.json'), chat_template: parts.template });
  write('generation_config.json', { eos_token_id: END_OF_TEXT, temperature: 0 });
  write('config.json', {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    hidden_size: HIDDEN_SIZE,
    intermediate_size: MLP_SIZE,
    num_hidden_layers: 1,
    num_attention_heads: 1,
    num_key_value_heads: 1,
    head_dim: HEAD_SIZE,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-6,
    vocab_size: vocabSize,
    eos_token_id: END_OF_TEXT,
    tie_word_embeddings: false,
  });
  writeFileSync(join(folder, 'model.safetensors'), safetensors(weights(vocabSize, next)));
  return folder;
}

/** Adds the scripts' tokens to the vocabulary; returns the pairs of tokens that follow each other. */
function addScripts(
  { scripts, controlTokens = [] }: ScriptedModelParts,
  added: { id: number; content: string; special: boolean }[],
): readonly (readonly [number, number])[] {
  const random = new Random(5);
  const next: [number, number][] = [];
  const add = (content: string, special: boolean): number => {
    const known = added.find((token) => token.content === content);
    if (known !== undefined) return known.id;
    const id = Math.max(...added.map((token) => token.id)) + 1;
    added.push({ ...added[0], id, content, special });
    return id;
  };
  for (const [trigger, script] of Object.entries(scripts)) {
    let last = add(trigger, trigger.startsWith('<|'));
    for (const part of script) {
      const isControl = controlTokens.includes(part);
      const taken = new Set(added.map(({ content }) => content));
      for (const piece of isControl ? [part] : cut(part, taken, random)) {
        const id = add(piece, isControl);
        next.push([last, id]);
        last = id;
      }
    }
    next.push([last, END_OF_TEXT]);
  }
  return next;
}

/** Pieces of 1..6 characters that are new to the vocabulary, longer where a short one is taken. */
function cut(part: string, taken: Set<string>, random: Random): readonly string[] {
  const pieces: string[] = [];
  let rest = [...part];
  while (rest.length > 0) {
    let length = random.int(1, 6);
    while (length < rest.length && taken.has(rest.slice(0, length).join(''))) length += 1;
    const piece = rest.slice(0, length).join('');
    // The last piece may be one that is taken: it goes to the one before it.
    if (taken.has(piece)) pieces.push((pieces.pop() ?? '') + piece);
    else pieces.push(piece);
    taken.add(pieces.at(-1) ?? '');
    rest = rest.slice(length);
  }
  return pieces;
}

type Tensors = ReadonlyMap<string, { readonly shape: readonly number[]; readonly values: Float32Array }>;

function weights(vocabSize: number, next: readonly (readonly [number, number])[]): Tensors {
  const random = new Random(11);
  const tensors = new Map<string, { shape: number[]; values: Float32Array }>();
  const add = (name: string, shape: number[], value = 0): Float32Array => {
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(value);
    tensors.set(name, { shape, values });
    return values;
  };
  // Random signs: a vector has 256 in common with itself and about 16 with any other.
  const embedding = add('model.embed_tokens.weight', [vocabSize, HIDDEN_SIZE]);
  for (let i = 0; i < embedding.length; i += 1) embedding[i] = random.chance(0.5) ? 1 : -1;
  const head = add('lm_head.weight', [vocabSize, HIDDEN_SIZE]);
  for (const [from, to] of next) {
    for (let i = 0; i < HIDDEN_SIZE; i += 1) {
      head[to * HIDDEN_SIZE + i] =
        (head[to * HIDDEN_SIZE + i] as number) + (embedding[from * HIDDEN_SIZE + i] as number);
    }
  }
  add('model.norm.weight', [HIDDEN_SIZE], 1);
  const layer = 'model.layers.0.';
  add(`${layer}input_layernorm.weight`, [HIDDEN_SIZE], 1);
  add(`${layer}post_attention_layernorm.weight`, [HIDDEN_SIZE], 1);
  for (const name of ['q', 'k', 'v']) add(`${layer}self_attn.${name}_proj.weight`, [HEAD_SIZE, HIDDEN_SIZE]);
  add(`${layer}self_attn.o_proj.weight`, [HIDDEN_SIZE, HEAD_SIZE]);
  for (const name of ['gate', 'up']) add(`${layer}mlp.${name}_proj.weight`, [MLP_SIZE, HIDDEN_SIZE]);
  add(`${layer}mlp.down_proj.weight`, [HIDDEN_SIZE, MLP_SIZE]);
  return tensors;
}

function safetensors(tensors: Tensors): Buffer {
  const header: Record<string, unknown> = {};
  const data: Buffer[] = [];
  let end = 0;
  for (const [name, { shape, values }] of tensors) {
    const bytes = Buffer.from(values.buffer);
    header[name] = { dtype: 'F32', shape, data_offsets: [end, end + bytes.length] };
    data.push(bytes);
    end += bytes.length;
  }
  const json = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded, ...data]);
}
