import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Admission, Entry, Finish, Limits, PlanHeader } from '../../../lib/native/abi';
import { loadAddon } from '../../../lib/native/loader';
import { float64Logits } from './float64-decoder';
import { planWords, type TestAdmission, TestEngine, type TestModel, type TestPlan } from './step-driver';
import { seededRandom, TinyModel, tinySpec } from './tiny-model';

const { addon } = loadAddon();
const VOCAB = 97;
const PROMPT = [5, 17, 80, 2, 44, 9];

let engine: TestEngine;
let tiny: TinyModel;
let model: TestModel;
beforeAll(async () => {
  engine = new TestEngine(addon);
  tiny = new TinyModel(tinySpec({ head: { isTied: false, hasBias: false, softCap: null, scale: 1 } }), 4);
  model = await engine.load(tiny);
});
afterAll(async () => {
  await engine.close();
  tiny.remove();
});

const greedy = (changes: Partial<TestAdmission> = {}): TestAdmission => ({
  row: 0,
  tokens: PROMPT,
  ...changes,
});

const logSoftmax = (logits: ArrayLike<number>): number[] => {
  const values = Array.from(logits);
  const max = Math.max(...values);
  const total = values.reduce((sum, value) => sum + Math.exp(value - max), 0);
  return values.map((value) => value - max - Math.log(total));
};

describe('a row', () => {
  test('is continued greedily with the likeliest token of the float64 reference', async () => {
    const tokens = await model.generate(greedy({ maxTokens: 12 }));
    const history = [...PROMPT];
    for (const token of tokens) {
      const logits = float64Logits(tiny.spec, tiny.weights, history).at(-1) as number[];
      expect(token).toBe(logits.indexOf(Math.max(...logits)));
      history.push(token);
    }
    expect(tokens).toHaveLength(12);
  });

  test('reads the token of a step that was still queued when the next one was planned', async () => {
    const expected = await model.generate(greedy({ maxTokens: 3 }));
    const first = model.submit({
      admissions: [greedy({ maxTokens: 3, generation: 2 })],
      pageUpdates: model.pages(0, 16),
      entries: [{ row: 0, generation: 2, start: 0, count: 6, samples: true }],
    });
    const second = model.submit({ entries: [{ row: 0, generation: 2, start: 6, count: 1, samples: true }] });
    const tokens = [(await first).rows[0]?.token, (await second).rows[0]?.token];
    expect(tokens).toEqual(expected.slice(0, 2));
  });

  test('finishes with stop at a stop token and with length after maxTokens', async () => {
    const free = await model.generate(greedy({ maxTokens: 10 }));
    const stop = free[4] as number;
    const plan = (generation: number, changes: Partial<TestAdmission>): TestPlan => ({
      admissions: [greedy({ generation, ...changes })],
      pageUpdates: model.pages(0, 32),
      entries: [{ row: 0, generation, start: 0, count: 6, samples: true }],
    });
    const stopped = await model.generate(greedy({ maxTokens: 10, stopTokens: [100_000, stop] }));
    expect(stopped).toEqual(free.slice(0, free.indexOf(stop) + 1));
    const { rows } = await model.submit(plan(3, { stopTokens: [free[0] as number], maxTokens: 1 }));
    expect(rows[0]).toMatchObject({ token: free[0], finish: Finish.stop });
    expect((await model.submit(plan(4, { maxTokens: 1 }))).rows[0]?.finish).toBe(Finish.length);
  });

  test('that has finished, or is of another generation, is skipped and writes no page', async () => {
    const other = greedy({ row: 1, generation: 6, tokens: [3, 1, 4, 1, 5, 9, 2, 6], maxTokens: 8 });
    const expected = await model.generate({ ...other, generation: 5 });
    await model.submit({
      admissions: [greedy({ generation: 7, maxTokens: 1 })],
      pageUpdates: model.pages(0, 16),
      entries: [{ row: 0, generation: 7, start: 0, count: 6, samples: true }],
    });
    // Row 1 now owns the page that row 0 still names.
    const begun = await model.submit({
      admissions: [other],
      pageUpdates: [[1, 0, 0]],
      entries: [{ row: 1, generation: 6, start: 0, count: 8, samples: true }],
    });
    const stranger = await model.submit({ entries: [{ row: 1, generation: 99, start: 8, count: 1 }] });
    expect(stranger.rows[0]).toMatchObject({ row: 1, generation: 99, token: null, finish: Finish.skipped });
    const tokens = [begun.rows[0]?.token];
    for (let i = 0; i < 7; i += 1) {
      const { errorCode, rows } = await model.submit({
        entries: [
          { row: 0, generation: i % 2 === 0 ? 7 : 99, start: i, count: 1 },
          { row: 1, generation: 6, start: 8 + i, count: 1, samples: true },
        ],
      });
      expect(errorCode).toBeNull();
      expect(rows[0]).toMatchObject({ token: null, finish: Finish.skipped });
      tokens.push(rows[1]?.token);
    }
    expect(tokens).toEqual(expected);
  });

  test('comes back after a preemption and goes on as if nothing had happened', async () => {
    const sampled = greedy({ maxTokens: 14, temperature: 1.1, seed: 12 });
    const whole = await model.generate(sampled);
    const tokens = [...PROMPT, ...whole.slice(0, 6)];
    const resumed = await model.generate({ ...sampled, row: 2, tokens, numPromptTokens: PROMPT.length });
    expect(resumed).toEqual(whole.slice(6));
  });

  test('reports log-probabilities of the raw distribution', async () => {
    const { rows } = await model.submit({
      admissions: [greedy({ generation: 8, numLogprobs: 4, logitBias: [[50, 90]] })],
      pageUpdates: model.pages(0, 16),
      entries: [{ row: 0, generation: 8, start: 0, count: 6, samples: true }],
    });
    const expected = logSoftmax(float64Logits(tiny.spec, tiny.weights, PROMPT).at(-1) as number[]);
    const order = expected.map((_, i) => i).sort((a, b) => (expected[b] as number) - (expected[a] as number));
    expect(rows[0]?.token).toBe(50);
    expect(rows[0]?.logprob).toBeCloseTo(expected[50] as number, 4);
    expect(rows[0]?.top.map(([token]) => token)).toEqual(order.slice(0, 4));
    for (const [token, logprob] of rows[0]?.top ?? [])
      expect(logprob).toBeCloseTo(expected[token] as number, 4);
  });
});

