import { createInterface, type Interface } from 'node:readline';
import type { ChatMessage } from '../../engine/types';
import { AutoglmError } from '../../errors';
import { chosenAdapter } from '../adapters';
import { AnswerPrinter } from '../answer-printer';
import { ChatSession, readConversation } from '../chat-session';
import { reportFailure } from '../failure';
import { Interrupt } from '../interrupt';
import { withModel } from '../open-model';
import { type ModelFlags, type SamplingFlags, samplingOptions } from '../options';
import { colors, note } from '../terminal';

export interface ChatFlags extends ModelFlags, SamplingFlags {
  readonly system?: string;
  readonly resume?: string;
}

const HELP = [
  '/save FILE  write the conversation to a file; chat --resume FILE goes on with it',
  '/clear      forget the conversation, not the system message',
  '/exit       leave, as Ctrl-D does',
  'Ctrl-C stops an answer. A line that ends in \\ goes on in the next one.',
].join('\n');

/** Talks with a model in turns: lines from standard input, answers to standard output. */
export async function chat(source: string, flags: ChatFlags): Promise<number> {
  const messages = flags.resume === undefined ? [] : await readConversation(flags.resume);
  if (flags.system !== undefined) messages.unshift({ role: 'system', content: flags.system });
  const interrupt = new Interrupt();
  try {
    return await withModel(source, flags, interrupt.signal, async (model) => {
      interrupt.stop();
      if (!model.info.hasChatTemplate) {
        throw new AutoglmError('invalid_parameter', `${source} has no chat template, so it cannot chat`, {
          hint: 'Give one with --chat-template FILE, or use run --raw.',
        });
      }
      const settings = { ...samplingOptions(flags), ...chosenAdapter(model) };
      const session = new ChatSession(model, settings, messages);
      if (flags.quiet !== true) welcome(source, messages);
      await new Conversation(session, flags.quiet !== true).run();
      return 0;
    });
  } finally {
    interrupt.stop();
  }
}

function welcome(source: string, messages: readonly ChatMessage[]): void {
  const numTurns = messages.filter(({ role }) => role === 'user').length;
  const resumed = numTurns === 0 ? '' : `, ${numTurns} questions so far`;
  note(colors.dim(`${source}${resumed}. /help lists the commands.`));
}

/** The lines of a terminal or a pipe, turned into questions and commands, one after the other. */
class Conversation {
  readonly #lines: Interface;
  readonly #waiting: string[] = [];
  #wake: (() => void) | null = null;
  #isClosed = false;
  #hasInterrupted = false;

  constructor(
    readonly session: ChatSession,
    readonly showsFigures: boolean,
  ) {
    const isTerminal = process.stdin.isTTY === true && process.stderr.isTTY === true;
    this.#lines = createInterface({
      input: process.stdin,
      // Standard output is for answers, also when it is a terminal.
      ...(isTerminal ? { output: process.stderr } : {}),
      terminal: isTerminal,
      prompt: colors.bold('> '),
    });
    this.#lines.on('line', (line) => {
      this.#waiting.push(line);
      this.#wake?.();
    });
    this.#lines.on('close', () => {
      this.#isClosed = true;
      this.#wake?.();
    });
    this.#lines.on('SIGINT', this.#interrupt);
  }

  async run(): Promise<void> {
    process.on('SIGINT', this.#interrupt);
    try {
      for (;;) {
        const question = await this.#nextQuestion();
        if (question === null) return;
        this.#hasInterrupted = false;
        if (question === '') continue;
        if (question.startsWith('/')) {
          if (!(await this.#command(question))) return;
        } else await this.#answer(question);
      }
    } finally {
      process.off('SIGINT', this.#interrupt);
      this.#lines.close();
    }
  }

  /** Lines up to one that does not end in a backslash; null at the end of the input. */
  async #nextQuestion(): Promise<string | null> {
    const parts: string[] = [];
    for (;;) {
      if (this.#waiting.length === 0 && this.#isTerminal()) this.#lines.prompt();
      while (this.#waiting.length === 0 && !this.#isClosed) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      const line = this.#waiting.shift();
      if (line === undefined) return parts.length === 0 ? null : parts.join('\n').trim();
      if (!line.endsWith('\\')) return [...parts, line].join('\n').trim();
      parts.push(line.slice(0, -1));
    }
  }

  async #answer(question: string): Promise<void> {
    try {
      const printer = new AnswerPrinter(this.showsFigures);
      const result = await this.session.ask(question, (piece) => printer.write(piece));
      printer.end();
      process.stdout.write('\n');
      for (const warning of result.warnings) note(`${colors.yellow('warning:')} ${warning.message}`);
      const stopped = result.finishReason === 'abort' ? ', stopped' : '';
      const { completionTokens, promptTokens, cachedTokens } = result.usage;
      const speed = result.timings.tokensPerSecond.toFixed(1);
      const context = `context ${promptTokens + completionTokens}, ${cachedTokens} cached`;
      if (this.showsFigures)
        note(colors.dim(`${completionTokens} tokens, ${speed} tokens/s, ${context}${stopped}`));
    } catch (error) {
      reportFailure(error);
      if (AutoglmError.is(error) && error.code === 'context_length_exceeded') note('/clear starts over.');
      if (AutoglmError.is(error) && error.code === 'engine_failed') throw error;
    }
  }

  /** False when the conversation is over. */
  async #command(line: string): Promise<boolean> {
    const [name = '', ...words] = line.split(/\s+/);
    switch (name) {
      case '/exit':
        return false;
      case '/clear':
        this.session.clear();
        note('The conversation is forgotten.');
        return true;
      case '/save':
        await this.#save(words.join(' '));
        return true;
      case '/help':
        note(HELP);
        return true;
      default:
        note(`There is no command ${name}; /help lists them.`);
        return true;
    }
  }

  async #save(path: string): Promise<void> {
    if (path === '') {
      note('Where to? /save FILE');
      return;
    }
    try {
      await this.session.save(path);
      note(`Saved to ${path}.`);
    } catch (error) {
      reportFailure(error);
    }
  }

  /** Stops an answer; at the prompt it drops what was typed, and the second in a row leaves. */
  readonly #interrupt = (): void => {
    if (this.session.isAnswering) {
      this.session.stop();
    } else if (this.#isTerminal() && this.#lines.line !== '') {
      this.#lines.write(null, { ctrl: true, name: 'e' });
      this.#lines.write(null, { ctrl: true, name: 'u' });
    } else if (this.#hasInterrupted) {
      this.#lines.close();
    } else {
      this.#hasInterrupted = true;
      note(`\n${colors.dim('Ctrl-C again leaves.')}`);
      if (this.#isTerminal()) this.#lines.prompt();
    }
  };

  #isTerminal(): boolean {
    return this.#lines.terminal && !this.#isClosed;
  }
}
