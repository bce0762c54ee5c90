// What each kernel may cost, as checked in: test/cuda-gate/budget.json. Registers per thread are upper bounds for each
// target, threads and static shared bytes are exact. No kernel has a stack frame.

/** Operations that are worth demanding, so that a kernel keeps its tensor cores and its asynchronous copies. */
const TELLING = ['HMMA', 'IMMA', 'LDSM', 'LDGSTS'];
/** What no kernel has without a reason: a budget by hand drops a name from its list. */
const UNWANTED = ['LDL', 'STL', 'LD', 'ST', 'DADD', 'DMUL', 'DFMA'];

/**
 * Compares kernels with their budget. `measured` maps kernel names to {source, targets: {sm_<n>: facts}}, facts as from
 * readKernels. Returns {passed, details}: one check for each kernel and target, one line for each that failed.
 */
export function compareWithBudget(measured, budget) {
  let passed = 0;
  const details = [];
  for (const [name, { targets }] of measured) {
    const allowed = budget.kernels[name];
    for (const [target, facts] of Object.entries(targets)) {
      const problems = allowed === undefined ? ['is not in the budget'] : problemsOf(facts, target, allowed);
      if (problems.length === 0) passed += 1;
      else details.push(`${name} ${target}: ${problems.join('; ')}`);
    }
  }
  for (const name of Object.keys(budget.kernels)) {
    if (!measured.has(name)) details.push(`${name}: is in the budget, but there is no such kernel`);
  }
  return { passed, details };
}

function problemsOf(facts, target, allowed) {
  const problems = [];
  const limit = allowed.registers[target];
  if (limit === undefined || facts.registers > limit)
    problems.push(`${facts.registers} registers, budget ${limit ?? 'none'}`);
  if (facts.stackBytes > 0) problems.push(`a stack frame of ${facts.stackBytes} bytes`);
  if (facts.sharedBytes !== allowed.sharedBytes)
    problems.push(`${facts.sharedBytes} shared bytes, budget ${allowed.sharedBytes}`);
  if (facts.threads !== allowed.threads)
    problems.push(`bounds of ${facts.threads} threads, budget ${allowed.threads}`);
  for (const name of allowed.required) if (!facts.operations[name]) problems.push(`no ${name}`);
  for (const name of allowed.forbidden)
    if (facts.operations[name]) problems.push(`${facts.operations[name]} ${name}`);
  return problems;
}

/**
 * The budget that fits `measured`. Lists of operations stay as they are where a kernel had some: those are changed by
 * hand. A kernel with a stack frame keeps failing.
 */
export function budgetFor(measured, compiler, previous) {
  const kernels = {};
  for (const name of [...measured.keys()].sort()) {
    const facts = Object.entries(measured.get(name).targets);
    const [[, first]] = facts;
    const has = (operation) => facts.every(([, { operations }]) => operations[operation] > 0);
    kernels[name] = {
      threads: first.threads,
      sharedBytes: first.sharedBytes,
      registers: Object.fromEntries(facts.map(([target, { registers }]) => [target, registers])),
      required: previous.kernels[name]?.required ?? TELLING.filter(has),
      forbidden: previous.kernels[name]?.forbidden ?? UNWANTED,
    };
  }
  return { compiler, kernels };
}

/** JSON with one line for each entry of a kernel: a change shows as the line of its kind. */
export function formatBudget({ compiler, kernels }) {
  const spaced = (value) => JSON.stringify(value).replace(/([,:])(?=\S)/g, '$1 ');
  const entries = Object.entries(kernels).map(([name, kernel]) => {
    const lines = Object.entries(kernel).map(([key, value]) => `      "${key}": ${spaced(value)}`);
    return `    "${name}": {\n${lines.join(',\n')}\n    }`;
  });
  return `{\n  "compiler": "${compiler}",\n  "kernels": {\n${entries.join(',\n')}\n  }\n}\n`;
}
