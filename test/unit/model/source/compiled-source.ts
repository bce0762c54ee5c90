import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import ts from 'typescript';

const root = join(__dirname, '..', '..', '..', '..');

/**
 * Compiles what `resolveSource` consists of into a folder of the test's own, so that a child process can be killed in the
 * middle of it. Gives the path of the module.
 */
export function compileSource(folder: string): string {
  const sources = readdirSync(join(root, 'lib/model/source'), { recursive: true }).map(
    (name) => `model/source/${name}`,
  );
  const others = [
    'model/byte-source.ts',
    'model/gguf/split-name.ts',
    'model/model-file-error.ts',
    'model/tokenizer-files.ts',
    'errors.ts',
  ];
  const files = [...sources, ...others];
  for (const file of files.filter((name) => name.endsWith('.ts'))) {
    const { outputText } = ts.transpileModule(readFileSync(join(root, 'lib', file), 'utf8'), {
      compilerOptions: {
        module: ts.ModuleKind.CommonJS,
        target: ts.ScriptTarget.ES2022,
        esModuleInterop: false,
      },
    });
    const target = join(folder, file.replace(/\.ts$/, '.js'));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, outputText);
  }
  cpSync(join(root, 'lib/model/source/catalog.json'), join(folder, 'model/source/catalog.json'));
  return join(folder, 'model', 'source', 'resolve-source.js');
}

/** Environment in which the compiled modules find this repository's packages. */
export const MODULES = { NODE_PATH: join(root, 'node_modules') };
