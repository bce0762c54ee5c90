import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';

const NAMES = [
  'OPEN_AUTOGLM_CACHE',
  'HF_HOME',
  'HF_HUB_CACHE',
  'HUGGINGFACE_HUB_CACHE',
  'HF_ENDPOINT',
  'HF_TOKEN',
  'HF_TOKEN_PATH',
  'HF_HUB_OFFLINE',
  'MODELSCOPE_ENDPOINT',
  'PIP_NO_INDEX',
  'PIP_FIND_LINKS',
  'PIP_CONFIG_FILE',
];

/** Nothing listens there, and the answer is immediate. */
export const CLOSED_ENDPOINT = 'http://127.0.0.1:9';

/** Gives every test of the file empty caches and hubs that cannot be reached; the test points them elsewhere. */
export function isolateCaches(): { readonly folder: string } {
  const state = { folder: '' };
  let saved: Record<string, string | undefined> = {};
  beforeEach(() => {
    state.folder = mkdtempSync(join(tmpdir(), 'open-autoglm-source-'));
    saved = Object.fromEntries(NAMES.map((name) => [name, process.env[name]]));
    for (const name of NAMES) delete process.env[name];
    process.env.OPEN_AUTOGLM_CACHE = join(state.folder, 'own');
    process.env.HF_HOME = join(state.folder, 'hf');
    process.env.HF_ENDPOINT = CLOSED_ENDPOINT;
    process.env.MODELSCOPE_ENDPOINT = CLOSED_ENDPOINT;
    // pip looks nowhere but here.
    process.env.PIP_NO_INDEX = '1';
    process.env.PIP_FIND_LINKS = join(state.folder, 'wheels');
    process.env.PIP_CONFIG_FILE = '/dev/null';
  });
  afterEach(() => {
    for (const name of NAMES) {
      const value = saved[name];
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    rmSync(state.folder, { recursive: true, force: true });
  });
  return state;
}
