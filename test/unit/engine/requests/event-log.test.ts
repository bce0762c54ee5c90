import { describe, expect, test } from 'vitest';
import { type AnswerPiece, EventLog } from '../../../../lib/engine/requests/event-log';
import type { GenerateEvent } from '../../../../lib/engine/types';
import { AutoglmError } from '../../../../lib/errors';

const usage = {
  promptTokens: 1,
  completionTokens: 2,
  reasoningTokens: 0,
  cachedTokens: 0,
  draftedTokens: 0,
  acceptedTokens: 0,
};
const timings = { queueMs: 0, prefillMs: 0, ttftMs: 0, decodeMs: 0, totalMs: 0, tokensPerSecond: 0 };
const finish: Extract<GenerateEvent, { type: 'finish' }> = {
  type: 'finish',
  finishReason: 'stop',
  usage,
  timings,
};

const text = (value: string): AnswerPiece[] => (value === '' ? [] : [{ type: 'text', text: value }]);

function createLog(): { log: EventLog; reads: number[]; abandonments: number[] } {
  const reads: number[] = [];
  const abandonments: number[] = [];
  const owner = {
    read: (numTokens: number) => reads.push(numTokens),
    abandoned: async () => {
      abandonments.push(1);
    },
  };
  return { log: new EventLog(owner), reads, abandonments };
}

async function drain(reader: AsyncIterable<GenerateEvent>): Promise<GenerateEvent[]> {
  const events: GenerateEvent[] = [];
  for await (const event of reader) events.push(event);
  return events;
}

describe('the log of a generation', () => {
  test('gives a reader that keeps up each addition as an event', async () => {
    const { log } = createLog();
    const reader = log.reader();
    log.warn({ code: 'w', message: 'careful' });
    expect((await reader.next()).value).toEqual({
      type: 'warning',
      warning: { code: 'w', message: 'careful' },
    });
    const pending = reader.next();
    log.add(text('Hel'), 1, null);
    expect((await pending).value).toEqual({ type: 'text', text: 'Hel', tokens: [1] });
    log.add(text(''), 2, null);
    expect((await reader.next()).value).toEqual({ type: 'text', text: '', tokens: [2] });
    log.add(text('lo'), null, null);
    log.end({ finish });
    expect(await drain(reader)).toEqual([{ type: 'text', text: 'lo', tokens: [] }, finish]);
    expect(await reader.next()).toEqual({ done: true, value: undefined });
  });

  test('gives slow and late readers the same text in fewer events', async () => {
    const { log } = createLog();
    const slow = log.reader();
    for (let i = 0; i < 5; i += 1) log.add(text(String(i)), i, null);
    expect((await slow.next()).value).toEqual({ type: 'text', text: '01234', tokens: [0, 1, 2, 3, 4] });
    log.add(text('5'), 5, null);
    log.end({ finish });
    expect(await drain(slow)).toEqual([{ type: 'text', text: '5', tokens: [5] }, finish]);
    expect(await drain(log.reader())).toEqual([
      { type: 'text', text: '012345', tokens: [0, 1, 2, 3, 4, 5] },
      finish,
    ]);
  });

  test('delivers what came before a failure, then throws it, to every reader once', async () => {
    const { log } = createLog();
    const readers = [log.reader(), log.reader()];
    log.add(text('a'), 1, null);
    log.end({ error: new AutoglmError('numeric_error', 'NaN') });
    for (const reader of readers) {
      expect((await reader.next()).value).toMatchObject({ text: 'a' });
      await expect(reader.next()).rejects.toMatchObject({ code: 'numeric_error' });
      expect(await reader.next()).toEqual({ done: true, value: undefined });
    }
  });

  test('delivers nothing after it was held, not even what had been added before', async () => {
    const { log } = createLog();
    const reader = log.reader();
    log.add(text('a'), 1, null);
    log.hold();
    const pending = reader.next();
    log.add(text('b'), 2, null);
    log.end({ finish: { ...finish, finishReason: 'abort' } });
    expect((await pending).value).toMatchObject({ type: 'finish', finishReason: 'abort' });
  });

  test('tells its owner how far the fastest reader is, so that one that stands still stops nobody', async () => {
    const { log, reads } = createLog();
    const fast = log.reader();
    const slow = log.reader();
    for (let i = 0; i < 10; i += 1) log.add(text('x'), i, null);
    await fast.next();
    expect(reads).toEqual([10]);
    await slow.next();
    expect(reads).toEqual([10]);
    log.awaitEnd();
    expect(reads.at(-1)).toBe(Number.POSITIVE_INFINITY);
  });

  test('is abandoned when its last reader leaves before the end, and only then', async () => {
    const { log, abandonments } = createLog();
    const first = log.reader();
    const second = log.reader();
    await first.return?.();
    expect(abandonments).toHaveLength(0);
    await second.return?.();
    expect(abandonments).toHaveLength(1);
    await second.return?.();
    expect(abandonments).toHaveLength(1);

    const ended = createLog();
    const reader = ended.log.reader();
    ended.log.end({ finish });
    await reader.return?.();
    expect(ended.abandonments).toHaveLength(0);

    const awaited = createLog();
    awaited.log.awaitEnd();
    await awaited.log.reader().return?.();
    expect(awaited.abandonments).toHaveLength(0);
  });

  test('a reader that leaves while it waits is released', async () => {
    const { log } = createLog();
    const reader = log.reader();
    const pending = reader.next();
    await reader.return?.();
    expect(await pending).toEqual({ done: true, value: undefined });
  });
});
