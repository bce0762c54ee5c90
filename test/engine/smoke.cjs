// One pass over the addon's surface: load, a batch with shared prefixes, aborts in mid-stream, evaluation, close twice.
// Run by scripts/sanitized-addon.mjs under the sanitizers; exits non-zero when an answer is wrong.
const { createEngine } = require('../../dist/index.js');

async function main() {
  const engine = await createEngine({ threads: 2 });
  const model = await engine.loadModel({
    source: 'smollm2-135m-instruct',
    contextLength: 512,
    kvCache: { memory: '48MiB' },
    maxConcurrency: 8,
  });
  const prompt = 'The capital of France is';
  const options = { prompt, maxTokens: 6, temperature: 0 };
  const alone = (await model.generate(options)).text;
  const together = await Promise.all(Array.from({ length: 12 }, () => model.generate(options)));
  for (const { text } of together) {
    if (text !== alone) throw new Error(`alone ${JSON.stringify(alone)}, in a batch ${JSON.stringify(text)}`);
  }
  const aborted = Array.from({ length: 6 }, (_, i) => {
    const run = model.generate({ prompt: `${prompt} ${i}`, maxTokens: 64, temperature: 1, seed: i });
    setTimeout(() => run.abort(), 30 * i);
    return run.result.then(
      () => 'finished',
      (error) => error.code,
    );
  });
  for (const outcome of await Promise.all(aborted)) {
    if (outcome !== 'aborted' && outcome !== 'finished') throw new Error(`an aborted request ended with ${outcome}`);
  }
  const tokens = await model.tokenize(prompt);
  const scores = await model.score(tokens);
  if (scores.length !== tokens.length - 1 || !scores.every((value) => value <= 0)) throw new Error(`scores ${scores}`);
  const pending = model.generate({ prompt, maxTokens: 256, ignoreEos: true }).result.catch((error) => error.code);
  await engine.close();
  await engine.close();
  if ((await pending) !== 'engine_closed') throw new Error(`closing left a request ${await pending}`);
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
});
