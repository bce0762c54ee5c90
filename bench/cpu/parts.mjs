// What is measured: each part compares this package with its peers in turn and yields one or more figures, in tokens per
// second. `bars` are those of issue 5: by subject the ratio that must be and the one aimed at; `share` is the share of the
// probed limit. Every part is meant to run in less than four minutes.
import { batchedBench, llamaBench } from './peer-runs.mjs';

export const OURS = 'open-autoglm';
export const LLAMA = 'llama.cpp';
export const IK = 'ik_llama.cpp';

/** Products of one token: weights of all layers, weights of the head, and floats of Q per layer times layers. */
export const SHAPES = {
  smollm2: { body: 106_168_320, head: 28_311_552, attention: 30 * 576 },
  '1b': { body: 973_078_528, head: 262_668_288, attention: 16 * 2_048 },
  '8b': { body: 6_979_321_856, head: 525_336_576, attention: 32 * 4_096 },
};

const DEPTH = 4_096;
const PROMPT = 512;
const SHORT_PROMPT = 8;

/** Batch 1 and a prompt of 512 tokens: llama-bench's own two tests. */
function singlePart({ id, title, model, threads = 2, decode, hasPrefill = true, bars, isRepacked = true }) {
  const figures = { decode: { title: `${title} decode batch 1`, batch: 1, bars: bars.decode } };
  if (hasPrefill)
    figures.prefill = { title: `${title} prefill ${PROMPT}`, prefill: PROMPT, bars: bars.prefill };
  return {
    id,
    model,
    threads,
    figures,
    ours: async (ask) => {
      const measured = { decode: [(await ask({ kind: 'decode', tokens: decode })).speed] };
      if (hasPrefill) measured.prefill = [(await ask({ kind: 'prefill', tokens: PROMPT })).speed];
      return measured;
    },
    peer: async (peer, file) => {
      const prefill = hasPrefill ? PROMPT : 0;
      const { prefill: prompts, decode: tokens } = await llamaBench(peer, {
        file,
        threads,
        prefill,
        decode,
        isRepacked,
      });
      return hasPrefill ? { decode: tokens, prefill: prompts } : { decode: tokens };
    },
  };
}

function batchPart({ id, title, model, batches = [8, 32], tokens, bars, isRepacked = true }) {
  const threads = 2;
  const figures = {};
  for (const batch of batches)
    figures[`decode${batch}`] = { title: `${title} decode batch ${batch}, sum`, batch, bars: bars[batch] };
  return {
    id,
    model,
    threads,
    figures,
    ours: async (ask) => {
      const measured = {};
      for (const batch of batches) {
        const { speed } = await ask({ kind: 'decode', batch, tokens, prompt: SHORT_PROMPT });
        measured[`decode${batch}`] = [speed];
      }
      return measured;
    },
    peer: async (peer, file) => {
      const speeds = await batchedBench(peer, {
        file,
        threads,
        batches,
        prompt: SHORT_PROMPT,
        tokens,
        isRepacked,
      });
      return Object.fromEntries(batches.map((batch) => [`decode${batch}`, [speeds[batch]]]));
    },
  };
}

/**
 * At depth 4,096, whose computation takes the peers a minute: one process of theirs gives all samples, and this package is
 * measured before and after it.
 */
function depthPart({ id, title, model, threads, decode, bars }) {
  return {
    id,
    model,
    threads,
    isLong: true,
    figures: {
      decode: { title: `${title} decode at depth ${DEPTH}`, batch: 1, depth: DEPTH, bars: bars.decode },
      prefill: {
        title: `${title} prefill ${PROMPT} at depth ${DEPTH}`,
        prefill: PROMPT,
        depth: DEPTH,
        bars: bars.prefill,
      },
    },
    ours: async (ask) => ({
      decode: [(await ask({ kind: 'decode', tokens: decode, depth: DEPTH })).speed],
      prefill: [(await ask({ kind: 'prefill', tokens: PROMPT, depth: DEPTH })).speed],
    }),
    peer: async (peer, file, repetitions) => {
      const options = {
        file,
        threads,
        prefill: peer.isIk ? 0 : PROMPT,
        decode,
        depth: DEPTH,
        repetitions,
        isRepacked: true,
      };
      const { prefill, decode: tokens } = await llamaBench(peer, options);
      return { decode: tokens, prefill };
    },
  };
}

export const PARTS = [
  singlePart({
    id: 'smollm2',
    title: 'SmolLM2 Q4_1',
    model: 'smollm2',
    decode: 96,
    bars: {
      decode: { [LLAMA]: [1.7, 2.3], [IK]: [1.2, 1.5] },
      prefill: { [LLAMA]: [5, 8], [IK]: [1.05, 1.6], share: [28, 45] },
    },
  }),
  batchPart({
    id: 'smollm2-batch',
    title: 'SmolLM2 Q4_1',
    model: 'smollm2',
    tokens: 32,
    bars: { 8: { [LLAMA]: [3.5, 5], [IK]: [1.7, 2.5] }, 32: { [LLAMA]: [4, 6.5], [IK]: [1.7, 2.7] } },
  }),
  singlePart({
    id: '1b',
    title: '1B Q4_0',
    model: '1b-q4_0',
    decode: 32,
    bars: {
      decode: { [LLAMA]: [1.2, 1.4], [IK]: [1, 1.15] },
      prefill: { [LLAMA]: [1.6, 2.1], [IK]: [1.1, 1.45], share: [45, 58] },
    },
  }),
  singlePart({
    id: '1b-thread',
    title: '1B Q4_0, 1 thread:',
    model: '1b-q4_0',
    threads: 1,
    decode: 32,
    hasPrefill: false,
    bars: { decode: { [LLAMA]: [1.25, 1.5], [IK]: [1, 1.15] } },
  }),
  batchPart({
    id: '1b-batch',
    title: '1B Q4_0',
    model: '1b-q4_0',
    tokens: 12,
    bars: { 8: { [LLAMA]: [2, 3.5], [IK]: [1.4, 2.5] }, 32: { [LLAMA]: [2, 4], [IK]: [1.5, 3] } },
  }),
  singlePart({
    id: '1b-bf16',
    title: '1B BF16',
    model: '1b-bf16',
    decode: 16,
    isRepacked: false,
    bars: { decode: {}, prefill: { [LLAMA]: [1, 1.3], [IK]: [1, 1.3] } },
  }),
  depthPart({
    id: '1b-depth',
    title: '1B Q4_0',
    model: '1b-q4_0',
    threads: 2,
    decode: 16,
    bars: { decode: { [LLAMA]: [1.5, 2], [IK]: [1.15, 1.5] }, prefill: { [LLAMA]: [2, 3] } },
  }),
  singlePart({
    id: '8b',
    title: '8B Q4_0',
    model: '8b-q4_0',
    decode: 12,
    bars: { decode: {}, prefill: {} },
  }),
];
