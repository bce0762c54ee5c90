import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCli } from './cli-process';
import { writeScriptedCheckpoint } from './scripted-checkpoint';

// Goal: standard output has the answer alone, whatever the model thought before it.
let folder: string;
beforeAll(() => {
  folder = writeScriptedCheckpoint({
    template:
      '{# </think> #}{% for m in messages %}{{ m.content }}{{ m.reasoning_content or "" }}{% endfor %}<|say|>',
    scripts: { '<|say|>': ['<think>\nHm, let me see.\n</think>\n\nForty-two.'] },
  });
});
afterAll(() => rmSync(folder, { recursive: true }));

test('run writes thoughts to standard error, and none with --quiet', async () => {
  const { code, stdout, stderr } = await runCli(['run', folder, 'What is it?']);
  expect({ code, stdout }).toEqual({ code: 0, stdout: 'Forty-two.\n' });
  expect(stderr).toContain('Hm, let me see.\n');
  const quiet = await runCli(['run', folder, 'What is it?', '--quiet']);
  expect(quiet).toEqual({ code: 0, stdout: 'Forty-two.\n', stderr: '' });
});

test('chat writes thoughts to standard error', async () => {
  const { code, stdout, stderr } = await runCli(['chat', folder], 'One?\nTwo?\n/exit\n');
  expect({ code, stdout }).toEqual({ code: 0, stdout: 'Forty-two.\nForty-two.\n' });
  expect(stderr.split('Hm, let me see.')).toHaveLength(3);
});
