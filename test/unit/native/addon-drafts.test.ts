import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Finish, Limits } from '../../../lib/native/abi';
import { loadAddon } from '../../../lib/native/loader';
import { type TestAdmission, TestEngine, type TestModel, type TestResult } from './step-driver';
import { seededRandom, TinyModel, tinySpec } from './tiny-model';

const { addon } = loadAddon();
const VOCAB = 97;
const PROMPT = [5, 17, 80, 2, 44, 9, 17, 80];
const MAX_TOKENS = 40;

let engine: TestEngine;
let tiny: TinyModel;
let model: TestModel;
beforeAll(async () => {
  engine = new TestEngine(addon);
  tiny = new TinyModel(tinySpec({ head: { isTied: false, hasBias: false, softCap: null, scale: 1 } }), 4);
  model = await engine.load(tiny, { kvDtype: 'bf16' });
});
afterAll(async () => {
  await engine.close();
  tiny.remove();
});

type Row = TestResult['rows'][number];

/** Rows of every step of one token each, or with the guesses that `guess` makes of the output so far. */
async function rowsOf(
  admission: TestAdmission,
  guess: (numOutput: number) => readonly number[] = () => [],
): Promise<Row[]> {
  const { row, generation = 1, tokens } = admission;
  const rows: Row[] = [];
  for (let start = 0; ; ) {
    const isFirst = start === 0;
    const end = tokens.length + rows.length;
    const drafts = isFirst ? [] : guess(rows.length).slice(0, MAX_TOKENS - rows.length - 1);
    const result = await model.submit({
      admissions: isFirst ? [admission] : [],
      pageUpdates: isFirst ? model.pages(row, tokens.length + MAX_TOKENS) : [],
      entries: [{ row, generation, start, count: end - start + drafts.length, samples: true, drafts }],
    });
    expect(result.errorCode).toBeNull();
    expect(result.rows).toHaveLength(1 + drafts.length);
    const sampled = result.rows.filter(({ token }) => token !== null);
    expect(result.rows.slice(0, sampled.length)).toEqual(sampled);
    sampled.slice(0, -1).forEach(({ token }, i) => {
      expect(token).toBe(drafts[i]);
    });
    rows.push(...sampled);
    if (sampled.at(-1)?.finish !== Finish.none) return rows;
    start = end + sampled.length - 1;
  }
}

const SETTINGS: readonly (readonly [string, Partial<TestAdmission>])[] = [
  ['greedy', {}],
  ['sampled', { temperature: 1.2, seed: 5 }],
  ['sampled from few', { temperature: 0.9, topK: 20, topP: 0.8, seed: 6 }],
  ['sampled with a bias', { temperature: 1, seed: 7, logitBias: [[17, 2.5]] }],
  [
    'sampled with penalties',
    { temperature: 0.8, seed: 8, repetitionPenalty: 1.6, presencePenalty: 1.5, frequencyPenalty: 1.5 },
  ],
];

// Goal: tokens and log-probabilities are those of steps of one token, bit for bit, whatever is guessed.
// Method: guesses that are all right, all wrong, or wrong at random places, at every length.
describe.each(SETTINGS)('a request that is %s', (_name, changes) => {
  const admission: TestAdmission = {
    row: 1,
    tokens: PROMPT,
    maxTokens: MAX_TOKENS,
    numLogprobs: 3,
    ...changes,
  };

  test.each([1, 2, 5, Limits.maxDrafts])('says the same with %i guesses a step', async (length) => {
    const expected = await rowsOf(admission);
    const tokens = expected.map(({ token }) => token as number);
    expect(tokens).toHaveLength(MAX_TOKENS);
    const right = (at: number): number[] => tokens.slice(at, at + length);
    const random = seededRandom(length);
    const mixed = (at: number): number[] =>
      right(at).map((token) => (random() < 0.3 ? Math.floor(random() * VOCAB) : token));
    const wrong = (at: number): number[] => right(at).map((token) => (token + 1) % VOCAB);
    for (const guess of [right, wrong, mixed]) expect(await rowsOf(admission, guess)).toEqual(expected);
  });
});

test('a stop token ends the request among right guesses', async () => {
  const admission: TestAdmission = { row: 0, tokens: PROMPT, maxTokens: MAX_TOKENS };
  const tokens = (await rowsOf(admission)).map(({ token }) => token as number);
  const stop = tokens[6] as number;
  const stopping = { ...admission, stopTokens: [stop] };
  const rows = await rowsOf(stopping, (at) => tokens.slice(at, at + 12));
  expect(rows.map(({ token }) => token)).toEqual(tokens.slice(0, tokens.indexOf(stop) + 1));
  expect(rows.at(-1)?.finish).toBe(Finish.stop);
});

// More rows of logits than one pass over the head serves, in company that guesses nothing.
test('requests that guess side by side say what they say alone', async () => {
  const admissions = [0, 1, 2, 3].map(
    (row): TestAdmission => ({
      row,
      generation: 2,
      tokens: PROMPT.slice(row),
      maxTokens: 18,
      temperature: 1,
      presencePenalty: 1,
      seed: row,
    }),
  );
  const alone: number[][] = [];
  for (const admission of admissions) alone.push(await model.generate({ ...admission, generation: 1 }));
  const first = await model.submit({
    admissions,
    pageUpdates: admissions.flatMap(({ row }) => model.pages(row, 32)),
    entries: admissions.map(({ row, tokens }) => ({
      row,
      generation: 2,
      start: 0,
      count: tokens.length,
      samples: true,
    })),
  });
  expect(first.rows.map(({ token }) => token)).toEqual(alone.map(([token]) => token));
  const { rows } = await model.submit({
    entries: admissions.map(({ row, tokens }) => {
      const drafts = row === 2 ? [] : (alone[row] as number[]).slice(1, 17);
      return { row, generation: 2, start: tokens.length, count: 1 + drafts.length, samples: true, drafts };
    }),
  });
  const found = admissions.map(({ row }) =>
    rows.filter((each) => each.row === row).map(({ token }) => token),
  );
  expect(found).toEqual(alone.map((tokens, row) => (row === 2 ? [tokens[1]] : tokens.slice(1, 18))));
});

test('guesses without a place are refused', async () => {
  const admission: TestAdmission = { row: 0, generation: 3, tokens: PROMPT, maxTokens: 4 };
  const entry = { row: 0, generation: 3, start: 0, samples: true };
  const plan = { admissions: [admission], pageUpdates: model.pages(0, 16) };
  const behind = await model.submit({ ...plan, entries: [{ ...entry, count: 6, drafts: [1, 2] }] });
  expect(behind.errorCode).toBe('invalid_parameter');
  const unmapped = await model.submit({
    ...plan,
    entries: [{ ...entry, count: 24, drafts: new Array(16).fill(1) }],
  });
  expect(unmapped.errorCode).toBe('invalid_parameter');
});
