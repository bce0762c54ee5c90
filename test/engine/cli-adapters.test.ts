import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, Model } from '../../lib/engine/types';
import { ADAPTERS } from '../parity/fixtures';
import { runCli, startCli } from './cli-process';
import { createEngine, Fixture } from './engine-under-test';

const PATTERNS = join(ADAPTERS, 'llama-patterns');
const PLAIN = join(ADAPTERS, 'llama-plain.gguf');
const OTHER_BASE = join(ADAPTERS, 'gpt2-fused');
const MESSAGES = [{ role: 'user' as const, content: 'Hello there' }];
const GREEDY = { temperature: 0, maxTokens: 12 };

let engine: Engine;
let model: Model;
beforeAll(async () => {
  engine = await createEngine();
  model = await engine.loadModel(Fixture.float32);
  await model.loadAdapter({ source: PATTERNS, name: 'patterns' });
  await model.loadAdapter({ source: PLAIN, name: 'plain' });
});
afterAll(() => engine.close());

const lineOf = ({ text }: { readonly text: string }) => (text.endsWith('\n') ? text : `${text}\n`);

test('run and chat --adapter answer as the library does with that adapter', async () => {
  const expected = await model.generate({ messages: MESSAGES, ...GREEDY, adapter: 'patterns' });
  expect(expected.text).not.toBe((await model.generate({ messages: MESSAGES, ...GREEDY })).text);
  const flags = [Fixture.float32, '--adapter', PATTERNS, '--temperature', '0', '-n', '12', '-q'];
  expect(await runCli(['run', ...flags], 'Hello there')).toEqual({
    code: 0,
    stdout: lineOf(expected),
    stderr: '',
  });
  expect((await runCli(['chat', ...flags], 'Hello there\n')).stdout).toBe(lineOf(expected));
});

// Two models of one name: the second is called `name#2`, and only it has the adapter `plain`.
test('serve --adapter serves each adapter with its base, under base:adapter', async () => {
  const [first, second] = [Fixture.float32, join(mkdtempSync(join(tmpdir(), 'autoglm-cli-')), model.id)];
  cpSync(first, second, { recursive: true });
  const adapters = [`${model.id}:patterns=${PATTERNS}`, `${model.id}#2:plain=${PLAIN}`];
  const flags = adapters.flatMap((each) => ['--adapter', each]);
  const { child, ended, waitFor } = startCli(['serve', first, second, '--port', '0', ...flags]);
  try {
    const names = [model.id, `${model.id}:patterns`, `${model.id}#2`, `${model.id}#2:plain`];
    const output = await waitFor('chat page ');
    expect(output).toContain(`(${names.join(', ')})`);
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(output)?.[0];
    const list = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
    expect(list.data.map(({ id }) => id)).toEqual(names);
    for (const [i, adapter] of [undefined, 'patterns', undefined, 'plain'].entries()) {
      const response = await fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: names[i], messages: MESSAGES, temperature: 0, max_tokens: 12 }),
      });
      const answer = (await response.json()) as { choices: { message: { content: string } }[] };
      const options = { ...GREEDY, ...(adapter === undefined ? {} : { adapter }) };
      const { text } = await model.generate({ messages: MESSAGES, ...options });
      expect(answer.choices[0]?.message.content, names[i]).toBe(text);
    }
  } finally {
    child.kill('SIGTERM');
    expect((await ended).code).toBe(0);
    rmSync(join(second, '..'), { recursive: true });
  }
});

describe('an adapter that cannot be had ends the command with a message', () => {
  const serve = (...adapters: readonly string[]): readonly string[] => [
    'serve',
    Fixture.float32,
    ...['--port', '0', '-q'],
    ...adapters.flatMap((each) => ['--adapter', each]),
  ];
  test.each([
    ['of another base', ['run', Fixture.float32, 'x', '--adapter', OTHER_BASE], 1, /gpt2-fused/],
    ['that is not there', serve('sql=./none'), 1, /none: .*found nothing/],
    ['without a name', serve(PATTERNS), 2, /Expected NAME=SOURCE/],
    ['of a name no request can write', serve(`a/b=${PATTERNS}`), 2, /1\.\.64 letters/],
    ['of a name that is taken', serve(`sql=${PATTERNS}`, `sql=${PLAIN}`), 2, /"sql" is taken/],
    ['of no model', serve(`other:sql=${PATTERNS}`), 2, /served \(llama-f32\), got other/],
    // Told before a model is looked for.
    ['of one of two models', ['serve', './a', './b', '--adapter', 'sql=./c'], 2, /base model in front/],
  ])('%s: %j', async (_, args, code, message) => {
    const result = await runCli(args);
    expect(result.stderr).toMatch(message);
    expect(result.stderr).not.toMatch(/\n\s+at /);
    expect(result).toMatchObject({ code, stdout: '' });
  });
});
