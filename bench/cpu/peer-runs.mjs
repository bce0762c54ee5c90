// One measurement by a peer's own benchmark programs, a process each, at the flags that suit it best.
import { execFile } from 'node:child_process';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const TIMEOUT_MS = 600_000;

/** What a program wrote to its standard output and to its standard error. */
async function output(program, args) {
  const options = { timeout: TIMEOUT_MS, maxBuffer: 64 << 20, cwd: tmpdir() }; // ik writes its log into its folder
  return execute(program, args, options);
}

/** ik's flash attention is off by default; repacking at run time is the better of its modes for 4-bit files. */
const ikFlags = (isRepacked) => ['-fa', '1', ...(isRepacked ? ['-rtr', '1'] : [])];

/** Tokens per second of every repetition: `prefill` and `decode` of llama-bench, in the order asked for. */
export async function llamaBench(
  peer,
  { file, threads, prefill = 0, decode = 0, depth = 0, repetitions = 1, isRepacked },
) {
  const args = [
    '-m',
    file,
    '-t',
    `${threads}`,
    '-p',
    `${prefill}`,
    '-n',
    `${decode}`,
    '-r',
    `${repetitions}`,
    '-o',
    'json',
  ];
  // Computing the depth warms up.
  if (depth > 0)
    args.push(...(peer.isIk ? ['-gp', `${depth},${decode}`] : ['-d', `${depth}`, '--no-warmup']));
  if (peer.isIk) args.push(...ikFlags(isRepacked));
  const { stdout } = await output(peer.tool('llama-bench'), args);
  const tests = JSON.parse(stdout);
  const samples = (isWanted) => tests.find(isWanted)?.samples_ts ?? [];
  return {
    prefill: samples(({ n_gen, n_prompt }) => n_gen === 0 && n_prompt === prefill),
    decode: samples(({ n_gen, n_prompt }) => n_gen === decode && (n_prompt === 0 || n_prompt === depth)),
  };
}

/** Tokens per second of all sequences together, by batch size. */
export async function batchedBench(peer, { file, threads, batches, prompt, tokens, isRepacked }) {
  const largest = Math.max(...batches);
  const cells = largest * (prompt + tokens);
  const args = ['-m', file, '-t', `${threads}`, '-c', `${cells}`, '-b', '2048', '-ub', '512'];
  args.push('-npp', `${prompt}`, '-ntg', `${tokens}`, '-npl', batches.join(','));
  if (peer.isIk) args.push('-fa', 'on', ...(isRepacked ? ['-rtr'] : []));
  const { stdout, stderr } = await output(peer.tool('llama-batched-bench'), args);
  const speeds = {};
  // ik_llama.cpp logs its table.
  for (const line of (stdout + stderr).split('\n')) {
    const columns = line.split('|').map((column) => column.trim());
    // | PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | ...
    if (Number(columns[1]) === prompt && Number(columns[2]) === tokens)
      speeds[columns[3]] = Number(columns[8]);
  }
  return speeds;
}
