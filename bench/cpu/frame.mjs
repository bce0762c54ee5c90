// How two engines are compared: in turn (A B, B A, A B, ...), with the machine's limits probed before and after each round.
// A round whose probes differ by more than a tenth is void, and a void one is repeated a few times.
const MAX_PROBE_CHANGE = 0.1;
/** Rounds begun for each round wanted, before the frame gives up. */
const MAX_TRIES = 2;

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const PROBED = ['readGBs', 'int8Gops'];

/** The largest relative change between two probes. */
function changeOf([before, after]) {
  const changes = PROBED.filter((key) => before[key] !== undefined).map(
    (key) => Math.abs(after[key] - before[key]) / Math.max(before[key], after[key]),
  );
  return Math.max(...changes);
}

/** `probes` are those before and after, `samples` is {subject: {figure: [...]}}. */
export function roundOf(probes, samples) {
  const change = changeOf(probes);
  return { isVoid: change > MAX_PROBE_CHANGE, change, probes, samples };
}

/**
 * Runs every subject once per round, until there are `rounds` that count. A subject is {name, measure}, measure resolving to
 * {figure: [samples]}.
 */
export async function compare(subjects, { rounds, probe, note }) {
  const done = [];
  let numValid = 0;
  while (numValid < rounds && done.length < rounds * MAX_TRIES) {
    const order = done.length % 2 === 0 ? subjects : subjects.toReversed();
    const before = await probe();
    const samples = {};
    for (const { name, measure } of order) samples[name] = await measure();
    const round = roundOf([before, await probe()], samples);
    if (!round.isVoid) numValid += 1;
    done.push(round);
    note(`  round ${done.length}: ${describeRound(round)}`);
  }
  return done;
}

export function describeRound({ isVoid, change, samples }) {
  const speeds = Object.entries(samples).map(([name, figures]) => `${name} ${shown(figures)}`);
  return `${isVoid ? `void, probes differ by ${(100 * change).toFixed(0)} %: ` : ''}${speeds.join('; ')}`;
}

const shown = (figures) =>
  Object.entries(figures)
    .map(([figure, values]) => `${figure} ${values.map((value) => value.toPrecision(4)).join(' ')}`)
    .join(', ');

/**
 * Medians over the valid rounds, or over all where none is valid: {figures: {figure: {subject: median}}, limits, isVoid}.
 * The limits are the medians of the same rounds' probes.
 */
export function summarize(rounds) {
  const valid = rounds.filter(({ isVoid }) => !isVoid);
  const used = valid.length > 0 ? valid : rounds;
  const figures = {};
  for (const { samples } of used) {
    for (const [subject, measured] of Object.entries(samples)) {
      for (const [figure, values] of Object.entries(measured)) {
        figures[figure] ??= {};
        figures[figure][subject] ??= [];
        figures[figure][subject].push(...values);
      }
    }
  }
  for (const bySubject of Object.values(figures)) {
    for (const [subject, values] of Object.entries(bySubject)) {
      if (values.length === 0) delete bySubject[subject];
      else bySubject[subject] = median(values);
    }
  }
  const probes = used.flatMap((round) => round.probes);
  const limits = { ...probes[0] };
  for (const [key, value] of Object.entries(limits)) {
    if (typeof value === 'number') limits[key] = median(probes.map((each) => each[key]));
  }
  return { figures, limits, isVoid: valid.length === 0, numRounds: used.length };
}
