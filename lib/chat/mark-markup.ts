import { AutoglmError } from '../errors';
import type { TextRanges } from '../tokenizer/added-tokens';
import { StringTrie } from '../tokenizer/string-trie';

/** A control token as texts spell it. */
export interface Markup {
  readonly content: string;
  /** False for tags such as `<think>` that templates look for in an assistant's own words. */
  readonly isSpecial: boolean;
}

export interface MarkedText {
  readonly text: string;
  /** Where the text spells control tokens that are not meant as such. */
  readonly plainRanges: TextRanges;
}

/** Private-use characters; one that occurs nowhere in the input delimits the marks of a rendering. */
const FIRST_PRIVATE = 0xe000;
const LAST_PRIVATE = 0xf8ff;

/** Keys whose values templates compare with words of their own. */
const STRUCTURAL_KEYS = new Set(['role', 'type']);

/**
 * Keeps markup that users write from reaching the model as control tokens: before a template is rendered every such place
 * in its data is replaced by a private mark, afterwards the marks are replaced by the text again and their ranges noted.
 * An assistant's messages keep their tags, because templates cut reasoning and tool calls at them.
 */
export class MarkupMarker {
  readonly #delimiter: string;
  readonly #all = new StringTrie<string>();
  readonly #special = new StringTrie<string>();
  readonly #longest: number;
  readonly #marked: string[] = [];

  /** `inputs` is everything that goes into the rendering, so that the marks differ from it. */
  constructor(markup: readonly Markup[], inputs: readonly unknown[]) {
    for (const { content, isSpecial } of markup) {
      this.#all.add(content, content);
      if (isSpecial) this.#special.add(content, content);
    }
    this.#longest = Math.max(0, ...markup.map(({ content }) => content.length));
    this.#delimiter = unusedDelimiter(toJson(inputs));
  }

  markMessages(messages: readonly Readonly<Record<string, unknown>>[]): unknown[] {
    return messages.map((message) =>
      this.#mark(message, message.role === 'assistant' ? this.#special : this.#all),
    );
  }

  /** Tools, documents and other variables. */
  markData(value: unknown): unknown {
    return this.#mark(value, this.#all);
  }

  /** Puts the marked texts back. */
  unmark(rendered: string): MarkedText {
    const delimiter = this.#delimiter;
    const escaped = `\\\\u${delimiter.charCodeAt(0).toString(16)}`; // as tojson(ensure_ascii=true) writes it
    const mark = new RegExp(`(?:${delimiter}|${escaped})(\\d+)(?:${delimiter}|${escaped})`, 'g');
    const plainRanges: number[] = [];
    let text = '';
    let end = 0;
    for (const match of rendered.matchAll(mark)) {
      text += rendered.slice(end, match.index);
      const original = this.#marked[Number(match[1])] ?? '';
      plainRanges.push(text.length, text.length + original.length);
      text += original;
      end = match.index + match[0].length;
    }
    text += rendered.slice(end);
    if (!text.includes(delimiter)) return { text, plainRanges };
    throw new AutoglmError(
      'template_failed',
      'the chat template takes text apart that spells control tokens of the model',
      { hint: 'Remove texts such as <|...|> from the messages, or give another template with chatTemplate.' },
    );
  }

  #mark(value: unknown, trie: StringTrie<string>): unknown {
    if (typeof value === 'string') return this.#markText(value, trie, true);
    if (Array.isArray(value)) return value.map((item) => this.#mark(item, trie));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [
        this.#markText(key, trie, false),
        STRUCTURAL_KEYS.has(key) && typeof item === 'string'
          ? this.#markText(item, trie, false)
          : this.#mark(item, trie),
      ]),
    );
  }

  /** With `atEnd` also the beginning of a control token at the end, which a template might join with a next text. */
  #markText(text: string, trie: StringTrie<string>, atEnd: boolean): string {
    const tail = atEnd ? Math.max(0, text.length - this.#longest + 1) : text.length;
    let marked = '';
    let end = 0;
    for (let i = 0; i < text.length; ) {
      const found =
        trie.longestAt(text, i, text.length, () => true) ??
        (i >= tail && trie.isPrefixAt(text, i) ? text.slice(i) : null);
      if (found === null) {
        i += 1;
        continue;
      }
      marked += text.slice(end, i) + this.#markFor(found);
      i += found.length;
      end = i;
    }
    return end === 0 ? text : marked + text.slice(end);
  }

  /** Equal texts get equal marks, so that a template can compare them. */
  #markFor(text: string): string {
    let index = this.#marked.indexOf(text);
    if (index < 0) index = this.#marked.push(text) - 1;
    return `${this.#delimiter}${index}${this.#delimiter}`;
  }
}

function toJson(inputs: readonly unknown[]): string {
  try {
    return JSON.stringify(inputs);
  } catch (cause) {
    throw new AutoglmError(
      'invalid_parameter',
      `expected messages, tools and templateOptions to be JSON values: ${(cause as Error).message}`,
      { cause },
    );
  }
}

function unusedDelimiter(inputs: string): string {
  const lowerCase = inputs.toLowerCase();
  for (let code = FIRST_PRIVATE; code <= LAST_PRIVATE; code += 1) {
    const character = String.fromCharCode(code);
    if (!inputs.includes(character) && !lowerCase.includes(`\\u${code.toString(16)}`)) return character;
  }
  throw new AutoglmError('invalid_parameter', 'the messages use every private-use character U+E000..U+F8FF');
}