describe('numbers that are not finite', () => {
  test('end the row that met them, no other, and do not outlive it in its pages', async () => {
    const poisoned = new TinyModel(tiny.spec, 4);
    poisoned.poison('embedding', 60 * 64, Number.NaN);
    const sick = await engine.load(poisoned);
    const healthy = greedy({ row: 1, maxTokens: 5 });
    const expected = await sick.generate({ ...healthy, generation: 9 });
    const { errorCode, rows } = await sick.submit({
      admissions: [{ row: 0, tokens: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 60, 11] }, healthy],
      pageUpdates: [...sick.pages(0, 16), ...sick.pages(1, 16)],
      entries: [
        { row: 0, start: 0, count: 12, samples: true },
        { row: 1, start: 0, count: 6, samples: true },
      ],
    });
    expect(errorCode).toBeNull();
    expect(rows[0]).toMatchObject({ token: null, finish: Finish.numericError });
    expect(rows[1]).toMatchObject({ token: expected[0], finish: Finish.none });
    const skipped = await sick.submit({ entries: [{ row: 0, start: 11, count: 1, samples: true }] });
    expect(skipped.rows[0]?.finish).toBe(Finish.skipped);
    // The same page, which held a NaN behind the slots that this row fills first.
    expect(await sick.generate(greedy({ row: 0, generation: 2, maxTokens: 5 }))).toEqual(expected);
    await sick.close();
    poisoned.remove();
  });
});

