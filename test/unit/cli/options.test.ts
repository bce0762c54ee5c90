import { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import {
  addModelOptions,
  addSamplingOptions,
  engineOptions,
  loadOptions,
  type ModelFlags,
  parseCount,
  parseCounts,
  parseNumber,
  type SamplingFlags,
  samplingOptions,
} from '../../../lib/cli/options';

function parse(...args: string[]): ModelFlags & SamplingFlags {
  const command = addSamplingOptions(
    addModelOptions(new Command().exitOverride().configureOutput({ writeErr: () => {} })),
  );
  return command.parse(args, { from: 'user' }).opts();
}

test('flags become the options of the library', () => {
  const flags = parse(
    '-t',
    '3',
    '-c',
    '2048',
    '--kv-memory',
    '1GiB',
    '--kv-dtype',
    'int8',
    '--precision',
    'exact',
    '--concurrency',
    '9',
    '--speculation',
    'prompt-lookup:5',
    '--no-autotune',
    '--offline',
  );
  expect(engineOptions(flags)).toEqual({ threads: 3 });
  expect(loadOptions('x', flags)).toEqual({
    source: 'x',
    kvCache: { memory: '1GiB', dtype: 'int8' },
    contextLength: 2048,
    precision: 'exact',
    maxConcurrency: 9,
    speculation: { mode: 'prompt-lookup', maxTokens: 5 },
    autotune: false,
    offline: true,
  });
});

test('--kv-dtype takes what a GPU alone can keep, too', () => {
  expect(loadOptions('x', parse('--kv-dtype', 'fp8')).kvCache).toEqual({ dtype: 'fp8' });
});

test('a draft model guesses, as many tokens as --speculation says', () => {
  const speculationOf = (...args: string[]) => loadOptions('x', parse(...args)).speculation;
  expect(speculationOf('--draft-model', 'y')).toEqual({ mode: 'draft-model', draftModel: 'y' });
  expect(speculationOf('--draft-model', 'y', '--speculation', 'draft-model:3')).toEqual({
    mode: 'draft-model',
    maxTokens: 3,
    draftModel: 'y',
  });
  expect(() => speculationOf('--speculation', 'draft-model')).toThrow(/needs a --draft-model/);
  expect(() => speculationOf('--draft-model', 'y', '--speculation', 'prompt-lookup')).toThrow(/goes with/);
});

test('sampling flags become generation options, and stop texts add up', () => {
  const flags = parse(
    '-n',
    '5',
    '--temperature',
    '0',
    '--top-k',
    '3',
    '--top-p',
    '0.5',
    '--min-p',
    '0.1',
    '--seed',
    '7',
    '--stop',
    'a',
    '--stop',
    'b',
    '--repetition-penalty',
    '1.1',
    '--presence-penalty',
    '-1',
    '--frequency-penalty',
    '2',
  );
  expect(samplingOptions(flags)).toEqual({
    maxTokens: 5,
    temperature: 0,
    topK: 3,
    topP: 0.5,
    minP: 0.1,
    seed: 7,
    stop: ['a', 'b'],
    repetitionPenalty: 1.1,
    presencePenalty: -1,
    frequencyPenalty: 2,
  });
});

test('--no-weight-cache switches the cache of packed weights off', () => {
  expect(loadOptions('x', parse('--no-weight-cache'))).toMatchObject({ weightCache: false });
});

test('layers on the GPU are a number or auto', () => {
  expect(loadOptions('x', parse('--gpu-layers', '12'))).toMatchObject({ gpuLayers: 12 });
  expect(loadOptions('x', parse('--gpu-layers', 'auto'))).toMatchObject({ gpuLayers: 'auto' });
});

test('what is not given is absent, so that the model decides; but people get sane text', () => {
  expect(engineOptions(parse())).toEqual({});
  expect(loadOptions('x', parse())).toEqual({ source: 'x', kvCache: {} });
  expect(samplingOptions(parse())).toEqual({ minP: 0.05 });
});

test.each([
  [['--kv-dtype', 'fp4']],
  [['--precision', 'best']],
  [['--threads', '0']],
  [['--speculation', 'guess']],
  [['--speculation', 'prompt-lookup:0']],
  [['--speculation', 'draft-model:x']],
  [['--threads', '1.5']],
  [['--gpu-layers', '0']],
  [['--gpu-layers', 'all']],
  [['-c', 'x']],
  [['--seed', '']],
])('%j is refused', (args) => {
  expect(() => parse(...args)).toThrow();
});

describe('numbers', () => {
  test('are read in every spelling of JavaScript, and nothing else is', () => {
    expect(parseNumber('1e3')).toBe(1000);
    expect(parseNumber('-0.5')).toBe(-0.5);
    for (const text of ['', ' ', 'x', '1x', 'NaN', 'Infinity']) expect(() => parseNumber(text)).toThrow();
  });

  test('counts are whole and positive', () => {
    expect(parseCount('12')).toBe(12);
    for (const text of ['0', '-1', '1.5', '1e300']) expect(() => parseCount(text)).toThrow();
    expect(parseCounts('1,2,32')).toEqual([1, 2, 32]);
    expect(() => parseCounts('1,,2')).toThrow();
  });
});
