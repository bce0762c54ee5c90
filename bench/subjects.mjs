// What is measured: this package and its peer, behind the same few functions. Both get token ids, so that tokenizers play
// no part, and go on past end-of-text tokens, so that every run has the same length.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from '../scripts/run.mjs';

export const PEER = { name: 'node-llama-cpp', version: '3.22.1' };
export const peerFolder = join(root, '.cache', 'bench-peer');

/** Installs the peer where it is not there yet; false when it was. */
export function installPeer() {
  if (existsSync(join(peerFolder, 'node_modules', PEER.name, 'package.json'))) return false;
  mkdirSync(peerFolder, { recursive: true });
  writeFileSync(join(peerFolder, 'package.json'), JSON.stringify({ name: 'bench-peer', private: true }));
  const packages = [`${PEER.name}@${PEER.version}`];
  if (process.platform === 'linux' && process.arch === 'x64')
    packages.push(`@node-llama-cpp/linux-x64@${PEER.version}`);
  const args = [
    'install',
    '--prefix',
    peerFolder,
    '--ignore-scripts',
    '--omit=optional',
    '--no-audit',
    '--no-fund',
  ];
  execFileSync('npm', [...args, ...packages], { stdio: ['ignore', 'ignore', 'inherit'] });
  return true;
}

const CONTEXT_LENGTH = 2048;

/**
 * A subject loads a model and gives `generate(tokens, maxTokens)`, which yields how many tokens arrived at once,
 * `generateMany(prompts, maxTokens)`, which resolves to the milliseconds that all prompts together took, and `close`.
 * `entry` is what an application would import.
 */
export const SUBJECTS = {
  'open-autoglm': {
    entry: pathToFileURL(join(root, 'dist', 'index.mjs')).href,
    async load({ createEngine }, { file, threads }) {
      const engine = await createEngine({ threads });
      const model = await engine.loadModel({
        source: file,
        contextLength: CONTEXT_LENGTH,
        kvCache: { prefixCache: false },
      });
      async function* generate(tokens, maxTokens) {
        const run = model.generate({ tokens, maxTokens, temperature: 0, ignoreEos: true });
        for await (const event of run) if (event.type === 'text') yield event.tokens.length;
      }
      return {
        generate,
        async generateMany(prompts, maxTokens) {
          const startedAt = performance.now();
          await Promise.all(prompts.map((tokens) => drain(generate(tokens, maxTokens))));
          return performance.now() - startedAt;
        },
        close: () => engine.close(),
      };
    },
  },
  [PEER.name]: {
    entry: pathToFileURL(join(peerFolder, 'node_modules', PEER.name, 'dist', 'index.js')).href,
    async load({ getLlama }, { file, threads }) {
      const llama = await getLlama({ gpu: false, maxThreads: threads, build: 'never', logLevel: 'error' });
      const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
      const context = await model.createContext({ contextSize: CONTEXT_LENGTH, threads });
      const sequence = context.getSequence();
      async function* evaluate(from, tokens, maxTokens) {
        let count = 0;
        for await (const _ of from.evaluate([...tokens], { temperature: 0, yieldEogToken: true })) {
          yield 1;
          count += 1;
          if (count === maxTokens) return;
        }
      }
      return {
        async *generate(tokens, maxTokens) {
          await sequence.clearHistory();
          yield* evaluate(sequence, tokens, maxTokens);
        },
        async generateMany(prompts, maxTokens) {
          const shared = await model.createContext({ contextSize: 512, threads, sequences: prompts.length });
          const sequences = prompts.map(() => shared.getSequence());
          const startedAt = performance.now();
          const runs = prompts.map((tokens, i) => drain(evaluate(sequences[i], tokens, maxTokens)));
          await Promise.all(runs);
          const elapsedMs = performance.now() - startedAt;
          await shared.dispose();
          return elapsedMs;
        },
        close: () => llama.dispose(),
      };
    },
  },
};

async function drain(counts) {
  let sum = 0;
  for await (const count of counts) sum += count;
  return sum;
}
