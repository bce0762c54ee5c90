import type { OutputPiece, OutputWarning, ToolDefinition } from '../tool-types';
import { type CallReader, type CallSink, isBlank } from './call-reader';
import { parseJson } from './json-value';
import { MarkerScanner } from './marker-scanner';
import type { CallGrammar, ThinkTags } from './output-grammar';

export interface OutputParserOptions {
  /** Null for a model that does not reason aloud. */
  readonly think: ThinkTags | null;
  /** The prompt has opened the reasoning. */
  readonly beginsInReasoning: boolean;
  /** The model puts a newline before its answer. */
  readonly beginsWithNewline: boolean;
  /** Null when no tools are offered: then nothing is a call. */
  readonly calls: CallGrammar | null;
  readonly tools: readonly ToolDefinition[];
  readonly makeId: () => string;
}

/** Text that is looked at again when it turned out to be no call; longer one is text as a whole. */
const MAX_RESCANNED = 8192;

interface OpenCall {
  readonly id: string;
  readonly name: string;
  arguments: string;
}

/**
 * Tells reasoning, answer and tool calls apart in a model's output. Works character by character, so that the result is
 * the same wherever the text is cut. Nothing is lost: what began as a call and is none becomes text, with a warning. Only
 * white space between the parts is dropped.
 */
export class OutputParser implements CallSink {
  readonly #options: OutputParserOptions;
  #pieces: OutputPiece[] = [];
  #scanner: MarkerScanner;
  #isReasoning: boolean;
  /** Something came that a tag of reasoning cannot follow. */
  #hasAnswer = false;
  /** Something other than white space came in this part. */
  #hasContent = false;
  /** Newlines before the first content of this part belong to the format. */
  #dropsNewlines: boolean;
  /** White space that vanishes when a tag or a call follows. */
  #blank = '';
  /** A call may begin here without a marker. */
  #mayOpen = true;
  #reader: CallReader | null = null;
  #opener = '';
  /** What the reader has been given since the last whole call, the opener included. */
  #raw = '';
  /** Characters at the beginning of `#raw` that are text when there is no call: they must not open it again. */
  #headLength = 0;
  #call: OpenCall | null = null;

  constructor(options: OutputParserOptions) {
    this.#options = options;
    this.#isReasoning = options.beginsInReasoning;
    this.#dropsNewlines = options.beginsInReasoning || options.beginsWithNewline;
    this.#scanner = new MarkerScanner(this.#markers());
  }

  /** The next text belongs to the reasoning, as far as is known. */
  get isReasoning(): boolean {
    return this.#isReasoning;
  }

  push(text: string): OutputPiece[] {
    for (const character of text) this.#push(character);
    return this.#take();
  }

