import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { EventStream } from '../../../lib/server/wire/event-stream';

const never = { onCancel: () => {}, onStall: () => {} };
const limits = { streamBufferBytes: 100, stallMs: 1_000 };
const textOf = (body: ReadableStream<Uint8Array>): Promise<string> => new Response(body).text();
const settled = async (promise: Promise<void>): Promise<boolean> => {
  let isSettled = false;
  void promise.then(() => {
    isSettled = true;
  });
  for (let i = 0; i < 10; i += 1) await Promise.resolve();
  return isSettled;
};

describe('framing', () => {
  test('each event is one data line and a blank one, and the end is [DONE]', async () => {
    const stream = new EventStream({ ...limits, streamBufferBytes: 10_000 }, never);
    await stream.send({ text: 'two\nlines and é' });
    await stream.comment('waiting');
    await stream.finish();
    expect(await textOf(stream.body)).toBe(
      'data: {"text":"two\\nlines and é"}\n\n: waiting\n\ndata: [DONE]\n\n',
    );
  });

  test('an error is the last event, without [DONE], and later events go nowhere', async () => {
    const stream = new EventStream({ ...limits, streamBufferBytes: 10_000 }, never);
    await stream.send({ a: 1 });
    stream.fail({ error: { code: 'x' } });
    stream.fail({ error: { code: 'y' } });
    await stream.send({ a: 2 });
    await stream.finish();
    expect(await textOf(stream.body)).toBe('data: {"a":1}\n\ndata: {"error":{"code":"x"}}\n\n');
  });
});

describe('a reader that takes nothing', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const fill = (stream: EventStream): Promise<void> => stream.send({ text: 'x'.repeat(200) });

  test('holds up the writers until it reads on', async () => {
    const stream = new EventStream(limits, never);
    expect(await settled(stream.send({ a: 1 }))).toBe(true);
    const writes = [fill(stream), fill(stream)];
    expect(await settled(Promise.race(writes))).toBe(false);
    const reader = stream.body.getReader();
    for (let i = 0; i < 3; i += 1) await reader.read();
    expect(await settled(Promise.all(writes).then(() => {}))).toBe(true);
  });

  test('is reported once after the stall time, not before', async () => {
    const onStall = vi.fn();
    const stream = new EventStream(limits, { ...never, onStall });
    void fill(stream);
    void fill(stream);
    vi.advanceTimersByTime(999);
    expect(onStall).not.toHaveBeenCalled();
    vi.advanceTimersByTime(10_000);
    expect(onStall).toHaveBeenCalledOnce();
  });

  test('is not stalled when it reads slowly, or when there is nothing to read', async () => {
    const onStall = vi.fn();
    const stream = new EventStream(limits, { ...never, onStall });
    await stream.send({ a: 1 });
    vi.advanceTimersByTime(10_000);
    const reader = stream.body.getReader();
    await reader.read();
    for (let i = 0; i < 5; i += 1) {
      const write = fill(stream);
      await vi.advanceTimersByTimeAsync(900);
      await reader.read();
      await write;
    }
    expect(onStall).not.toHaveBeenCalled();
  });

  test('that cancels frees the writers and is reported', async () => {
    const onCancel = vi.fn();
    const stream = new EventStream(limits, { ...never, onCancel });
    const write = fill(stream);
    await stream.body.cancel();
    expect(await settled(write)).toBe(true);
    expect(onCancel).toHaveBeenCalledOnce();
    await stream.send({ a: 1 });
  });

  test('does not hold up an error', async () => {
    const stream = new EventStream(limits, never);
    const write = fill(stream);
    stream.fail({ error: {} });
    expect(await settled(write)).toBe(true);
    expect(await textOf(stream.body)).toMatch(/data: \{"error":\{\}\}\n\n$/);
  });
});
