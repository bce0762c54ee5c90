import type { AutoglmError } from '../../errors';
import type { JsonObject } from '../checkpoint-types';
import { JsonConfig } from '../json-config';
import { invalidModelFile, quoted, unsupportedModel } from '../model-file-error';

/** The settings of adapter_config.json that decide what is computed. */
export class PeftConfig {
  readonly #file: string;
  readonly #reader: JsonConfig;
  readonly #rank: number;
  readonly #alpha: number;
  readonly #ranks: readonly Pattern[];
  readonly #alphas: readonly Pattern[];
  readonly #isRankStabilized: boolean;
  readonly #layers: ReadonlySet<number> | null;

  /** Throws `unsupported_model` for anything beyond plain LoRA, naming the key. */
  constructor(file: string, object: JsonObject) {
    const reader = new JsonConfig(file, object);
    this.#file = file;
    this.#reader = reader;
    refuseVariants(reader, object);
    this.#rank = reader.integer('r', 1, MAX_STATED) ?? 8;
    this.#alpha = reader.number('lora_alpha') ?? 8;
    this.#isRankStabilized = reader.boolean('use_rslora') ?? false;
    this.#ranks = readPatterns(reader, object, 'rank_pattern');
    this.#alphas = readPatterns(reader, object, 'alpha_pattern');
    this.#layers = readLayers(reader);
  }

  get baseModel(): string | null {
    return this.#reader.string('base_model_name_or_path');
  }

  /** alpha / rank, or alpha / sqrt(rank). Throws when the file's rank or layer is not what the settings say. */
  scaleOf(module: string, rank: number): number {
    const stated = valueFor(this.#ranks, module) ?? this.#rank;
    if (rank !== stated) throw this.#fault(module, `rank ${stated}, as the config says`, `rank ${rank}`);
    const layer = Number(/\.(?:layers|h)\.(\d+)\./.exec(module)?.[1] ?? Number.NaN);
    if (this.#layers !== null && !this.#layers.has(layer)) {
      throw this.#fault(module, `one of the layers in layers_to_transform`, `layer ${layer}`);
    }
    const alpha = valueFor(this.#alphas, module) ?? this.#alpha;
    return alpha / (this.#isRankStabilized ? Math.sqrt(rank) : rank);
  }

  #fault(module: string, expected: string, found: string): AutoglmError {
    return invalidModelFile({ file: this.#file, where: quoted(module), expected, found });
  }
}

/** Far above MAX_RANK, which is told with the module's name. */
const MAX_STATED = 1 << 20;
const MAX_PATTERNS = 65_536;

/** Keys under which PEFT stores what is no plain low-rank addition; each may only have the value that turns it off. */
const SWITCHES = ['use_dora', 'use_qalora', 'lora_bias'] as const;
const VARIANTS = [
  'modules_to_save',
  'target_parameters',
  'trainable_token_indices',
  'layer_replication',
  'alora_invocation_tokens',
  'use_bdlora',
  'arrow_config',
  'kasa_config',
  'monteclora_config',
  'velora_config',
] as const;

function refuseVariants(reader: JsonConfig, object: JsonObject): void {
  const { file } = reader;
  const type = reader.string('peft_type');
  if (type !== 'LORA') throw unsupportedModel(file, `peft_type ${quoted(type ?? 'nothing')}`, ['LORA']);
  const bias = reader.string('bias') ?? 'none';
  if (bias !== 'none') throw unsupportedModel(file, `bias ${quoted(bias)}`, ['none']);
  for (const key of SWITCHES) {
    if (reader.boolean(key) === true) throw unsupportedModel(file, `${key} true`, ['false']);
  }
  for (const key of VARIANTS) {
    const value = object[key] ?? null;
    const isEmpty = value === null || (typeof value === 'object' && Object.keys(value).length === 0);
    if (!isEmpty) {
      throw unsupportedModel(file, `${key} ${quoted(JSON.stringify(value))}`, ['null']);
    }
  }
}

/** A module's name or the end of one, of whole parts. */
interface Pattern {
  readonly suffix: string;
  readonly value: number;
}

/**
 * PEFT reads the keys as regular expressions; what people write are names and ends of names. Others are refused: they
 * come with the file, and could keep the matcher busy for years.
 */
function readPatterns(
  reader: JsonConfig,
  object: JsonObject,
  key: 'rank_pattern' | 'alpha_pattern',
): readonly Pattern[] {
  const patterns = Object.entries((object[key] ?? {}) as Readonly<Record<string, unknown>>);
  if (patterns.length > MAX_PATTERNS) {
    throw reader.fault(key, `at most ${MAX_PATTERNS} patterns`, `${patterns.length}`);
  }
  return patterns.map(([pattern, value]) => {
    const suffix = pattern.replace(/^\^/, '').replace(/\$$/, '').replaceAll('\\.', '.');
    if (!/^[\w.]+$/.test(suffix)) {
      throw unsupportedModel(reader.file, `${key} ${quoted(pattern)}`, ['names of modules']);
    }
    if (typeof value === 'number' && Number.isFinite(value)) return { suffix, value };
    throw reader.fault(key, 'numbers by module', `${quoted(pattern)}: ${quoted(String(value))}`);
  });
}

/** The first pattern that fits counts, as in PEFT. */
function valueFor(patterns: readonly Pattern[], module: string): number | null {
  const found = patterns.find(({ suffix }) => module === suffix || module.endsWith(`.${suffix}`));
  return found?.value ?? null;
}

function readLayers(reader: JsonConfig): ReadonlySet<number> | null {
  const key = 'layers_to_transform';
  if (!reader.has(key)) return null;
  if (reader.isList(key)) return new Set(reader.numbers(key));
  return new Set([reader.integer(key, 0, MAX_STATED) ?? 0]);
}
