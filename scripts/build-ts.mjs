// Compiles lib/ to CommonJS in dist/ and writes the ESM entry points: thin files that re-export the CommonJS names, so
// that both module systems share one set of classes.
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { bin, root, run } from './run.mjs';

run(bin('tsc'), ['-p', 'tsconfig.json']);

const require = createRequire(import.meta.url);
for (const entry of ['index', 'server/index']) {
  const file = join(root, 'dist', `${entry}.js`);
  if (!existsSync(file)) continue;
  const names = Object.keys(require(file))
    .filter((name) => name !== '__esModule')
    .sort();
  const base = `./${entry.split('/').at(-1)}`;
  writeFileSync(
    join(root, 'dist', `${entry}.mjs`),
    `import cjs from '${base}.js';\nexport const { ${names.join(', ')} } = cjs;\n`,
  );
  writeFileSync(join(root, 'dist', `${entry}.d.mts`), `export * from '${base}.js';\n`);
}
// Files that are data, not modules.
for (const [from, to] of [
  ['lib/model/source/catalog.json', 'dist/model/source/catalog.json'],
  ['lib/server/page', 'dist/server/page'],
]) {
  if (!existsSync(join(root, from))) continue;
  mkdirSync(dirname(join(root, to)), { recursive: true });
  cpSync(join(root, from), join(root, to), { recursive: true });
}
const main = join(root, 'dist', 'cli', 'main.js');
if (existsSync(main)) {
  const text = readFileSync(main, 'utf8');
  if (!text.startsWith('#!')) writeFileSync(main, `#!/usr/bin/env node\n${text}`);
  chmodSync(main, 0o755);
}
