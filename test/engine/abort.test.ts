import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LoadPhase } from '../../lib/engine/load-types';
import type { Engine, GenerateEvent, Model } from '../../lib/engine/types';
import {
  createEngine,
  endless,
  expectDrained,
  Fixture,
  randomTokens,
  seededRandom,
} from './engine-under-test';

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
});
afterAll(() => engine.close());

const prompt = randomTokens(20, seededRandom(1));
const aborted = { name: 'AbortError', code: 'aborted' };

describe('an abort while loading', () => {
  test.each<LoadPhase>(['resolve', 'parse', 'weights'])(
    'in phase %s leaves nothing behind',
    async (phase) => {
      const controller = new AbortController();
      const reason = new Error('changed my mind');
      const phases: LoadPhase[] = [];
      const loading = engine.loadModel({
        source: Fixture.float32,
        signal: controller.signal,
        onProgress(progress) {
          phases.push(progress.phase);
          if (progress.phase === phase) controller.abort(reason);
        },
      });
      await expect(loading).rejects.toMatchObject(aborted);
      expect(phases).toContain(phase);
      expect(phases).not.toContain('ready');
      expect(engine.models).toEqual([]);
      expect((await engine.stats()).models).toEqual({});
    },
  );

  test('that came before the call loads nothing', async () => {
    const phases: LoadPhase[] = [];
    const signal = AbortSignal.abort();
    const onProgress = ({ phase }: { phase: LoadPhase }) => phases.push(phase);
    await expect(engine.loadModel({ source: Fixture.float32, signal, onProgress })).rejects.toMatchObject(
      aborted,
    );
    expect(phases).not.toContain('weights');
  });

  test('that comes after it changes nothing', async () => {
    const controller = new AbortController();
    const model = await engine.loadModel({ source: Fixture.float32, signal: controller.signal });
    controller.abort();
    expect((await model.generate(endless(prompt, { maxTokens: 2 }))).tokens).toHaveLength(2);
    await model.close();
  });
});