describe('evaluations', () => {
  const tokens = [...PROMPT, 30, 31, 32, 33];

  test('score gives the log-probability of each next token, into shared memory too', async () => {
    const reference = float64Logits(tiny.spec, tiny.weights, tokens);
    const output = new Float32Array(new SharedArrayBuffer(4 * (tokens.length - 1)));
    addon.setOutput(model.handle, -3, output);
    const admission: TestAdmission = { row: 4, kind: 'score', tokens, outputId: -3, maxTokens: 0 };
    for (const [start, count] of [
      [0, 7],
      [7, 3],
    ] as const) {
      const { errorCode, rows } = await model.submit({
        admissions: start === 0 ? [admission] : [],
        pageUpdates: start === 0 ? model.pages(4, 16) : [],
        entries: [{ row: 4, start, count }],
      });
      expect([errorCode, rows[0]?.finish]).toEqual([null, Finish.none]);
    }
    addon.setOutput(model.handle, -3, null);
    for (const [i, value] of output.entries()) {
      const expected = logSoftmax(reference[i] as number[])[tokens[i + 1] as number] as number;
      expect(value, `token ${i + 1}`).toBeCloseTo(expected, 4);
    }
  });

  test('more positions than logits are computed at once all arrive', async () => {
    const long = Array.from({ length: 100 }, (_, i) => (i * 7) % VOCAB);
    const positions = long.map((_, i) => i);
    const all = await model.logits(long, positions);
    for (const position of [0, 31, 32, 33, 63, 64, 99]) {
      const one = await model.logits(long, [position]);
      expect(all.slice(position * VOCAB, (position + 1) * VOCAB), `position ${position}`).toEqual(
        one.slice(),
      );
    }
  });

  test('without an output buffer are skipped, with one that is too small refused', async () => {
    const plan = (generation: number): TestPlan => ({
      admissions: [{ row: 4, generation, kind: 'score', tokens, outputId: 8, maxTokens: 0 }],
      pageUpdates: model.pages(4, 16),
      entries: [{ row: 4, generation, start: 0, count: 10 }],
    });
    expect((await model.submit(plan(1))).rows[0]?.finish).toBe(Finish.skipped);
    addon.setOutput(model.handle, 8, new Float32Array(8));
    expect((await model.submit(plan(2))).errorCode).toBe('invalid_parameter');
    addon.setOutput(model.handle, 8, new Float32Array(9));
    expect((await model.submit(plan(3))).errorCode).toBeNull();
    addon.setOutput(model.handle, 8, null);
  });

  test('a buffer taken back while its step runs is not freed under it', async () => {
    for (let i = 0; i < 20; i += 1) {
      addon.setOutput(model.handle, 9, new Float32Array(VOCAB * 10));
      const positions = tokens.map((_, position) => position);
      const done = model.submit({
        admissions: [{ row: 4, kind: 'logits', tokens, positions, outputId: 9, maxTokens: 0 }],
        pageUpdates: model.pages(4, 16),
        entries: [{ row: 4, start: 0, count: 10 }],
      });
      addon.setOutput(model.handle, 9, null);
      global.gc?.();
      expect((await done).errorCode).toBeNull();
    }
  });
});

const VALID: TestPlan = {
  admissions: [
    greedy({ generation: 1, stopTokens: [96], logitBias: [[4, 0.5]] }),
    { row: 3, tokens: [8, 9], maxTokens: 4 },
  ],
  pageUpdates: [
    [0, 0, 1],
    [3, 0, 2],
  ],
  entries: [
    { row: 0, start: 0, count: 6, samples: true },
    { row: 3, start: 0, count: 2, samples: true },
  ],
};

