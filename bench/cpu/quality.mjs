// How far int8 activations and rounded caches move the answers: mean KL divergence from float32 of the same weights, for this
// package and for llama.cpp, on the same tokens. llama-perplexity writes its log-probabilities to a file; ours are asked for
// at the same positions, and both are held against our `exact` model, which test/parity holds against an independent one.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from '../../scripts/run.mjs';
import { places } from './places.mjs';

const WINDOW = 512;
const NUM_WINDOWS = 20;
const TEXTS = ['LICENSE', 'docs/architecture.md', 'docs/formats.md', 'docs/kernels/matmul.md'];

export async function quality(peer, { file, threads, note }) {
  const theirs = peerLogProbs(peer, { file, threads });
  const { createEngine } = await import(pathToFileURL(join(root, 'dist', 'index.mjs')).href);
  const engine = await createEngine({ threads });
  const sums = { ours: 0, theirs: 0, count: 0 };
  try {
    const options = { source: file, contextLength: 1_024, kvCache: { memory: '256MiB' } };
    const exact = await engine.loadModel({ ...options, precision: 'exact' });
    const fast = await engine.loadModel({ ...options, precision: 'fast' });
    for (let chunk = 0; chunk < theirs.numChunks; chunk += 1) {
      const tokens = theirs.tokensOf(chunk);
      const positions = Array.from({ length: theirs.rowsPerChunk }, (_, i) => theirs.first + i);
      const [p, q] = [await exact.logits(tokens, { positions }), await fast.logits(tokens, { positions })];
      const { vocabSize } = theirs;
      for (const i of positions.keys()) {
        const reference = logSoftmax(p.subarray(i * vocabSize, (i + 1) * vocabSize));
        sums.ours += divergence(reference, logSoftmax(q.subarray(i * vocabSize, (i + 1) * vocabSize)));
        sums.theirs += divergence(reference, theirs.row(chunk, i));
        sums.count += 1;
      }
      note(`  ${sums.count} positions: ${sums.ours / sums.count}, ${peer.name} ${sums.theirs / sums.count}`);
    }
  } finally {
    await engine.close();
  }
  return { ours: sums.ours / sums.count, theirs: sums.theirs / sums.count, numPositions: sums.count };
}

/**
 * What `llama-perplexity --save-all-logits` writes: "_logits_", three int32 (window, vocabulary, chunks), the tokens, then for
 * the second half of each window but its last token a row: two floats (scale, lowest) and a uint16 per token of the vocabulary.
 */
function peerLogProbs(peer, { file, threads }) {
  mkdirSync(places.models, { recursive: true });
  const [text, path] = [join(places.models, 'quality.txt'), join(places.models, 'quality.logits')];
  writeFileSync(text, TEXTS.map((name) => readFileSync(join(root, name), 'utf8')).join('\n'));
  const args = ['-m', file, '-t', `${threads}`, '-f', text, '-c', `${WINDOW}`, '-b', `${WINDOW}`];
  args.push('--chunks', `${NUM_WINDOWS}`, '--save-all-logits', path);
  execFileSync(peer.tool('llama-perplexity'), args, { stdio: ['ignore', 'ignore', 'ignore'] });
  const bytes = readFileSync(path);
  if (bytes.toString('latin1', 0, 8) !== '_logits_') throw new Error(`${path} is not a file of logits`);
  const [window, vocabSize, numChunks] = [8, 12, 16].map((offset) => bytes.readInt32LE(offset));
  const first = window >> 1;
  const rowsPerChunk = window - 1 - first;
  const rowWords = 2 * ((vocabSize + 1) >> 1) + 4;
  const rowsAt = 20 + 4 * window * numChunks;
  return {
    vocabSize,
    numChunks,
    first,
    rowsPerChunk,
    tokensOf: (chunk) =>
      Int32Array.from({ length: window }, (_, i) => bytes.readInt32LE(20 + 4 * (chunk * window + i))),
    row(chunk, i) {
      const start = rowsAt + 2 * rowWords * (chunk * rowsPerChunk + i);
      const [scale, lowest] = [bytes.readFloatLE(start), bytes.readFloatLE(start + 4)];
      return Float64Array.from(
        { length: vocabSize },
        (_, id) => lowest + scale * bytes.readUInt16LE(start + 8 + 2 * id),
      );
    },
  };
}

function logSoftmax(logits) {
  const max = logits.reduce((highest, logit) => Math.max(highest, logit), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - max), 0);
  const norm = max + Math.log(sum);
  return Float64Array.from(logits, (logit) => logit - norm);
}

/** KL(p || q) in nats, both as log-probabilities. */
function divergence(p, q) {
  let sum = 0;
  for (let i = 0; i < p.length; i += 1) sum += Math.exp(p[i]) * (p[i] - q[i]);
  return sum;
}
