// Measures this package beside llama.cpp and ik_llama.cpp on this machine:
//   node bench/cpu/main.mjs [--only PART,...] [--list] [--rounds 5] [--ik CHECKOUT] [--llama BUILD] [--dry]
// The peers and the models are built and made on first use, into .cache; --llama names a finished build of llama.cpp to take
// instead. Without --dry the figures go to bench/results.
import { parseArgs } from 'node:util';
import { describeMachine, loadAverage } from '../machine.mjs';
import { measurePart } from './measure-part.mjs';
import { machineProbe } from './native-tools.mjs';
import { NODE_PARTS } from './node-parts.mjs';
import { PARTS as SPEED_PARTS } from './parts.mjs';
import { ikLlamaCpp, llamaCpp } from './peers.mjs';
import { PRODUCT_PARTS } from './product-parts.mjs';
import { table, writeResults } from './report.mjs';
import { WHOLE_PARTS } from './whole-parts.mjs';

const PARTS = [...SPEED_PARTS, ...NODE_PARTS, ...PRODUCT_PARTS, ...WHOLE_PARTS];

const { values: flags } = parseArgs({
  options: {
    only: { type: 'string' },
    list: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '5' },
    ik: { type: 'string' },
    llama: { type: 'string' },
    dry: { type: 'boolean', default: false },
  },
});
const note = (text) => process.stderr.write(`${text}\n`);

function chosenParts() {
  if (flags.only === undefined) return PARTS;
  return flags.only.split(',').map((id) => {
    const part = PARTS.find((each) => each.id === id);
    if (part === undefined) {
      note(`there is no part ${id}; the parts are ${PARTS.map((each) => each.id).join(', ')}`);
      process.exit(2);
    }
    return part;
  });
}

if (flags.list) {
  for (const { id, titles, figures } of PARTS)
    process.stdout.write(
      `${id}: ${(titles ?? Object.values(figures).map(({ title }) => title)).join('; ')}\n`,
    );
  process.exit(0);
}

/** The command without the folders of this machine. */
function commandLine() {
  const words = ['node', 'bench/cpu/main.mjs', ...(flags.only === undefined ? [] : ['--only', flags.only])];
  words.push('--rounds', flags.rounds);
  if (flags.ik !== undefined) words.push('--ik', 'CHECKOUT');
  if (flags.llama !== undefined) words.push('--llama', 'BUILD');
  return words.join(' ');
}

const parts = chosenParts();
// What Node costs is measured without them.
const hasPeers = parts.some((part) => ![...NODE_PARTS, ...PRODUCT_PARTS].includes(part));
const peers = hasPeers ? [llamaCpp(flags.llama), ikLlamaCpp(flags.ik)].filter((peer) => peer !== null) : [];
if (hasPeers && flags.ik === undefined) note('ik_llama.cpp: skipped, no checkout was given (--ik)');
const busy = loadAverage();
if (busy !== null && busy > 0.5) note(`load average ${busy}: others are using this machine`);
const probes = new Map();
const run = {
  date: new Date().toISOString().slice(0, 16).replace('T', ' '),
  command: commandLine(),
  machine: describeMachine(),
  loadAverage: busy,
  peers: peers.map(({ name, version }) => ({ name, version })),
  parts: [],
};
for (const part of parts) {
  note(`${part.id}:`);
  if (!probes.has(part.threads)) probes.set(part.threads, machineProbe(part.threads));
  const probe = () => probes.get(part.threads).ask({});
  const context = { peers, rounds: Number(flags.rounds), probe, note };
  run.parts.push(await (part.run?.(context) ?? measurePart(part, context)));
  if (!flags.dry) writeResults(run); // after each part: what follows may fail
}
await Promise.all([...probes.values()].map((each) => each.close()));
process.stdout.write(`${table(run)}\n`);
