import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, normalize, relative } from 'node:path';
import ts from 'typescript';
import type { CreateScheduler } from './simulation';

/** One edit of one source file of lib/scheduler; `find` must occur exactly once. */
export interface Patch {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

const lib = join(__dirname, '..', '..', 'lib');
const nodeRequire = createRequire(__filename);
const compiled = new Map<string, string>();

const compile = (source: string): string =>
  ts.transpileModule(source, {
    compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 },
  }).outputText;

function compiledSource(file: string, patches: readonly Patch[]): string {
  const mine = patches.filter((patch) => join('scheduler', patch.file) === file);
  if (mine.length === 0) {
    const known = compiled.get(file) ?? compile(readFileSync(join(lib, file), 'utf8'));
    compiled.set(file, known);
    return known;
  }
  let source = readFileSync(join(lib, file), 'utf8');
  for (const { find, replace } of mine) {
    const count = source.split(find).length - 1;
    if (count !== 1) throw new Error(`a patch of ${file} matches ${count} times: ${find}`);
    source = source.replace(find, () => replace);
  }
  return compile(source);
}

/** The scheduler with these edits, in modules of its own: nothing is written and nothing else sees them. */
export function loadScheduler(patches: readonly Patch[]): CreateScheduler {
  const loaded = new Map<string, object>();
  const load = (file: string): object => {
    const known = loaded.get(file);
    if (known !== undefined) return known;
    const module = { exports: {} };
    loaded.set(file, module.exports);
    const requireFrom = (name: string): unknown =>
      name.startsWith('.') ? load(`${normalize(join(dirname(file), name))}.ts`) : nodeRequire(name);
    const body = new Function('exports', 'require', 'module', compiledSource(file, patches));
    body(module.exports, requireFrom, module);
    return module.exports;
  };
  const { Scheduler } = load(relative(lib, join(lib, 'scheduler', 'scheduler.ts'))) as {
    Scheduler: new (...config: Parameters<CreateScheduler>) => ReturnType<CreateScheduler>;
  };
  return (config) => new Scheduler(config);
}
