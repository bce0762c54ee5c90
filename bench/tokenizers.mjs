// Measures how the time of tokenizing grows with the length of hostile texts, for each class of vocabulary:
//   npm run build:ts && node bench/tokenizers.mjs [--length 32768] [--doublings 2] [--class NAME] [--gguf MODEL.gguf]
// Prints microseconds per character at the greatest length and the largest ratio between a length and its half: 2 is
// linear time. The vocabularies are those of test/fixtures/tokenizers/classes.
//   node bench/tokenizers.mjs --text FILE [--python PYTHON]
// Prints MB/s on a text instead, and those of the Python package `tokenizers` on one thread where PYTHON has it.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { root } from '../scripts/run.mjs';

const require = createRequire(import.meta.url);
const { Tokenizer } = require(join(root, 'dist/tokenizer/tokenizer.js'));
const { openCheckpoint } = require(join(root, 'dist/model/checkpoint.js'));

const { values: flags } = parseArgs({
  options: {
    length: { type: 'string', default: '32768' },
    doublings: { type: 'string', default: '2' },
    class: { type: 'string' },
    gguf: { type: 'string' },
    text: { type: 'string' },
    python: { type: 'string' },
  },
});

const FAMILIES = {
  'one letter': 'a',
  capitals: 'A',
  'a word': 'internationalization',
  words: 'the quick brown fox jumps over the lazy dog, ',
  spaces: ' ',
  'tabs and spaces': '\t ',
  'newlines and spaces': ' \n',
  digits: '7',
  quotes: "'",
  underscores: '_',
  carets: '^',
  'starts of markup': '<|im_',
  'combining marks': '\u0301',
  Chinese: '你好世界',
  Thai: 'ภาษาไทย',
  emoji: '👩‍👩‍👧',
  'unknown characters': '\u{10330}',
  'U+2581': '\u2581',
};

const folder = join(root, 'test/fixtures/tokenizers/classes');
const read = (name) => {
  const path = join(folder, name);
  return existsSync(path) ? readFileSync(path) : gunzipSync(readFileSync(`${path}.gz`));
};
const settings = { tokenizerConfig: null, specialTokensMap: null, addedTokens: null };
const CLASSES = [
  'roberta.json',
  'tiktoken.model',
  'llama-legacy.json',
  'suffixed.json',
  'bert-uncased.json',
  'unigram.json',
  'sp-bpe-bytes.model',
  'sp-bpe-rules.model',
  'sp-unigram.model',
  'whole-words.json',
];

async function sources() {
  if (flags.gguf !== undefined) return [['gguf', (await openCheckpoint(flags.gguf)).tokenizer]];
  return CLASSES.filter((name) => flags.class === undefined || name.startsWith(flags.class)).map((name) => {
    const content = read(name);
    if (name.endsWith('.model'))
      return [name, { kind: 'tokenizer-model', fileName: 'tokenizer.model', content, ...settings }];
    return [name, { kind: 'huggingface', tokenizerJson: content.toString(), ...settings }];
  });
}

/** CPU time, which other processes do not change much, and the least of three: noise only adds. */
function millisecondsFor(tokenizer, text) {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i += 1) {
    const start = process.cpuUsage();
    tokenizer.encode(text);
    const { user, system } = process.cpuUsage(start);
    least = Math.min(least, (user + system) / 1000);
  }
  return least;
}

const PYTHON = `
import sys, time
from tokenizers import Tokenizer
tokenizer, text = Tokenizer.from_file(sys.argv[1]), open(sys.argv[2], encoding="utf-8", newline="").read()
def seconds():
    start = time.process_time()
    tokenizer.encode(text, add_special_tokens=False)
    return time.process_time() - start
print(min(seconds() for _ in range(3)))
`;

/** The same text, vocabulary and count of tries for both; a tokenizer.json is what both read. */
function compareOnText(path) {
  const text = readFileSync(path, 'utf8');
  const megabytes = Buffer.byteLength(text) / 1e6;
  for (const name of CLASSES.filter((file) => file.endsWith('.json'))) {
    if (flags.class !== undefined && !name.startsWith(flags.class)) continue;
    const tokenizerJson = read(name).toString();
    const source = { kind: 'huggingface', tokenizerJson, ...settings };
    const ours =
      megabytes /
      (millisecondsFor(new Tokenizer(source, { vocabSize: null, contextLength: 1 << 22 }), text) / 1000);
    const theirs = flags.python === undefined ? null : pythonSpeed(tokenizerJson, path, megabytes);
    const compared =
      theirs === null ? '' : `  tokenizers ${theirs.toFixed(1)} MB/s  ratio ${(ours / theirs).toFixed(2)}`;
    process.stdout.write(`${name.padEnd(20)} ${ours.toFixed(1)} MB/s${compared}\n`);
  }
}

function pythonSpeed(tokenizerJson, path, megabytes) {
  const folder = mkdtempSync(join(tmpdir(), 'bench-tokenizers-'));
  try {
    writeFileSync(join(folder, 'tokenizer.json'), tokenizerJson);
    const env = { ...process.env, TOKENIZERS_PARALLELISM: 'false', RAYON_NUM_THREADS: '1' };
    const run = spawnSync(flags.python, ['-c', PYTHON, join(folder, 'tokenizer.json'), path], { env });
    if (run.status !== 0) throw new Error(`${flags.python}: ${run.stderr ?? run.error}`);
    return megabytes / Number(run.stdout.toString());
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (flags.text !== undefined) {
  compareOnText(flags.text);
  process.exit();
}

const length = Number(flags.length);
const doublings = Number(flags.doublings);
for (const [name, source] of await sources()) {
  const tokenizer = new Tokenizer(source, { vocabSize: null, contextLength: 1 << 20 });
  for (const [family, unit] of Object.entries(FAMILIES)) {
    const times = [];
    for (let i = 0; i <= doublings; i += 1) {
      const size = length * 2 ** i;
      times.push(millisecondsFor(tokenizer, unit.repeat(Math.ceil(size / unit.length))));
    }
    const ratios = times.slice(1).map((time, i) => time / times[i]);
    const perCharacter = (times.at(-1) * 1000) / (length * 2 ** doublings);
    process.stdout.write(
      `${name.padEnd(20)} ${family.padEnd(20)} ${perCharacter.toFixed(3)} us/char  ratio ${Math.max(...ratios).toFixed(2)}\n`,
    );
  }
}