  /** No more text comes. */
  end(): OutputPiece[] {
    this.#scanned(this.#scanner.flush(), null);
    // Text of a refused call may open another one.
    while (this.#reader !== null) {
      if (this.#reader.end() === 'done') this.#closeReader();
      else this.#refuse(true);
      this.#scanned(this.#scanner.flush(), null);
    }
    if (this.#hasContent || !this.#dropsNewlines) this.#addText(this.#blank);
    this.#blank = '';
    return this.#take();
  }

  // CallSink: what the reader finds.

  begin(name: string): boolean {
    const { tools, makeId } = this.#options;
    const isOffered = tools.some((tool) => tool.name === name);
    if (!isOffered && (this.#isReasoning || this.#opener === '')) return false;
    this.#blank = '';
    this.#hasAnswer = true;
    if (this.#isReasoning) this.#enter(false);
    if (!isOffered)
      this.#warn('unknown_tool', `the model called ${JSON.stringify(name)}, which was not offered`);
    this.#call = { id: makeId(), name, arguments: '' };
    this.arguments('');
    return true;
  }

  arguments(delta: string): void {
    if (this.#call === null) return;
    const { id, name } = this.#call;
    this.#call.arguments += delta;
    const last = this.#pieces.at(-1);
    if (last?.type === 'tool-input' && last.id === id) {
      this.#pieces[this.#pieces.length - 1] = { ...last, delta: last.delta + delta };
    } else this.#pieces.push({ type: 'tool-input', id, name, delta });
  }

  finish(): boolean {
    if (this.#call === null) return false;
    const value = parseJson(this.#call.arguments);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
    this.#pieces.push({ type: 'tool-call', call: { ...this.#call } });
    this.#call = null;
    this.#raw = '';
    this.#headLength = 0;
    return true;
  }

  #markers(): string[] {
    const { think, calls } = this.#options;
    const markers = calls === null ? [] : [...calls.openers];
    if (this.#isReasoning) return think === null ? markers : [think.close, ...markers];
    if (think !== null) markers.push(think.open);
    if (calls !== null && calls.turn !== null) markers.push(calls.turn);
    return markers;
  }

  #enter(isReasoning: boolean): void {
    this.#isReasoning = isReasoning;
    this.#hasContent = false;
    this.#dropsNewlines = true;
    this.#mayOpen = true;
    this.#scanner = new MarkerScanner(this.#markers());
  }

  #push(character: string): void {
    if (this.#reader !== null) {
      this.#read(character);
      return;
    }
    const { text, marker } = this.#scanner.push(character);
    this.#scanned(text, marker);
  }

  /** Text without markers, and the marker that follows it. */
  #scanned(text: string, marker: string | null): void {
    for (const [i, character] of [...text].entries()) {
      this.#plain(character);
      if (this.#reader === null) continue;
      // A call has begun without a marker: what the scanner has seen after that is the reader's.
      const rest = [...text].slice(i + 1).join('') + (marker ?? this.#scanner.flush());
      for (const next of rest) this.#push(next);
      return;
    }
    if (marker !== null) this.#mark(marker);
  }

  #mark(marker: string): void {
    const { think, calls } = this.#options;
    if (marker === calls?.turn) {
      if (this.#blank === '' && this.#hasContent) this.#blank = '\n';
      this.#mayOpen = true;
    } else if (marker === think?.open && this.#hasAnswer) {
      this.#content(marker); // the answer speaks of the tag
    } else if (marker === think?.open || marker === think?.close) {
      this.#blank = '';
      this.#enter(marker === think?.open);
    } else this.#open(marker);
  }

  #open(opener: string): void {
    const { calls, tools } = this.#options;
    if (calls === null) return;
    this.#opener = opener;
    this.#raw = opener;
    this.#headLength = opener === '' ? 1 : [...opener].length;
    this.#reader = calls.makeReader(this, tools, opener);
  }

  #plain(character: string): void {
    const { calls, think } = this.#options;
    const isSeparator = calls !== null && calls.separator === character && this.#mayOpen && this.#hasAnswer;
    if (isBlank(character) || isSeparator) {
      if (calls?.opensUnmarked === 'line' && character === '\n') this.#mayOpen = true;
      const mayVanish = this.#isReasoning || calls !== null || (think !== null && !this.#hasAnswer);
      if (mayVanish || (this.#dropsNewlines && !this.#hasContent)) this.#blank += character;
      else this.#content(character);
      return;
    }
    const opens = this.#mayOpen && !this.#isReasoning && calls !== null && calls.opensUnmarked !== 'never';
    this.#mayOpen = false;
    if (opens) {
      this.#open('');
      this.#read(character);
    } else this.#content(character);
  }

  /** Text for the part that is being written. */
  #content(text: string): void {
    if (text === '') return;
    const isFirst = !this.#hasContent && this.#dropsNewlines;
    this.#addText(isFirst ? this.#blank.replace(/^\n+/, '') : this.#blank);
    this.#blank = '';
    this.#addText(text);
    this.#hasContent = true;
    if (!this.#isReasoning) this.#hasAnswer = true;
  }

  #read(character: string): void {
    this.#raw += character;
    const status = this.#reader?.push(character);
    if (status === 'done') this.#closeReader();
    else if (status === 'refused') this.#refuse(false);
  }

  #closeReader(): void {
    this.#reader = null;
    this.#raw = '';
    this.#enter(false);
  }

  /** What the reader was given is no call, or not a whole one. */
  #refuse(isEnd: boolean): void {
    const characters = [...this.#raw];
    const call = this.#call;
    const headLength = this.#headLength;
    this.#reader = null;
    this.#call = null;
    this.#raw = '';
    const isMarked = headLength > 0 && this.#opener !== '' && !this.#isReasoning;
    if (call !== null || isMarked) this.#warnOf(call, isEnd);
    if (headLength === 0) this.#enter(false);
    this.#mayOpen = false;
    // What was handed out as a call, or is long, is not searched for another one, but may end in the beginning of one.
    const isFinal = call !== null || characters.length > MAX_RESCANNED;
    const numTail = isEnd ? 0 : this.#markerBeginning(characters);
    const numText = isFinal ? characters.length - numTail : headLength;
    this.#content(characters.slice(0, numText).join(''));
    for (const character of characters.slice(numText)) this.#push(character);
  }

  /** How many characters at the end may be the beginning of a marker. */
  #markerBeginning(characters: readonly string[]): number {
    const markers = this.#markers();
    const longest = Math.max(0, ...markers.map((marker) => marker.length));
    for (let length = Math.min(longest, characters.length); length > 0; length -= 1) {
      const tail = characters.slice(-length).join('');
      if (markers.some((marker) => marker.startsWith(tail))) return length;
    }
    return 0;
  }

  #warnOf(call: OpenCall | null, isEnd: boolean): void {
    const of = call === null ? '' : ` of ${JSON.stringify(call.name)}`;
    if (isEnd) this.#warn('incomplete_tool_call', `the answer ended inside of a tool call${of}; it is text`);
    else this.#warn('malformed_tool_call', `a tool call${of} is not well-formed; it is text`);
  }

  #warn(code: OutputWarning, message: string): void {
    this.#pieces.push({ type: 'warning', code, message });
  }

  #addText(text: string): void {
    if (text === '') return;
    const type = this.#isReasoning ? 'reasoning' : 'text';
    const last = this.#pieces.at(-1);
    if (last?.type === type) this.#pieces[this.#pieces.length - 1] = { type, text: last.text + text };
    else this.#pieces.push({ type, text });
  }

  #take(): OutputPiece[] {
    const pieces = this.#pieces;
    this.#pieces = [];
    return pieces;
  }
}
