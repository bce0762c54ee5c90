import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Engine, Model } from '../../lib/engine/types';
import {
  createEngine,
  endless,
  expectDrained,
  Fixture,
  randomTokens,
  seededRandom,
  withEngine,
  withModel,
} from './engine-under-test';

const prompt = randomTokens(20, seededRandom(1));
const messages = [{ role: 'user', content: 'hi' }] as const;
const closed = { code: 'engine_closed' };

/** Every method of a model that does something. */
const MODEL_METHODS: Readonly<Record<string, (model: Model) => Promise<unknown>>> = {
  generate: (model) => model.generate(endless(prompt, { maxTokens: 3 })).result,
  'generate, iterated': async (model) => {
    for await (const _ of model.generate(endless(prompt, { maxTokens: 3 })));
  },
  'generate, as text': async (model) => {
    for await (const _ of model.generate(endless(prompt, { maxTokens: 3 })).textStream);
  },
  tokenize: (model) => model.tokenize('hello'),
  detokenize: (model) => model.detokenize(prompt),
  countTokens: (model) => model.countTokens({ messages }),
  renderPrompt: (model) => model.renderPrompt(messages),
  logits: (model) => model.logits(prompt),
  score: (model) => model.score(prompt),
  stats: (model) => model.stats(),
};

describe('a model', () => {
  test.each(Object.entries(MODEL_METHODS))('that is idle, or generating, serves %s', async (_name, call) => {
    await withModel({}, async (model) => {
      await call(model);
      const other = model.generate(endless(prompt));
      await other[Symbol.asyncIterator]().next();
      await call(model);
      other.abort();
      await expectDrained(model);
    });
  });

  test.each(Object.entries(MODEL_METHODS))('that is closing, or closed, rejects %s', async (_name, call) => {
    await withModel({}, async (model) => {
      const running = model.generate(endless(prompt));
      await running[Symbol.asyncIterator]().next();
      const closing = model.close();
      await expect(call(model)).rejects.toMatchObject(closed);
      await expect(running).rejects.toMatchObject(closed);
      await closing;
      await expect(call(model)).rejects.toMatchObject(closed);
    });
  });

  test.each(Object.entries(MODEL_METHODS))(
    'that is closed meanwhile rejects a pending %s',
    async (name, call) => {
      await withModel({}, async (model) => {
        const pending = call(model);
        const closing = model.close();
        await expect(pending, name).rejects.toMatchObject(closed);
        await closing;
      });
    },
  );

  test('closes once, however often it is asked, and leaves its engine', async () => {
    await withModel({}, async (model, engine) => {
      const first = model.close();
      expect(model.close()).toBe(first);
      await first;
      await model.close();
      await model[Symbol.asyncDispose]();
      expect(engine.models).toEqual([]);
      expect(model.info.vocabSize).toBe(384);
      const again = await engine.loadModel(Fixture.float32);
      expect(again.id).toBe(model.id);
    });
  });

  test('goes on when another of the same engine is closed', async () => {
    await withEngine(async (engine) => {
      const [one, two] = await Promise.all([engine.loadModel(Fixture.float32), engine.loadModel(Fixture.q8)]);
      expect(engine.models).toHaveLength(2);
      const alone = await two.generate(endless(prompt, { maxTokens: 100 }));
      const both = two.generate(endless(prompt, { maxTokens: 100 }));
      const doomed = one.generate(endless(prompt));
      await doomed[Symbol.asyncIterator]().next();
      await one.close();
      await expect(doomed).rejects.toMatchObject(closed);
      expect((await both).tokens).toEqual(alone.tokens);
      expect(Object.keys((await engine.stats()).models)).toEqual([two.id]);
    });
  });

  test('may be loaded twice, under two names', async () => {
    await withEngine(async (engine) => {
      const [one, two] = await Promise.all([
        engine.loadModel(Fixture.float32),
        engine.loadModel(Fixture.float32),
      ]);
      expect(new Set([one.id, two.id]).size).toBe(2);
      const run = (model: Model) => model.generate(endless(prompt, { maxTokens: 20 }));
      const [first, second] = await Promise.all([run(one), run(two)]);
      expect(first.tokens).toEqual(second.tokens);
    });
  });
});

