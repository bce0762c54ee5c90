// One part: brings the subjects up, compares them, and holds the figures against their bars.
import { join } from 'node:path';
import { root } from '../../scripts/run.mjs';
import { Companion } from './companion.mjs';
import { compare, describeRound, roundOf, summarize } from './frame.mjs';
import { modelFile } from './models.mjs';
import { OURS, SHAPES } from './parts.mjs';

/** This package on a model, ready for questions: ours.mjs. */
export function openOurs(file, threads, { isKept = false, env = {} } = {}) {
  const args = [join(root, 'bench', 'cpu', 'ours.mjs'), file, String(threads), ...(isKept ? ['kept'] : [])];
  return new Companion(process.execPath, args, { env });
}

export async function measurePart(part, { peers, rounds, probe, note }) {
  const file = await modelFile(part.model);
  const ours = openOurs(file, part.threads);
  const ask = (question) => ours.ask(question);
  try {
    await part.ours(ask); // warms up: pages, caches, compiled code
    const { weightBytes } = await ask({ kind: 'memory' });
    const measured = part.isLong
      ? await longRounds(part, { peers, file, rounds, probe, ask, note })
      : await compare(subjectsOf(part, { peers, file, ask }), { rounds, probe, note });
    const summary = summarize(measured);
    return {
      id: part.id,
      threads: part.threads,
      ...summary,
      bars: judge(part, summary, weightBytes),
      rounds: measured,
    };
  } finally {
    await ours.close();
  }
}

const subjectsOf = (part, { peers, file, ask }) => [
  { name: OURS, measure: () => part.ours(ask) },
  ...peers.map((peer) => ({ name: peer.name, measure: () => part.peer(peer, file, 1) })),
];

/** A B A with all samples of B taken by one process: one round per peer. */
async function longRounds(part, { peers, file, rounds, probe, ask, note }) {
  const done = [];
  for (const peer of peers) {
    const ours = [];
    const measureOurs = async () => {
      for (let i = 0; i < Math.ceil(rounds / 2); i += 1) ours.push(await part.ours(ask));
    };
    const before = await probe();
    await measureOurs();
    const theirs = await part.peer(peer, file, rounds);
    await measureOurs();
    const round = roundOf([before, await probe()], { [OURS]: merge(ours), [peer.name]: theirs });
    note(`  ${describeRound(round)}`);
    done.push(round);
  }
  return done;
}

/** All samples of each figure, of which each measurement has some. */
function merge(measurements) {
  const figures = Object.keys(measurements[0]);
  return Object.fromEntries(figures.map((figure) => [figure, measurements.flatMap((each) => each[figure])]));
}

/** Rows of the table: ours against each peer, and against the limit. */
function judge(part, { figures, limits, isVoid }, weightBytes) {
  const rows = [];
  for (const [key, { title, bars, ...work }] of Object.entries(part.figures)) {
    const { [OURS]: ours, ...theirs } = figures[key];
    for (const [peer, value] of Object.entries(theirs))
      rows.push({
        title,
        against: peer,
        ours,
        theirs: value,
        ratio: ours / value,
        bar: bars?.[peer] ?? null,
        isVoid,
      });
    const limit = limitOf(
      work,
      SHAPES[part.model.split('-')[0]],
      weightBytes,
      limits,
      part.model.endsWith('bf16'),
    );
    if (limit === null) continue;
    const share = (100 * ours) / limit.speed;
    rows.push({
      title,
      against: limit.name,
      ours,
      theirs: limit.speed,
      share,
      bar: bars?.share ?? null,
      isVoid,
    });
  }
  return rows;
}

/**
 * Tokens per second that the probed limits allow: a step reads every weight and cached key once, and multiplies. What takes
 * longer is the limit. Prefill computes the head for its last token only; attention sees half of its own chunk on average.
 */
function limitOf({ batch, prefill, depth = 0 }, shape, weightBytes, limits, isFloat) {
  const peak = 1e9 * (isFloat ? limits.f32Gflops : limits.int8Gops);
  if (!(peak > 0)) return null;
  const rows = prefill ?? batch;
  const context = depth + (prefill ?? 0) / 2;
  const headRows = prefill === undefined ? batch : 1;
  const operations = 2 * (shape.body * rows + shape.head * headRows) + 4 * shape.attention * context * rows;
  const bySpeed = operations / peak;
  const byReading = weightBytes / (1e9 * limits.readGBs);
  return {
    name: bySpeed > byReading ? `probed ${isFloat ? 'f32' : 'int8'} peak` : 'probed read bandwidth',
    speed: rows / Math.max(bySpeed, byReading),
  };
}
