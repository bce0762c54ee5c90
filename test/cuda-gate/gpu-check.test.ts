import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(__dirname, '..', '..');
const script = join(root, 'scripts', 'gpu-check');

/** Seconds, in the order of the script. */
function limitsOfParts(): { readonly once: number[]; readonly kills: number } {
  const text = readFileSync(script, 'utf8');
  const once = [...text.matchAll(/\blimited (\d+) /g)].map(([, seconds]) => Number(seconds));
  const numTools = [...text.matchAll(/^sanitize \w+$/gm)].length;
  const tool = Number(/limited (\d+) "\$program"/.exec(text)?.[1]);
  return {
    once: [...once, ...new Array<number>(numTools - 1).fill(tool)],
    kills: once.length + numTools - 1,
  };
}

test('the time limits of scripts/gpu-check add up to less than 8 minutes, as its document says', () => {
  const { once, kills } = limitsOfParts();
  const sum = once.reduce((all, seconds) => all + seconds, 0) + kills;
  expect(kills).toBe(8);
  expect(sum).toBeLessThan(480);
  expect(readFileSync(join(root, 'docs', 'gpu-check.md'), 'utf8')).toContain(`has to be killed | ${sum} |`);
});

test('the script is one that bash can read', () => {
  execFileSync('bash', ['-n', script]);
});