describe('an engine', () => {
  const ENGINE_METHODS: Readonly<Record<string, (engine: Engine) => Promise<unknown>>> = {
    loadModel: (engine) => engine.loadModel(Fixture.float32),
    stats: (engine) => engine.stats(),
  };

  test.each(Object.entries(ENGINE_METHODS))(
    'that is loading, idle or generating serves %s',
    async (_name, call) => {
      await withEngine(async (engine) => {
        const loading = engine.loadModel(Fixture.float32);
        await call(engine);
        const model = await loading;
        await call(engine);
        const run = model.generate(endless(prompt));
        await run[Symbol.asyncIterator]().next();
        await call(engine);
        run.abort();
      });
    },
  );

  test.each(Object.entries(ENGINE_METHODS))('that is closing, or closed, rejects %s', async (_name, call) => {
    const engine = await createEngine({ threads: 1 });
    await engine.loadModel(Fixture.float32);
    const closing = engine.close();
    await expect(call(engine)).rejects.toMatchObject(closed);
    await closing;
    await expect(call(engine)).rejects.toMatchObject(closed);
  });

  test('that is closed while it loads rejects the loading', async () => {
    for (const phase of ['resolve', 'parse', 'weights']) {
      const engine = await createEngine({ threads: 1 });
      let closing: Promise<void> | null = null;
      const onProgress = (progress: { phase: string }) => {
        if (progress.phase === phase) closing ??= engine.close();
      };
      await expect(engine.loadModel({ source: Fixture.float32, onProgress }), phase).rejects.toMatchObject(
        closed,
      );
      expect(closing, phase).not.toBeNull();
      await closing;
    }
  });

  test('that is closed while its models generate and evaluate rejects all of it', async () => {
    const engine = await createEngine({ threads: 2 });
    const models = [await engine.loadModel(Fixture.float32), await engine.loadModel(Fixture.q4)];
    const pending = models.flatMap((model) => [
      ...Array.from({ length: 8 }, () => model.generate(endless(prompt)).result),
      model.score(randomTokens(500, seededRandom(2))),
      model.generate({ messages }).result,
    ]);
    const first = engine.close();
    expect(engine.close()).toBe(first);
    for (const outcome of await Promise.allSettled(pending)) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: closed });
    }
    await first;
    await engine[Symbol.asyncDispose]();
    expect(engine.models).toEqual([]);
    expect(engine.binary.path).toMatch(/\.node$/);
  });

  test('says which binary it runs, and why', async () => {
    await withEngine(async (engine) => {
      const { binary } = engine;
      expect(binary.variant).toBe('cpu');
      expect(binary.supportedIsas).toContain(binary.isa);
      expect(binary.candidates.at(-1)).toEqual({
        path: binary.path,
        verdict: expect.stringMatching(/^loaded/),
      });
      expect(engine.threads).toBe(2);
    });
  });
});

describe('settings that do not fit the machine', () => {
  test('more threads than processors work, and the logger is warned with both numbers', async () => {
    const warnings: string[] = [];
    const logger = ({ text }: { readonly text: string }) => warnings.push(text);
    const engine = await createEngine({ logger }); // by itself it takes as many as there are
    const numCores = engine.threads;
    await engine.close();
    expect(warnings).toEqual([]);
    const crowded = await createEngine({ threads: numCores + 1, logger });
    expect(crowded.threads).toBe(numCores + 1);
    await crowded.close();
    expect(warnings).toEqual([
      expect.stringMatching(new RegExp(`^${numCores + 1} compute threads share the ${numCores} processors`)),
    ]);
  });

  test.each([0, 257, 10_000, 1.5])('%d threads are refused with the range', async (threads) => {
    const message = `expected threads to be an integer in 1..256, got ${threads}`;
    await expect(createEngine({ threads })).rejects.toMatchObject({
      code: 'invalid_parameter',
      message: expect.stringContaining(message),
    });
  });

  test('an instruction set that the processor lacks is refused by name instead of tried', async () => {
    const engine = await createEngine({ threads: 1 });
    const { supportedIsas } = engine.binary;
    await engine.close();
    const lacking = ['avx512', 'neon'].find((isa) => !supportedIsas.includes(isa)) as string;
    vi.stubEnv('OPEN_AUTOGLM_ISA', lacking);
    try {
      await expect(createEngine({ threads: 1 })).rejects.toMatchObject({
        code: 'invalid_parameter',
        message: expect.stringMatching(new RegExp(`^OPEN_AUTOGLM_ISA: .*${lacking}`)),
        details: { path: 'OPEN_AUTOGLM_ISA', found: lacking },
      });
    } finally {
      vi.unstubAllEnvs();
    }
  });
});

