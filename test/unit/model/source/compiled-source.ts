import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import ts from 'typescript';

const root = join(__dirname, '..', '..', '..', '..');

/**
 * Compiles a module of lib/model and all that it imports into a folder of the test's own, so that a child process can be killed
 * in the middle of it. Gives the path of what was made.
 */
export function compileSource(folder: string, module = 'source/resolve-source'): string {
  const waiting = [join(root, 'lib', 'model', `${module}.ts`)];
  const seen = new Set(waiting);
  for (const file of waiting) {
    const source = readFileSync(file, 'utf8');
    for (const { fileName } of ts.preProcessFile(source).importedFiles) {
      const imported = `${resolve(dirname(file), fileName)}.ts`;
      if (!fileName.startsWith('.') || !existsSync(imported) || seen.has(imported)) continue;
      seen.add(imported);
      waiting.push(imported);
    }
    const { outputText } = ts.transpileModule(source, {
      compilerOptions: {
        module: ts.ModuleKind.CommonJS,
        target: ts.ScriptTarget.ES2022,
        esModuleInterop: false,
      },
    });
    const target = join(folder, relative(join(root, 'lib'), file).replace(/\.ts$/, '.js'));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, outputText);
  }
  cpSync(join(root, 'lib/model/source/catalog.json'), join(folder, 'model/source/catalog.json'));
  return join(folder, 'model', `${module}.js`);
}

/** Environment in which the compiled modules find this repository's packages. */
export const MODULES = { NODE_PATH: join(root, 'node_modules') };