describe('an abort of a generation', () => {
  let model: Model;
  beforeAll(async () => {
    model = await engine.loadModel({ source: Fixture.float32, maxConcurrency: 2, maxStepTokens: 16 });
  });
  afterAll(() => model.close());

  test('before it starts computes nothing', async () => {
    const { steps } = await model.stats();
    await expect(model.generate(endless(prompt, { signal: AbortSignal.abort() }))).rejects.toMatchObject(
      aborted,
    );
    expect((await model.stats()).steps).toBe(steps);
  });

  test('while the prompt is made settles it', async () => {
    const run = model.generate({ prompt: 'word '.repeat(300) });
    run.abort('why');
    await expect(run).rejects.toMatchObject({ ...aborted, cause: 'why' });
    await expectDrained(model);
  });

  test('in the queue settles it before the others are done', async () => {
    const running = [1, 2].map((seed) => model.generate(endless(prompt, { maxTokens: 400, seed })));
    const controller = new AbortController();
    const waiting = model.generate(endless(prompt, { signal: controller.signal }));
    for (let stats = await model.stats(); stats.numRunning < 2 || stats.numWaiting < 1; ) {
      stats = await model.stats();
    }
    controller.abort();
    await expect(waiting).rejects.toMatchObject(aborted);
    expect((await model.stats()).numRunning).toBe(2);
    for (const run of running) expect((await run).tokens).toHaveLength(400);
    await expectDrained(model);
  });

  test('in prefill frees its row', async () => {
    // 500 prompt tokens at 16 a step: more than 30 steps before the first token.
    const run = model.generate(endless(randomTokens(500, seededRandom(5))));
    while ((await model.stats()).numRunning === 0) await new Promise((resolve) => setImmediate(resolve));
    run.abort();
    await expect(run).rejects.toMatchObject(aborted);
    expect((await model.stats()).numRunning).toBe(0);
    await expectDrained(model);
  });

  test('in decode frees its row before it settles, and nothing is delivered after it', async () => {
    const controller = new AbortController();
    const run = model.generate(endless(prompt, { signal: controller.signal }));
    const events: GenerateEvent[] = [];
    const reading = (async () => {
      for await (const event of run) {
        expect(controller.signal.aborted).toBe(false);
        events.push(event);
        if (events.length === 5) controller.abort();
      }
    })();
    await expect(reading).rejects.toMatchObject(aborted);
    expect(events).toHaveLength(5);
    expect((await model.stats()).numRunning).toBe(0);
    await expect(run).rejects.toMatchObject(aborted);
    await expectDrained(model);
  });

  test('twice, and after the end, is no different', async () => {
    const run = model.generate(endless(prompt));
    await run[Symbol.asyncIterator]().next();
    run.abort('first');
    run.abort('second');
    await expect(run).rejects.toMatchObject({ ...aborted, cause: 'first' });
    run.abort();
    const done = model.generate(endless(prompt, { maxTokens: 2 }));
    const result = await done;
    done.abort();
    expect(await done).toBe(result);
  });

  test('can keep what was said so far', async () => {
    const run = model.generate(endless(prompt, { onAbort: 'partial' }));
    const reader = run[Symbol.asyncIterator]();
    let text = '';
    for (let i = 0; i < 4; i += 1) {
      const { value } = await reader.next();
      if (value?.type === 'text') text += value.text;
    }
    const { generatedTokens } = await model.stats();
    while ((await model.stats()).generatedTokens < generatedTokens + 10); // unread when the abort comes
    run.abort();
    const { value: last } = await reader.next();
    expect(last).toMatchObject({ type: 'finish', finishReason: 'abort' });
    const result = await run;
    expect(result.finishReason).toBe('abort');
    expect(result.tokens.length).toBeGreaterThanOrEqual(4);
    expect(result.text.startsWith(text)).toBe(true);
    const early = await model.generate(endless(prompt, { onAbort: 'partial', signal: AbortSignal.abort() }));
    expect(early).toMatchObject({ finishReason: 'abort', text: '', tokens: [] });
  });

  test('is what leaving the loop means, or throwing in it', async () => {
    const left = model.generate(endless(prompt));
    for await (const _ of left) break;
    expect((await model.stats()).numRunning).toBe(0);
    await expect(left).rejects.toMatchObject(aborted);

    const thrown = model.generate(endless(prompt));
    await expect(
      (async () => {
        for await (const _ of thrown.textStream) throw new Error('mine');
      })(),
    ).rejects.toThrow('mine');
    expect((await model.stats()).numRunning).toBe(0);
    await expectDrained(model);
  });

  test('leaves the loop of one reader to another', async () => {
    const run = model.generate(endless(prompt, { maxTokens: 50 }));
    const reading = (async () => {
      let numTokens = 0;
      for await (const event of run) if (event.type === 'text') numTokens += event.tokens.length;
      return numTokens;
    })();
    for await (const _ of run) break;
    expect(await reading).toBe(50);
  });
});

describe('a timeout', () => {
  test('fails a request that runs, that waits, and one that never starts', async () => {
    const model = await engine.loadModel({ source: Fixture.float32, maxConcurrency: 1 });
    const slow = model.generate(endless(prompt, { timeout: 30 }));
    await expect(slow).rejects.toMatchObject({ code: 'deadline_exceeded' });
    const running = model.generate(endless(prompt));
    const waiting = model.generate(endless(prompt, { timeout: 5 }));
    await expect(waiting).rejects.toMatchObject({ code: 'deadline_exceeded' });
    running.abort();
    await expect(model.generate(endless(prompt, { timeout: 1e-9 }))).rejects.toMatchObject({
      code: 'deadline_exceeded',
    });
    await expectDrained(model);
    await model.close();
  });
});

describe('an abort of an evaluation', () => {
  test('rejects and frees its row', async () => {
    const model = await engine.loadModel({ source: Fixture.float32, maxStepTokens: 16 });
    const tokens = randomTokens(500, seededRandom(6));
    const controller = new AbortController();
    const scoring = model.score(tokens, { signal: controller.signal });
    while ((await model.stats()).numRunning === 0) await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    await expect(scoring).rejects.toMatchObject(aborted);
    await expect(model.logits(tokens, { signal: AbortSignal.abort() })).rejects.toMatchObject(aborted);
    await expectDrained(model);
    await model.close();
  });
});