// Faults are put in front of the real addon: a module that hands every call on to it but one.
describe('an engine whose native half fails', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'autoglm-faults-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  async function withFault(
    name: string,
    fault: string,
    body: (model: Model, engine: Engine) => Promise<void>,
  ) {
    const { path } = await withEngine(async (engine) => engine.binary);
    const file = join(folder, `${name}.js`);
    writeFileSync(
      file,
      `const addon = require(${JSON.stringify(path)});
       let plans = null, results = null, numSteps = 0;
       Object.assign(exports, addon);
       exports.loadModel = (engine, request, onProgress) => {
         results = request.results;
         return addon.loadModel(engine, request, onProgress);
       };
       ${fault}`,
    );
    process.env.OPEN_AUTOGLM_BINARY = file;
    const starting = createEngine({ threads: 1 });
    delete process.env.OPEN_AUTOGLM_BINARY;
    const engine = await starting;
    try {
      await body(await engine.loadModel(Fixture.float32), engine);
    } finally {
      await engine.close();
    }
  }

  test.each([
    ['exits', 'process.exit(7);', /exited with code 7/],
    ['throws where nobody catches', "setImmediate(() => { throw new Error('boom'); });", /boom/],
  ])('rejects everything pending and later when its worker %s', async (name, statement, message) => {
    const fault = `exports.submitStep = (model, slot) => {
      numSteps += 1;
      if (numSteps === 3) { ${statement} }
      return addon.submitStep(model, slot);
    };`;
    await withFault(name.slice(0, 5), fault, async (model, engine) => {
      const failed = expect.objectContaining({
        code: 'engine_failed',
        message: expect.stringMatching(message),
      });
      const pending = [1, 2, 3].map((seed) => model.generate(endless(prompt, { seed })).result);
      for (const outcome of await Promise.allSettled(pending))
        expect(outcome).toMatchObject({ reason: failed });
      await expect(model.generate(endless(prompt))).rejects.toEqual(failed);
      await expect(model.stats()).rejects.toEqual(failed);
      await expect(engine.loadModel(Fixture.float32)).rejects.toEqual(failed);
      await expect(engine.stats()).rejects.toEqual(failed);
      await model.close();
    });
  });

  test.each([
    ['refused', "if (numSteps === 3) throw Object.assign(new Error('no'), { code: 'internal' });"],
    ['reported', 'if (numSteps === 3) failsNext = slot;'],
  ])('ends only the requests of a step that is %s', async (name, statement) => {
    const fault = `let failsNext = null;
      exports.createEngine = (options, onStep) => addon.createEngine(options, (model, slot) => {
        if (failsNext === slot) { failsNext = null; results[slot][1] = 1; }
        onStep(model, slot);
      });
      exports.submitStep = (model, slot) => {
        numSteps += 1;
        ${statement}
        return addon.submitStep(model, slot);
      };`;
    await withFault(name, fault, async (model) => {
      await expect(model.generate(endless(prompt, { maxTokens: 50 }))).rejects.toMatchObject({
        code: 'engine_failed',
      });
      expect((await model.generate(endless(prompt, { maxTokens: 50 }))).tokens).toHaveLength(50);
      await expectDrained(model);
    });
  });
});
