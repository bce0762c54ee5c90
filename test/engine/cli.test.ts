import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Engine, Model } from '../../lib/engine/types';
import { runCli, startCli } from './cli-process';
import { createEngine, endlessFixture, Fixture } from './engine-under-test';

const GREEDY = ['--temperature', '0'];
let folder: string;
let long: string;
let engine: Engine;
let model: Model;

beforeAll(async () => {
  long = endlessFixture();
  engine = await createEngine();
  model = await engine.loadModel(Fixture.float32);
});
afterAll(async () => {
  await engine.close();
  rmSync(long, { recursive: true, force: true });
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'open-autoglm-cli-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const userMessage = (content: string) => ({ messages: [{ role: 'user' as const, content }] });

/** The float32 fixture with a tokenizer that puts a token in front of each text, as many do. */
function fixtureWithBeginning(parent: string): string {
  const path = join(parent, 'with-beginning');
  cpSync(Fixture.float32, path, { recursive: true });
  const tokenizer = JSON.parse(readFileSync(join(path, 'tokenizer.json'), 'utf8'));
  const { id, content } = tokenizer.added_tokens[0] as { id: number; content: string };
  const single = [{ SpecialToken: { id: content, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }];
  const special_tokens = { [content]: { id: content, ids: [id], tokens: [content] } };
  const pair = [...single, { Sequence: { id: 'B', type_id: 1 } }];
  const post_processor = { type: 'TemplateProcessing', single, pair, special_tokens };
  writeFileSync(join(path, 'tokenizer.json'), JSON.stringify({ ...tokenizer, post_processor }));
  return path;
}

describe('the program', () => {
  test('shows its help without loading the engine, the server or a model reader', () => {
    const main = join(__dirname, '..', '..', 'dist', 'cli', 'main.js');
    const script = `
      const { main } = require(${JSON.stringify(main)});
      main(['--help']).then(() => {
        process.stderr.write(Object.keys(require.cache).filter((file) => !/node_modules/.test(file)).join(','));
      });`;
    const { stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
    expect(stderr).toContain('options.js');
    expect(stderr).not.toMatch(/dist.(engine|server|scheduler|tokenizer|model|native|chat)\b/);
  });

  test.each([
    [['frob'], /unknown command/],
    [[], /Usage/],
    [['run'], /missing required argument/],
    [['run', 'x', '--frob'], /unknown option/],
    [['run', 'x', 'y', '--threads', 'many'], /Expected a number/],
    [['inspect', 'frob', 'x'], /unknown command|Usage/],
  ])('%j is a wrong command line: exit 2, nothing on standard output', async (args, message) => {
    const { code, stdout, stderr } = await runCli(args);
    expect(stderr).toMatch(message);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  test('prints its version', async () => {
    expect(await runCli(['--version'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    });
  });

  test.each([
    [['run', './none.gguf', 'x'], 1, /expected a model file, found nothing/],
    [['run', 'no-such-name', 'x'], 1, /no short name and no file.*\nhint: Short names: /s],
    [['run', 'ftp://x', 'y'], 2, /expected a path, a short name/],
    [['run', Fixture.q4], 2, /the prompt is empty/],
    [['run', Fixture.q4, 'x', '--temperature', '-1'], 2, /temperature/],
    [['run', Fixture.q4, 'x', '--context', '1000000'], 2, /contextLength/],
    [['run', Fixture.q4, 'x', '--raw', '--system', 'y'], 2, /exclude each other/],
    [['run', Fixture.q4, 'x', '--chat-template', '/none'], 2, /cannot be read \(ENOENT\)/],
    [['chat', Fixture.q4, '--resume', '/none'], 2, /cannot be read \(ENOENT\)/],
    [['eval', 'perplexity', Fixture.q4, '/none'], 2, /cannot be read \(ENOENT\)/],
    [['rm', 'hf:org/none'], 1, /nothing is cached/],
    // Told before the model is even looked for.
    [['serve', './none.gguf', '--host', '0.0.0.0', '--port', '0'], 2, /API key/],
  ])('%j fails with a message, a hint where there is one, and no stack', async (args, code, message) => {
    const result = await runCli(args);
    expect(result.stderr).toMatch(message);
    expect(result.stderr).not.toMatch(/\n\s+at /);
    expect(result.stdout).toBe('');
    expect(result.code).toBe(code);
  });
});

describe('run', () => {
  test('streams the answer to standard output and its figures to standard error', async () => {
    const { text } = await model.generate({ ...userMessage('Hello there'), temperature: 0, maxTokens: 12 });
    const { code, stdout, stderr } = await runCli([
      'run',
      Fixture.float32,
      'Hello',
      'there',
      ...GREEDY,
      '-n',
      '12',
    ]);
    expect(stdout).toBe(text.endsWith('\n') ? text : `${text}\n`);
    expect(stderr).toMatch(/^\d+ tokens, [\d.]+ tokens\/s; prompt \d+ tokens, first token after /m);
    expect(code).toBe(0);
  });

  test('takes the prompt from a pipe, a system message, a seed and stop texts', async () => {
    const messages = [
      { role: 'system' as const, content: 'Be brief.' },
      { role: 'user' as const, content: 'From a pipe' },
    ];
    const expected = await model.generate({ messages, seed: 5, minP: 0.05, maxTokens: 20, stop: ['e'] });
    const args = [
      'run',
      Fixture.float32,
      '--system',
      'Be brief.',
      '--seed',
      '5',
      '-n',
      '20',
      '--stop',
      'e',
      '-q',
    ];
    const { stdout, stderr } = await runCli(args, 'From a pipe\n');
    expect(stdout).toBe(expected.text.endsWith('\n') ? expected.text : `${expected.text}\n`);
    expect(stderr).toBe('');
  });

  test('--raw leaves the template out, --json gives the whole result', async () => {
    const expected = await model.generate({ prompt: 'Once', temperature: 0, maxTokens: 6 });
    const { stdout } = await runCli([
      'run',
      Fixture.float32,
      'Once',
      '--raw',
      '--json',
      ...GREEDY,
      '-n',
      '6',
    ]);
    expect(JSON.parse(stdout)).toMatchObject({
      text: expected.text,
      tokens: expected.tokens,
      usage: expected.usage,
    });
  });

  test('a chat template of the caller replaces that of the model, and --verbose says what happens', async () => {
    const file = join(folder, 'template');
    writeFileSync(file, "{{ messages[0]['content'] }}!");
    const expected = await model.generate({ prompt: 'Once!', temperature: 0, maxTokens: 6 });
    const args = [
      'run',
      Fixture.float32,
      'Once',
      '--chat-template',
      file,
      '--json',
      '--verbose',
      ...GREEDY,
      '-n',
      '6',
    ];
    const { stdout, stderr } = await runCli(args);
    expect(JSON.parse(stdout)).toMatchObject({ text: expected.text, tokens: expected.tokens });
    expect(stderr).toMatch(/of weights, .* of KV cache/);
  });

  test('SIGINT ends the answer and the program with 130', async () => {
    const { child, ended } = startCli(['run', long, 'Go on', '--seed', '1', '-q', '--precision', 'exact']);
    child.stdin?.end();
    child.stdout?.once('data', () => child.kill('SIGINT'));
    const { code, stderr } = await ended;
    expect(code).toBe(130);
    expect(stderr).toBe('');
  });

  test('ends quietly when the reader of its output goes away', async () => {
    const { child, ended } = startCli(['run', long, 'Go on', '--seed', '1', '-q']);
    child.stdin?.end();
    child.stdout?.once('data', () => child.stdout?.destroy());
    const { code, stderr } = await ended;
    expect(stderr).toBe('');
    expect(code).toBe(0);
  });
});

describe('chat', () => {
  const settings = [...GREEDY, '-n', '10'];

  test('remembers the turns before: each answer is that of the whole conversation', async () => {
    const options = { temperature: 0, maxTokens: 10 };
    const first = await model.generate({ ...userMessage('Hello'), ...options });
    const messages = [
      { role: 'user' as const, content: 'Hello' },
      { role: 'assistant' as const, content: first.text },
      { role: 'user' as const, content: 'two\nlines' },
    ];
    const second = await model.generate({ messages, ...options });
    const { code, stdout, stderr } = await runCli(
      ['chat', Fixture.float32, ...settings],
      'Hello\ntwo\\\nlines\n',
    );
    expect(stdout).toBe(`${first.text}\n${second.text}\n`);
    expect(stderr).toMatch(/\d+ cached/);
    expect(code).toBe(0);
  });

  test('saves a conversation, goes on with it, and forgets it', async () => {
    const file = join(folder, 'saved.json');
    const input = `Hello\\\nthere\n/save ${file}\n/clear\nHello\\\nthere\n/frob\n/exit\nnever asked\n`;
    const { stdout, stderr } = await runCli(
      ['chat', Fixture.float32, ...settings, '--system', 'Be brief.'],
      input,
    );
    const answers = stdout.split('\n').filter((line) => line !== '');
    expect(answers).toHaveLength(2);
    expect(answers[1]).toBe(answers[0]);
    expect(stderr).toContain('no command /frob');
    const { messages } = JSON.parse(readFileSync(file, 'utf8'));
    expect(messages.map((message: { role: string }) => message.role)).toEqual([
      'system',
      'user',
      'assistant',
    ]);
    expect(messages[1].content).toBe('Hello\nthere');
    const resumed = await runCli(['chat', Fixture.float32, ...settings, '--resume', file], `/save ${file}\n`);
    expect(resumed.stderr).toContain('1 questions so far');
    expect(JSON.parse(readFileSync(file, 'utf8')).messages).toEqual(messages);
  });

  test('SIGINT stops the answer, not the program', async () => {
    const { child, ended, waitFor } = startCli(['chat', long, '--seed', '1']);
    child.stdin?.write('Go on\n');
    child.stdout?.once('data', () => child.kill('SIGINT'));
    await waitFor('stopped');
    child.stdin?.write('/clear\n');
    await waitFor('forgotten');
    child.stdin?.end('/exit\n');
    expect((await ended).code).toBe(0);
  });

  test('goes on after a question that cannot be answered', async () => {
    const { code, stdout, stderr } = await runCli(
      ['chat', Fixture.float32, ...settings],
      `${'many words '.repeat(400)}\nHello\n`,
    );
    expect(stderr).toMatch(/error: .*context/);
    expect(stdout).not.toBe('');
    expect(code).toBe(0);
  });
});

describe('serve', () => {
  test('answers over HTTP until SIGTERM, then ends with 0', async () => {
    const { child, ended, waitFor } = startCli(['serve', Fixture.q4, '--port', '0', '--api-key', 'k']);
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(await waitFor('chat page '))?.[0];
    const refused = await fetch(`${url}/v1/models`);
    expect(refused.status).toBe(401);
    const response = await fetch(`${url}/v1/models`, { headers: { authorization: 'Bearer k' } });
    expect(response.status).toBe(200);
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ code: 0, stdout: '' });
  });

  test('takes a key from the environment, other hosts and origins, and leaves the page out', async () => {
    const args = ['--port', '0', '--no-page', '--json', '--allow-host', 'box.example'];
    const origin = 'https://app.example';
    const { child, ended, waitFor } = startCli(['serve', Fixture.q4, ...args, '--cors-origin', origin], {
      OPEN_AUTOGLM_API_KEY: 'from-environment',
    });
    const output = await waitFor('listening on ');
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(output)?.[0] ?? '';
    const authorization = 'Bearer from-environment';
    const response = await fetch(`${url}/v1/models`, { headers: { authorization, origin } });
    expect(response.status).toBe(200);
    expect(response.headers.get('access-control-allow-origin')).toBe(origin);
    expect((await fetch(`${url}/`, { headers: { authorization } })).status).toBe(404);
    expect(await statusFor(url, 'box.example', authorization)).toBe(200);
    expect(await statusFor(url, 'other.example', authorization)).toBe(403);
    child.kill('SIGINT');
    const { code, stderr } = await ended;
    const records = stderr.split('\n').filter((line) => line.startsWith('{'));
    expect(records.length).toBeGreaterThan(0);
    for (const record of records) expect(JSON.parse(record)).toHaveProperty('time');
    expect(stderr).not.toContain('from-environment');
    expect(code).toBe(0);
  });
});

/** `fetch` lets nobody choose the Host header. */
function statusFor(url: string, host: string, authorization: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const headers = { host, authorization };
    request(`${url}/v1/models`, { headers }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .once('error', reject)
      .end();
  });
}

describe('looking at models', () => {
  test('tokenize agrees with the model and shows bytes that are no characters', async () => {
    const text = 'naïve 👩 <|user|>';
    const expected = [...(await model.tokenize(text))];
    const { stdout } = await runCli(['tokenize', Fixture.float32, text, '--json']);
    const { count, tokens } = JSON.parse(stdout) as {
      count: number;
      tokens: { id: number; text: string | null; bytes: number[] }[];
    };
    expect(tokens.map(({ id }) => id)).toEqual(expected);
    expect(count).toBe(expected.length);
    expect(tokens.find(({ id }) => id === expected[0])?.text).not.toBeNull();
    expect(tokens.some((token) => token.text === null)).toBe(true);
    expect(Buffer.from(tokens.flatMap(({ bytes }) => bytes)).toString('utf8')).toBe(text);
    expect(await runCli(['tokenize', Fixture.float32, '--count'], text)).toMatchObject({
      stdout: `${expected.length}\n`,
    });
    const special = await model.tokenize(text, { parseSpecialTokens: true });
    expect(await runCli(['tokenize', Fixture.float32, text, '--count', '--special'])).toMatchObject({
      stdout: `${special.length}\n`,
    });
  });

  test('tokenize --bos adds what the tokenizer puts in front of a text', async () => {
    const source = fixtureWithBeginning(folder);
    const counts = [[], ['--bos']].map(
      async (flags) => (await runCli(['tokenize', source, 'a', '--count', ...flags])).stdout,
    );
    expect(await Promise.all(counts)).toEqual(['1\n', '2\n']);
  });

  test('ls and rm show and remove what is cached', async () => {
    const repository = join(folder, 'hub', 'models--org--name');
    const snapshot = join(repository, 'snapshots', 'a'.repeat(40));
    for (const path of [snapshot, join(repository, 'refs'), join(repository, 'blobs')])
      mkdirSync(path, { recursive: true });
    writeFileSync(join(repository, 'refs', 'main'), 'a'.repeat(40));
    writeFileSync(join(repository, 'blobs', 'b'), 'x'.repeat(1500));
    symlinkSync('../../blobs/b', join(snapshot, 'm.gguf'));
    const env = { HF_HUB_CACHE: join(folder, 'hub'), OPEN_AUTOGLM_CACHE: join(folder, 'own') };
    expect((await runCli(['ls'], '', env)).stdout).toMatch(/1\.5 kB {2}hf:org\/name:m\.gguf/);
    expect(JSON.parse((await runCli(['ls', '--json'], '', env)).stdout)).toMatchObject([
      { source: 'hf:org/name:m.gguf', bytes: 1500, names: [] },
    ]);
    expect(await runCli(['pull', 'hf:org/name:m.gguf', '--offline'], '', env)).toMatchObject({
      stdout: `${join(snapshot, 'm.gguf')}\n`,
      stderr: expect.stringContaining('was here already'),
    });
    expect(await runCli(['pull', 'hf:org/other', '--offline'], '', env)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('hint: Cached: hf:org/name:m.gguf.'),
    });
    const revised = await runCli(['pull', 'hf:org/name:m.gguf', '--revision', 'v2', '--offline'], '', env);
    expect(revised).toMatchObject({ code: 1, stderr: expect.stringContaining('not in the cache') });
    expect(await runCli(['rm', 'hf:org/name:m.gguf'], '', env)).toMatchObject({ code: 0, stdout: '' });
    expect(JSON.parse((await runCli(['ls', '--json'], '', env)).stdout)).toEqual([]);
    expect((await runCli(['ls', '--catalog'], '', env)).stdout).toContain('smollm2-135m-instruct');
  });
});

describe('measuring', () => {
  test('bench gives figures for each prompt length and batch', async () => {
    const args = [
      '--batches',
      '1,3',
      '--prompts',
      '16,32',
      '--new-tokens',
      '4',
      '--repeat',
      '2',
      '--json',
      '-q',
    ];
    const { stdout, stderr, code } = await runCli(['bench', Fixture.q4, ...args]);
    const report = JSON.parse(stdout);
    expect(report.prefill.map(({ promptTokens }: { promptTokens: number }) => promptTokens)).toEqual([
      16, 32,
    ]);
    expect(report.decode.map(({ batch }: { batch: number }) => batch)).toEqual([1, 3]);
    for (const { tokensPerSecond } of [...report.prefill, ...report.decode])
      expect(tokensPerSecond).toBeGreaterThan(0);
    expect(report.machine.threads).toBeGreaterThan(0);
    expect(stderr).toBe('');
    expect(code).toBe(0);
  });

  test('eval perplexity is the exponential of the mean score of each second half', async () => {
    const text = 'The quick brown fox jumps over the lazy dog. '.repeat(20);
    const window = 64;
    const beginning = await engine.loadModel(fixtureWithBeginning(folder));
    const tokens = await beginning.tokenize(text);
    const prefix = await beginning.tokenize('', { addSpecialTokens: true });
    expect(prefix).toHaveLength(1);
    const share = window - prefix.length;
    let sum = 0;
    let count = 0;
    for (let i = 0; i < 2; i += 1) {
      const scores = await beginning.score([...prefix, ...tokens.subarray(i * share, (i + 1) * share)]);
      for (const score of scores.subarray(window / 2)) {
        sum += score;
        count += 1;
      }
    }
    writeFileSync(join(folder, 'text'), text);
    const args = ['--window', '64', '--limit', '2', '--json', '-q'];
    const { stdout } = await runCli([
      'eval',
      'perplexity',
      fixtureWithBeginning(folder),
      join(folder, 'text'),
      ...args,
    ]);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ numTokens: count, numWindows: 2, window });
    expect(report.perplexity).toBeCloseTo(Math.exp(-sum / count), 6);
  });

  test('a text shorter than a window is an error with both lengths', async () => {
    const { code, stderr } = await runCli(['eval', 'perplexity', Fixture.float32], 'short');
    expect(stderr).toMatch(/the text has \d+ tokens, a window takes 5\d\d/);
    expect(code).toBe(2);
  });

  test('doctor finds everything in order here, and names what is wrong elsewhere', async () => {
    const env = { OPEN_AUTOGLM_CACHE: folder, HF_HOME: folder };
    const good = await runCli(['doctor', '--json'], '', env);
    const findings = JSON.parse(good.stdout) as { what: string; state: string }[];
    expect(findings.filter(({ state }) => state === 'bad')).toEqual([]);
    expect(findings.map(({ what }) => what)).toEqual(
      expect.arrayContaining(['native binary', 'engine', 'cache']),
    );
    expect(good.code).toBe(0);
    const bad = await runCli(['doctor'], '', { ...env, OPEN_AUTOGLM_BINARY: '/none.node' });
    expect(bad.stdout).toMatch(/fail native binary: .*\n +\/none\.node: not found\n +hint: /);
    expect(bad.code).toBe(1);
  });
});
