import { writeFile } from 'node:fs/promises';
import type { ChatMessage, ChatRole, GenerateOptions, GenerateResult, Model } from '../engine/types';
import { AutoglmError } from '../errors';
import { readTextFile } from './open-model';

const ROLES: ReadonlySet<string> = new Set<ChatRole>(['system', 'user', 'assistant']);

/** A piece of an answer as it comes. */
export interface AnswerPiece {
  readonly type: 'text' | 'reasoning';
  readonly text: string;
}

/** A conversation with a model: its messages, and one answer at a time. */
export class ChatSession {
  #messages: ChatMessage[];
  #running: AbortController | null = null;

  constructor(
    readonly model: Model,
    readonly settings: Partial<GenerateOptions>,
    messages: readonly ChatMessage[],
  ) {
    this.#messages = [...messages];
  }

  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  get isAnswering(): boolean {
    return this.#running !== null;
  }

  /** Ends the answer that is being written; what is there of it stays in the conversation. */
  stop(): void {
    this.#running?.abort();
  }

  /** Asks, hands each piece of the answer to `onPiece`, and remembers both. A question that fails is forgotten. */
  async ask(question: string, onPiece: (piece: AnswerPiece) => void): Promise<GenerateResult> {
    const controller = new AbortController();
    this.#running = controller;
    try {
      const messages = [...this.#messages, { role: 'user' as const, content: question }];
      const { signal } = controller;
      const generation = this.model.generate({ ...this.settings, messages, signal, onAbort: 'partial' });
      for await (const event of generation) {
        if (event.type === 'text' || event.type === 'reasoning') onPiece(event);
      }
      const result = await generation;
      const { text, reasoning } = result;
      const thoughts = reasoning === '' ? {} : { reasoning };
      this.#messages = [...messages, { role: 'assistant', content: text, ...thoughts }];
      return result;
    } finally {
      this.#running = null;
    }
  }

  /** Forgets everything but the system message. */
  clear(): void {
    this.#messages = this.#messages.filter(({ role }) => role === 'system');
  }

  /** Writes the conversation to a file that `readConversation` takes. */
  async save(path: string): Promise<void> {
    const conversation = { model: this.model.info.source, messages: this.#messages };
    try {
      await writeFile(path, `${JSON.stringify(conversation, null, 2)}\n`);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new AutoglmError('invalid_parameter', `${path}: cannot be written (${code})`, { cause: error });
    }
  }
}

/** The messages of a saved conversation. */
export async function readConversation(path: string): Promise<ChatMessage[]> {
  const text = await readTextFile(path, 'the conversation');
  let value: { readonly messages?: unknown } | null = null;
  try {
    value = JSON.parse(text) as { readonly messages?: unknown } | null;
  } catch {
    // Reported below, like JSON of another shape.
  }
  const messages = value?.messages;
  if (Array.isArray(messages) && messages.every(isMessage)) {
    return messages.map(({ role, content, reasoning }) => ({
      role,
      content: content ?? '',
      ...(typeof reasoning === 'string' ? { reasoning } : {}),
    }));
  }
  throw new AutoglmError('invalid_parameter', `${path}: expected a conversation as /save writes it`);
}

function isMessage(value: unknown): value is ChatMessage {
  const { role, content } = (value ?? {}) as Partial<ChatMessage>;
  return typeof role === 'string' && ROLES.has(role) && typeof content === 'string';
}
