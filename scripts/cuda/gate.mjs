// The compile gate: compiles every kernel for every target and compares what the compiler made of it with the budget.
//   node scripts/cuda/gate.mjs            compares with test/cuda-gate/budget.json
//   node scripts/cuda/gate.mjs --update   writes that file anew: the diff is what a change costs
// --kernels=FOLDER and --budget=FILE name others, --report=FILE writes the counts as JSON. Needs no GPU.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { root } from '../run.mjs';
import { budgetFor, compareWithBudget, formatBudget } from './budget.mjs';
import { compileKernels, KERNEL_FOLDER, TARGETS } from './compile.mjs';
import { readKernels, readTargets } from './cubin.mjs';
import { entriesOf } from './embed.mjs';
import { pinnedToolkit } from './toolkit.mjs';

const option = (name) => process.argv.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3);
const budgetFile = resolve(option('budget') ?? join(root, 'test', 'cuda-gate', 'budget.json'));

/** Facts of all kernels by name, and what is wrong with the files themselves. */
function measure(modules) {
  const kernels = new Map();
  const details = [];
  for (const module of modules) {
    const wanted = TARGETS.flatMap((target, i) => [
      `sm_${target}`,
      ...(i === 0 ? [`compute_${target}`] : []),
    ]);
    const targets = readTargets(readFileSync(module.fatbin), module.fatbin);
    if (targets.join() !== wanted.join()) details.push(`${module.source}: its fatbin is for ${targets}`);
    for (const name of entriesOf(module)) {
      if (kernels.has(name)) details.push(`${name}: also in ${kernels.get(name).source}`);
      kernels.set(name, { source: module.source, targets: {} });
    }
    for (const target of TARGETS.map((number) => `sm_${number}`)) {
      const path = module.cubins[target];
      for (const [name, facts] of readKernels(readFileSync(path), path)) {
        kernels.get(name).targets[target] = facts;
        const said = compilerSays(module.log, name, target);
        const read = `${facts.registers} registers, ${facts.stackBytes} stack, ${facts.sharedBytes} shared`;
        if (said !== read) details.push(`${name} ${target}: ptxas says ${said}, the cubin ${read}`);
      }
    }
  }
  return { kernels, details };
}

/** What `ptxas -v` reported of one kernel, in the words of the comparison above. */
function compilerSays(log, kernel, target) {
  const start = log.indexOf(`Compiling entry function '${kernel}' for '${target}'`);
  const text = log.slice(start).split('Compile time')[0] ?? '';
  const number = (pattern) => Number(pattern.exec(text)?.[1] ?? 0);
  const registers = number(/Used (\d+) registers/);
  return `${registers} registers, ${number(/(\d+) bytes stack frame/)} stack, ${number(/(\d+) bytes smem/)} shared`;
}

function printTable(kernels) {
  const row = (name, cells) =>
    `${name.padEnd(44)}${cells.map((cell) => String(cell).padStart(7)).join('')}\n`;
  const heads = TARGETS.map((target) => `sm_${target}`);
  process.stdout.write(row('registers', [...heads, 'threads', 'shared']));
  for (const name of [...kernels.keys()].sort()) {
    const { targets } = kernels.get(name);
    const first = targets[heads[0]];
    const registers = heads.map((target) => targets[target].registers);
    process.stdout.write(row(name, [...registers, first.threads ?? '-', first.sharedBytes]));
  }
}

const started = process.hrtime.bigint();
const toolkit = pinnedToolkit();
const folder = option('kernels');
const modules = await compileKernels(
  toolkit,
  folder === undefined ? { folder: KERNEL_FOLDER } : { folder: resolve(folder) },
);
const { kernels, details } = measure(modules);
printTable(kernels);

const budget = existsSync(budgetFile)
  ? JSON.parse(readFileSync(budgetFile, 'utf8'))
  : { compiler: toolkit.version, kernels: {} };
if (process.argv.includes('--update')) {
  writeFileSync(budgetFile, formatBudget(budgetFor(kernels, toolkit.version, budget)));
  process.stdout.write(`wrote ${budgetFile}\n`);
  process.exit(0);
}
if (budget.compiler !== toolkit.version)
  details.push(`the budget holds for nvcc ${budget.compiler}, this is ${toolkit.version}: --update`);
const compared = compareWithBudget(kernels, budget);
details.push(...compared.details);
for (const line of details) process.stdout.write(`failed: ${line}\n`);
const seconds = Number((process.hrtime.bigint() - started) / 1_000_000_000n);
process.stdout.write(`${compared.passed} passed, ${details.length} failed, ${seconds} s\n`);
const report = option('report');
if (report !== undefined)
  writeFileSync(report, JSON.stringify({ passed: compared.passed, failed: details.length, details }));
process.exitCode = details.length > 0 ? 1 : 0;
