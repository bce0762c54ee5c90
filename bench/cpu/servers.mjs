// Two servers under the same load: clients on the same machine that send one streamed completion after the other, each answer
// 64 tokens long. A server runs only while it is measured.
import { spawn } from 'node:child_process';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root } from '../../scripts/run.mjs';
import { median } from './frame.mjs';

const ANSWER_TOKENS = 64;
const PROMPT_WORDS = 62; // 64 tokens with SmolLM2's tokenizer, of words that are one token each
const PREFIX_WORDS = 512;
const WORDS = [
  'time',
  'people',
  'way',
  'water',
  'day',
  'man',
  'thing',
  'place',
  'work',
  'week',
  'case',
  'point',
  'company',
  'number',
  'group',
  'problem',
];
const START_TIMEOUT_MS = 120_000;

let numPrompts = 0;
function words(count, seed) {
  return Array.from(
    { length: count },
    (_, i) => WORDS[(seed * 7 + i * 5 + ((i * seed) >> 3)) % WORDS.length],
  ).join(' ');
}
/** No two begin alike but those with a prefix, which is the same for all. */
function prompt(hasPrefix) {
  numPrompts += 1;
  const own = `${numPrompts} ${words(PROMPT_WORDS, numPrompts)}`;
  return hasPrefix ? `${words(PREFIX_WORDS, 3)} ${own}` : own;
}

export function ourServer({ file, threads, clients, port }) {
  const cli = join(root, 'dist', 'cli', 'main.js');
  const args = [
    cli,
    'serve',
    file,
    '-p',
    `${port}`,
    '-t',
    `${threads}`,
    '-c',
    '1024',
    '--concurrency',
    `${Math.max(8, clients)}`,
    '-q',
  ];
  return start(process.execPath, args, port);
}

/** As many slots as clients, each with room for its prompt and answer. */
export function peerServer(peer, { file, threads, clients, port }) {
  const cells = clients * 1_024;
  const args = ['-m', file, '--port', `${port}`, '-t', `${threads}`, '-np', `${clients}`, '-c', `${cells}`];
  return start(peer.tool('llama-server'), args, port);
}

async function start(command, args, port) {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (text) => {
    errors = (errors + text).slice(-2_000);
  });
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await isHealthy(port))) {
    if (child.exitCode !== null || performance.now() > deadline)
      throw new Error(`${command} did not start: ${errors}`);
    await sleep(50);
  }
  return {
    port,
    close: () =>
      new Promise((resolve) => {
        child.once('close', resolve);
        child.kill('SIGTERM');
      }),
  };
}

function isHealthy(port) {
  return new Promise((resolve) => {
    const asked = request({ port, path: '/health', agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.on('error', () => resolve(false));
    asked.end();
  });
}

/** The only model of the server, by its own name for it. */
async function modelName(port) {
  const { data } = await (await fetch(`http://127.0.0.1:${port}/v1/models`)).json();
  return data[0].id;
}

/** Times at which the pieces of one streamed answer arrived, the first of them since the request was sent. */
function complete(port, text, model) {
  const body = JSON.stringify({
    model,
    prompt: text,
    max_tokens: ANSWER_TOKENS,
    temperature: 0,
    ignore_eos: true,
    stream: true,
  });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const sentAt = performance.now();
    const options = { port, path: '/v1/completions', method: 'POST', headers, agent: false };
    const asked = request(options, (response) => {
      if (response.statusCode !== 200) reject(new Error(`the server answered ${response.statusCode}`));
      const times = [];
      let rest = '';
      response.setEncoding('utf8');
      response.on('data', (piece) => {
        const lines = (rest + piece).split('\n');
        rest = lines.pop();
        for (const line of lines)
          if (/^data: \{/.test(line) && !/"text":\s*""/.test(line)) times.push(performance.now() - sentAt);
      });
      response.on('end', () => resolve(times));
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

function percentile(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

/** Every client sends `requests` one after the other; output tokens per second, first token p50 and gap p99 in ms. */
export async function loadTest({ port }, { clients, requests, hasPrefix }) {
  const model = await modelName(port);
  await complete(port, prompt(hasPrefix), model); // warms up, and puts the prefix into the cache
  const startedAt = performance.now();
  const answers = [];
  const client = async () => {
    for (let i = 0; i < requests; i += 1) answers.push(await complete(port, prompt(hasPrefix), model));
  };
  await Promise.all(Array.from({ length: clients }, client));
  const elapsedMs = performance.now() - startedAt;
  const gaps = answers.flatMap((times) => times.slice(1).map((at, i) => at - times[i]));
  return {
    speed: [(answers.length * ANSWER_TOKENS * 1_000) / elapsedMs],
    firstMs: [median(answers.map(([first]) => first))],
    gapMs: [percentile(gaps, 0.99)],
  };
}
