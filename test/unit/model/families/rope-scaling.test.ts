import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../../lib/model/checkpoint-types';
import { readHuggingfaceSettings } from '../../../../lib/model/families/settings/huggingface-settings';
import {
  type RopeSettings,
  ropeTable,
  ropeTables,
} from '../../../../lib/model/families/settings/rope-scaling';
import { JsonConfig } from '../../../../lib/model/json-config';

interface RopeReference {
  readonly headDim: number;
  readonly maxPositions: number;
  readonly cases: readonly {
    readonly name: string;
    readonly ropeParameters: JsonObject;
    readonly length: number | null;
    readonly frequencies: readonly number[];
    readonly attentionFactor: number;
  }[];
}

const { headDim, maxPositions, cases } = JSON.parse(
  readFileSync(join(__dirname, '..', '..', '..', 'fixtures', 'rope-frequencies.json'), 'utf8'),
) as RopeReference;

function settingsWith(rope: JsonObject) {
  const config = new JsonConfig('config.json', {
    hidden_size: 4 * headDim,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    intermediate_size: 8,
    vocab_size: 8,
    max_position_embeddings: maxPositions,
    ...rope,
  });
  const defaults = {
    epsilon: 1e-6,
    contextLength: 2048,
    partialRotaryFactor: 1,
    headDim: null,
    numKvHeads: null,
  };
  return readHuggingfaceSettings(config, defaults);
}

// The reference computes in float32: seven digits agree, and four powers multiply its error a little.
const MAX_RELATIVE_ERROR = 2e-6;

describe('frequencies and attention factor equal those of transformers', () => {
  test.each(cases)('$name', ({ ropeParameters, length, frequencies, attentionFactor }) => {
    const { rope_theta: ropeTheta, ...scaling } = ropeParameters;
    const asWritten = [
      { rope_parameters: ropeParameters },
      { rope_theta: ropeTheta as number, rope_scaling: scaling },
    ];
    for (const rope of asWritten) {
      const { base, rotaryDim, scaling: rule } = settingsWith(rope).ropes[0] as RopeSettings;
      const table = ropeTable('half_split', base, rotaryDim, rule, length ?? 1);
      expect(table.frequencies).toHaveLength(frequencies.length);
      for (const [i, expected] of frequencies.entries()) {
        const error = Math.abs((table.frequencies[i] as number) / expected - 1);
        expect(error, `frequency ${i}: ${table.frequencies[i]}, expected ${expected}`).toBeLessThan(
          MAX_RELATIVE_ERROR,
        );
      }
      expect(table.attentionFactor).toBeCloseTo(attentionFactor, 12);
    }
  });
});

test('the older key `type` names the rule too', () => {
  expect(settingsWith({ rope_scaling: { type: 'linear', factor: 2 } }).ropes[0]?.scaling).toEqual({
    kind: 'linear',
    factor: 2,
  });
});

test('the context is what a rule allows', () => {
  const contextOf = (rope: JsonObject): number => settingsWith({ rope_scaling: rope }).contextLength;
  expect(contextOf({ rope_type: 'default' })).toBe(4096);
  expect(contextOf({ rope_type: 'linear', factor: 4 })).toBe(16_384);
  expect(contextOf({ rope_type: 'dynamic', factor: 4 })).toBe(4096);
  expect(contextOf({ rope_type: 'yarn', factor: 4, original_max_position_embeddings: 2048 })).toBe(8192);
  expect(contextOf({ rope_type: 'yarn', factor: 4 })).toBe(16_384);
  const factors = new Array<number>(headDim / 2).fill(1);
  const longrope = { rope_type: 'longrope', short_factor: factors, long_factor: factors };
  expect(contextOf({ ...longrope, original_max_position_embeddings: 1024 })).toBe(4096);
});

test('longrope has a second table where the context exceeds the original length, and only there', () => {
  const [shortFactors, longFactors] = [
    [1, 2],
    [4, 8],
  ];
  const scaling = {
    kind: 'longrope',
    shortFactors,
    longFactors,
    originalLength: 64,
    attentionFactor: 1.5,
  } as const;
  const tablesAt = (contextLength: number) =>
    ropeTables('half_split', [{ base: 100, rotaryDim: 4, scaling }], contextLength);
  const [short, long] = [
    { frequencies: Float64Array.of(1, 0.1 / 2), attentionFactor: 1.5 },
    { frequencies: Float64Array.of(1 / 4, 0.1 / 8), attentionFactor: 1.5 },
  ];
  expect(tablesAt(64)).toMatchObject({ ropeTables: [short], ropeSwitchLength: null });
  expect(tablesAt(65)).toMatchObject({ ropeTables: [short, long], ropeSwitchLength: 64 });
});

test('rules that end the context early say so', () => {
  const { warnings } = settingsWith({ rope_scaling: { rope_type: 'dynamic', factor: 4 } });
  expect(warnings).toMatchObject([{ code: 'context_limited', message: expect.stringContaining('4096') }]);
});

test('divisors divide each frequency by its own number', () => {
  const divisors = Float32Array.of(1, 2);
  const table = ropeTable('interleaved', 100, 4, { kind: 'divisors', divisors }, 1);
  expect([...table.frequencies]).toEqual([1, 100 ** -0.5 / 2]);
});

describe('a rope section that cannot be right names the key', () => {
  const broken: readonly (readonly [string, JsonObject, string, RegExp])[] = [
    [
      'an unknown type',
      { rope_scaling: { rope_type: 'spiral' } },
      'unsupported_model',
      /rope type "spiral".*yarn/,
    ],
    [
      'no factor',
      { rope_scaling: { rope_type: 'linear' } },
      'invalid_model_file',
      /rope_scaling.factor.*found nothing/,
    ],
    [
      'a factor of 0',
      { rope_scaling: { rope_type: 'linear', factor: 0 } },
      'invalid_model_file',
      /above 0, found 0/,
    ],
    [
      'a factor of text',
      { rope_scaling: { rope_type: 'yarn', factor: '4' } },
      'invalid_model_file',
      /finite number/,
    ],
    ['a base below 0', { rope_theta: -1 }, 'invalid_model_file', /rope_theta.*above 0/],
    [
      'a rotated share above 1',
      { partial_rotary_factor: 2 },
      'invalid_model_file',
      /partial_rotary_factor.*2\.\.32, found 64/,
    ],
    ['an odd rotated size', { partial_rotary_factor: 0.1 }, 'invalid_model_file', /even number.*found 3/],
    [
      'factors for another head size',
      { rope_scaling: { rope_type: 'longrope', short_factor: [1], long_factor: [1] } },
      'invalid_model_file',
      /short_factor.*16 numbers above 0, found 1/,
    ],
    [
      'high and low turned round',
      { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 1 } },
      'invalid_model_file',
      /high_freq_factor.*more than low_freq_factor 4/,
    ],
  ];
  test.each(broken)('%s', (_name, rope, code, message) => {
    expect(() => settingsWith(rope)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });
});
