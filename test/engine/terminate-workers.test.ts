import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

// The script says how; 200 rounds and more are run by hand, on every Node version that is supported.
test('workers may end at any moment of a step: by terminate, by exit, by an uncaught error', () => {
  const script = join(__dirname, 'terminate-workers.cjs');
  const output = execFileSync(process.execPath, [script, '32'], { encoding: 'utf8', timeout: 55_000 });
  expect(JSON.parse(output)).toMatchObject({ rounds: 32, numWrong: 0 });
});