describe('a broken plan', () => {
  const firstAdmission = PlanHeader.numWords;
  const entriesAt = planWords(0, VALID)[PlanHeader.entriesOffset] as number;
  const changed = (word: number, value: number): number[] => {
    const words = planWords(0, VALID);
    words[word] = value;
    return words;
  };

  test.each<[string, number[]]>([
    ['a total beyond the buffer', changed(PlanHeader.totalWords, 1 << 30)],
    ['an offset beyond the plan', changed(PlanHeader.entriesOffset, 1 << 30)],
    ['a row that does not exist', changed(firstAdmission + Admission.row, 8)],
    ['a token outside the vocabulary', changed(firstAdmission + Admission.numWords, VOCAB)],
    ['a rope table that does not exist', changed(firstAdmission + Admission.ropeTable, 1)],
    ['positions past the history', changed(entriesAt + Entry.count, 7)],
    ['a sample before the end of the history', changed(entriesAt + Entry.count, 5)],
    ['positions without a page', planWords(0, { ...VALID, pageUpdates: [[0, 0, 1]] })],
    [
      'two rows that write one page',
      planWords(0, {
        ...VALID,
        pageUpdates: [
          [0, 0, 1],
          [3, 0, 1],
        ],
      }),
    ],
    [
      'one row twice',
      planWords(0, { ...VALID, entries: [...(VALID.entries ?? []), { row: 0, start: 0, count: 1 }] }),
    ],
    ['a page outside the pool', planWords(0, { ...VALID, pageUpdates: [[0, 0, 64]] })],
    [
      'more tokens than a step holds',
      planWords(0, {
        admissions: [{ row: 0, tokens: new Array<number>(129).fill(1) }],
        entries: [{ row: 0, start: 0, count: 129 }],
      }),
    ],
  ])('with %s ends with invalid_parameter and the model goes on', async (_, words) => {
    const expected = await model.generate(greedy({ maxTokens: 4 }));
    const { errorCode, rows } = await model.submitWords(words);
    expect([errorCode, rows]).toEqual(['invalid_parameter', []]);
    expect(await model.generate(greedy({ maxTokens: 4 }))).toEqual(expected);
  });

  test('fails the rows it names: steps planned for them before are skipped', async () => {
    await model.submit({ ...VALID, entries: [{ row: 0, start: 0, count: 3 }] });
    const { errorCode, failure } = await model.submit({ entries: [{ row: 0, start: 3, count: 9 }] });
    expect(errorCode).toBe('invalid_parameter');
    expect(failure).toBe('step plan: positions 3 to 12 of row 0 lie past its 6 tokens');
    const { rows } = await model.submit({ entries: [{ row: 0, start: 3, count: 3, samples: true }] });
    expect(rows[0]?.finish).toBe(Finish.skipped);
  });

  test('says why in its own slot, until another step fails there', async () => {
    const own = await engine.load(tiny);
    const failures = () =>
      Array.from({ length: Limits.queueDepth }, (_, slot) => addon.stepFailure(own.handle, slot));
    const past = (start: number): TestPlan => ({ entries: [{ row: 0, start, count: 9 }] });
    const none = Array.from({ length: Limits.queueDepth - 2 }, () => '');
    expect(failures()).toEqual(['', '', ...none]);
    await own.submit({ ...VALID, entries: [{ row: 0, start: 0, count: 3 }] });
    await own.submit(past(3));
    expect(failures()).toEqual(['', expect.stringContaining('positions 3 to 12'), ...none]);
    // The other slots, and then that one again.
    for (let slot = 2; slot <= Limits.queueDepth; slot += 1)
      await own.submit({ ...VALID, entries: [{ row: 0, start: 0, count: 3 }] });
    await own.submit(past(2));
    expect(failures()).toEqual(['', expect.stringContaining('positions 2 to 11'), ...none]);
    expect(() => addon.stepFailure(own.handle, Limits.queueDepth)).toThrow(/slot/);
    await own.close();
  });

  // Goal: no words make the engine crash, hang or answer with anything but a result.
  // Method: 4,000 seeded mutations of a valid plan, then a request whose tokens are known.
  test('of random words never crashes, and the model still computes the same', async () => {
    const expected = await model.generate(greedy({ maxTokens: 6 }));
    const random = seededRandom(77);
    const pick = (values: readonly number[]): number =>
      values[Math.floor(random() * values.length)] as number;
    const codes = new Map<string | null, number>();
    for (let round = 0; round < 4000; round += 1) {
      const words = planWords(round, VALID);
      for (let change = 0; change < 1 + Math.floor(random() * 3); change += 1) {
        const value =
          random() < 0.7
            ? pick([-1, 0, 1, 2, 3, 6, 64, 97, 2 ** 31 - 1, -(2 ** 31)])
            : (random() - 0.5) * 2 ** 32;
        words[Math.floor(random() * words.length)] = Math.trunc(value);
      }
      const { errorCode } = await model.submitWords(words);
      codes.set(errorCode, (codes.get(errorCode) ?? 0) + 1);
    }
    expect([...codes.keys()].sort()).toEqual(['invalid_parameter', null]);
    expect(codes.get(null)).toBeGreaterThan(200);
    expect(await model.generate(greedy({ maxTokens: 6 }))).toEqual(expected);
  });
});

describe('submitting', () => {
  test('a step too many throws invalid_parameter, as do slots and handles that are none', async () => {
    const steps = Array.from({ length: Limits.queueDepth }, () => model.submit({}));
    expect(() => addon.submitStep(model.handle, 0)).toThrow(
      expect.objectContaining({ code: 'invalid_parameter' }),
    );
    await Promise.all(steps);
    for (const slot of [Limits.queueDepth, -1, 0.5, '0', null]) {
      expect(() => addon.submitStep(model.handle, slot as 0)).toThrow(
        expect.objectContaining({ code: 'invalid_parameter' }),
      );
    }
    for (const handle of [0, -1, 1.5, 1e6, Number.NaN, null, {}, engine.handle]) {
      expect(() => addon.submitStep(handle as never, 0), String(handle)).toThrow(
        expect.objectContaining({ code: 'invalid_parameter' }),
      );
    }
  });

  test('steps of two models run in the order in which they were submitted', async () => {
    const second = await engine.load(tiny);
    engine.finished.length = 0;
    await Promise.all([model.submit({}), second.submit({}), second.submit({}), model.submit({})]);
    expect(engine.finished.map(([handle]) => handle)).toEqual([
      model.handle,
      second.handle,
      second.handle,
      model.handle,
    ]);
    await second.close();
  });

  test('an empty plan is a step like any other', async () => {
    const { errorCode, rows } = await model.submit({});
    expect([errorCode, rows]).toEqual([null, []]);
  });
});
