import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RunningServer, serve } from '../../lib/server';
import { eventually } from './eventually';
import { chatBody, postText, RawConnection } from './raw-http';
import { gate, ScriptedEngine } from './scripted-engine';

// Goal: whatever a peer does with its socket, the server answers or ends that connection, and serves the others.
let engine: ScriptedEngine;
let server: RunningServer;
/** A server with the usual patience and one with little, for the tests of running out of it. */
let hasty: RunningServer;
const hastyLimits = { bodyWaitMs: 300, idleMs: 400, stallMs: 1_500 };

beforeAll(async () => {
  engine = new ScriptedEngine();
  server = await serve(engine, { port: 0, limits: { pipelinedRequests: 4, headerBytes: 2_048 } });
  hasty = await serve(engine, { port: 0, limits: hastyLimits });
});
beforeEach(() => {
  engine.model.seen.length = 0;
  engine.model.script = () => ({ tokens: ['ok'] });
});
afterAll(async () => {
  await server.close({ graceMs: 0 });
  await hasty.close({ graceMs: 0 });
});

const chat = postText('/v1/chat/completions', chatBody());
const open = (to = server): Promise<RawConnection> => RawConnection.open(to.port);
async function isServing(): Promise<boolean> {
  return (await fetch(`${server.url}/health`)).status === 200;
}

describe('a request in pieces', () => {
  test('split in two at every byte gets the same answer', async () => {
    const bytes = Buffer.from(chat);
    for (let cut = 1; cut < bytes.length; cut += 1) {
      const connection = await open();
      await connection.write(bytes.subarray(0, cut));
      await connection.write(bytes.subarray(cut));
      await eventually(() => connection.received.endsWith('}'), `cut at ${cut}`).toBe(true);
      expect(connection.statuses, `cut at ${cut}`).toEqual([200]);
      expect(connection.received).toContain('"content":"ok"');
      connection.reset();
    }
  });

  test('one byte at a time gets the same answer', async () => {
    const connection = await open();
    for (const byte of Buffer.from(chat)) await connection.write(Buffer.from([byte]));
    await eventually(() => connection.received).toContain('"content":"ok"');
    expect(engine.model.seen[0]?.options.messages?.[0]?.content).toBe('Hi é');
    connection.reset();
  });

  test('with a chunked body cut inside a character is read right', async () => {
    const connection = await open();
    const body = Buffer.from(chatBody());
    const cut = body.indexOf(0xc3) + 1;
    const chunk = (bytes: Buffer): Buffer =>
      Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
    await connection.write(
      'POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n',
    );
    await connection.write(chunk(body.subarray(0, cut)));
    await connection.write(chunk(body.subarray(cut)));
    await connection.write('0\r\n\r\n');
    await eventually(() => connection.received).toContain('"content":"ok"');
    expect(engine.model.seen[0]?.options.messages?.[0]?.content).toBe('Hi é');
    connection.reset();
  });
});

describe('a slow or silent peer', () => {
  test('that sends nothing, or never ends its headers, is not given the time for a body', async () => {
    const patient = await serve(engine, { port: 0, limits: { headerWaitMs: 300, bodyWaitMs: 60_000 } });
    const silent = await RawConnection.open(patient.port);
    const slow = await RawConnection.open(patient.port);
    await slow.write('GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow: ');
    await eventually(() => silent.isClosed && slow.isClosed).toBe(true);
    expect(slow.statuses).toEqual([408]);
    expect(slow.received).toContain('"code":"request_timeout"');
    await patient.close();
  });

  test('that announces a body over the limit is refused before it sends any', async () => {
    const connection = await open();
    await connection.write(
      'POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n',
    );
    await eventually(() => connection.statuses).toEqual([413]);
    await eventually(() => connection.isClosed).toBe(true);
  });

  test('that never ends its body gets 408 and the connection ends', async () => {
    const connection = await open(hasty);
    await connection.write(chat.slice(0, -10));
    await eventually(() => connection.received).toContain('"code":"request_timeout"');
    expect(connection.statuses).toEqual([408]);
    await eventually(() => connection.isClosed).toBe(true);
    expect(engine.model.seen).toHaveLength(0);
  });

  test('that keeps its connection without using it is cut off', async () => {
    const connection = await open(hasty);
    await connection.write('GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n');
    await eventually(() => connection.statuses).toEqual([200]);
    await eventually(() => connection.isClosed).toBe(true);
  });
});

describe('malformed HTTP', () => {
  const cases: readonly [string, string, number][] = [
    ['a line that is no request', 'nonsense\r\n\r\n', 400],
    ['no Host header', 'GET /health HTTP/1.1\r\n\r\n', 400],
    [
      'a chunk without a size',
      'POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
      400,
    ],
    ['both lengths', `${chat.replace('\r\n\r\n', '\r\ntransfer-encoding: chunked\r\n\r\n')}`, 400],
    [
      'a negative length',
      'POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n',
      400,
    ],
    ['a target with a backslash', 'GET /\\evil HTTP/1.1\r\nhost: localhost\r\n\r\n', 400],
    ['a Host with a path', 'GET / HTTP/1.1\r\nhost: localhost/evil\r\n\r\n', 400],
    [
      'headers over the limit',
      `GET /health HTTP/1.1\r\nhost: localhost\r\nx-big: ${'x'.repeat(2_100)}\r\n\r\n`,
      431,
    ],
  ];
  for (const [name, text, status] of cases) {
    test(`${name} is a ${status}`, async () => {
      const connection = await open();
      await connection.write(text);
      await eventually(() => connection.statuses).toEqual([status]);
      connection.reset();
      expect(await isServing()).toBe(true);
      expect(engine.model.seen).toHaveLength(0);
    });
  }

  test('after a sound request on the same connection is answered too', async () => {
    const connection = await open();
    await connection.write('GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n');
    await eventually(() => connection.statuses).toEqual([200]);
    await connection.write('nonsense\r\n\r\n');
    await eventually(() => connection.statuses).toEqual([200, 400]);
    await eventually(() => connection.isClosed).toBe(true);
  });

  test('behind a request being answered only ends the connection', async () => {
    engine.model.script = () => ({ tokens: ['a'], beforeToken: () => new Promise(() => {}) });
    const connection = await open();
    await connection.write(chat);
    await eventually(() => engine.model.numRunning).toBe(1);
    await connection.write('nonsense\r\n\r\n');
    await eventually(() => connection.isClosed).toBe(true);
    expect(connection.received).toBe('');
    expect(engine.model.seen[0]?.outcome).toBe('aborted');
  });

  test('headers just under the limit pass', async () => {
    const connection = await open();
    await connection.write(`GET /health HTTP/1.1\r\nhost: localhost\r\nx-big: ${'x'.repeat(1_900)}\r\n\r\n`);
    await eventually(() => connection.statuses).toEqual([200]);
    connection.reset();
  });
});

describe('pipelining', () => {
  test('answers come in order', async () => {
    engine.model.script = (options) => ({
      tokens: [String(options.seed)],
      beforeToken: () => new Promise((r) => setTimeout(r, options.seed === 1 ? 50 : 1)),
    });
    const connection = await open();
    await connection.write(
      [1, 2, 3].map((seed) => postText('/v1/chat/completions', chatBody({ seed }))).join(''),
    );
    await eventually(() => connection.statuses).toEqual([200, 200, 200]);
    expect([...connection.received.matchAll(/"content":"(\d)"/g)].map((match) => match[1])).toEqual([
      '1',
      '2',
      '3',
    ]);
    connection.reset();
  });

  test('a connection with too many unanswered requests is cut and all of them are aborted', async () => {
    engine.model.script = () => ({ tokens: ['a'], beforeToken: () => new Promise(() => {}) });
    const connection = await open();
    await connection.write(chat.repeat(4));
    await eventually(() => engine.model.numRunning).toBe(4);
    await connection.write(chat);
    await eventually(() => connection.isClosed).toBe(true);
    await eventually(() => engine.model.seen.map((call) => call.outcome)).toEqual(Array(4).fill('aborted'));
  });

  test('requests behind the one being answered are aborted with their connection', async () => {
    engine.model.script = () => ({ tokens: ['a'], beforeToken: () => new Promise(() => {}) });
    const connection = await open();
    await connection.write(chat.repeat(3));
    await eventually(() => engine.model.numRunning).toBe(3);
    connection.reset();
    await eventually(() => engine.model.numRunning).toBe(0);
  });
});

describe('a client that goes away', () => {
  // The scripted engine has one wait for all phases before the first token; the real one is in engine.test.ts.
  for (const stream of [false, true]) {
    for (const phase of ['before the first token', 'between tokens'] as const) {
      for (const way of ['reset', 'halfClose'] as const) {
        test(`${phase} by ${way} ends the generation${stream ? ' of a stream' : ''}`, async () => {
          const waitsAt = phase === 'between tokens' ? 3 : 0;
          engine.model.script = () => ({
            tokens: Array(10).fill('a'),
            beforeToken: (i) => (i === waitsAt ? new Promise(() => {}) : undefined),
          });
          const connection = await open();
          await connection.write(postText('/v1/chat/completions', chatBody({ stream })));
          await eventually(() => engine.model.seen[0]?.numTokensMade).toBe(waitsAt);
          connection[way]();
          await eventually(() => engine.model.seen[0]?.outcome).toBe('aborted');
          expect(await isServing()).toBe(true);
        });
      }
    }
  }

  test('while it sends its body starts nothing', async () => {
    const connection = await open();
    await connection.write(chat.slice(0, -10));
    connection.reset();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(engine.model.seen).toHaveLength(0);
    expect(await isServing()).toBe(true);
  });

  test('after its answer was computed loses nothing for others', async () => {
    const { opened, open: release } = gate();
    engine.model.script = (_, index) => ({
      tokens: ['a'],
      beforeToken: () => (index === 0 ? opened : undefined),
    });
    const connection = await open();
    await connection.write(postText('/v1/chat/completions', chatBody({ stream: true })));
    await eventually(() => engine.model.numRunning).toBe(1);
    release();
    connection.reset();
    const other = await open();
    await other.write(chat);
    await eventually(() => other.statuses).toEqual([200]);
    other.reset();
  });
});

describe('a reader that takes nothing', () => {
  test('is cut off, with little buffered and nothing computed for it any more', async () => {
    const piece = 'x'.repeat(10_000);
    engine.model.script = () => ({
      tokens: Array(20_000).fill(piece),
      beforeToken: (i) => (i % 10 === 0 ? new Promise((resolve) => setImmediate(resolve)) : undefined),
    });
    const before = process.memoryUsage().arrayBuffers;
    const connection = await open(hasty);
    connection.stopReading();
    await connection.write(postText('/v1/chat/completions', chatBody({ stream: true })));
    await eventually(() => engine.model.seen[0]?.outcome).toBe('aborted');
    expect(engine.model.seen[0]?.isResultAwaited).toBe(false);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
    expect(await isServing()).toBe(true);
    connection.reset();
  });

  test('of an answer that is already complete is cut off too', async () => {
    engine.model.script = () => ({ tokens: ['x'.repeat(20_000_000)] });
    const connection = await open(hasty);
    connection.stopReading();
    await connection.write(chat);
    await eventually(() => engine.model.seen[0]?.outcome).toBe('finished');
    // Well over the stall limit; a server that still waits would hand over everything once we read.
    await new Promise((resolve) => setTimeout(resolve, 3 * hastyLimits.stallMs));
    connection.readOn();
    await eventually(() => connection.isClosed).toBe(true);
    expect(connection.received.length).toBeLessThan(20_000_000);
  });

  test('but reads slowly gets everything', async () => {
    engine.model.script = () => ({ tokens: Array(100).fill('x'.repeat(200_000)) });
    const connection = await open(hasty);
    connection.stopReading();
    await connection.write(postText('/v1/chat/completions', chatBody({ stream: true })));
    for (let i = 0; i < 400 && !connection.received.includes('[DONE]'); i += 1) {
      connection.readOn();
      await new Promise((resolve) => setTimeout(resolve, 5));
      connection.stopReading();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(connection.received.match(/x{200000}/g)).toHaveLength(100);
    connection.reset();
  });

  test('because there is nothing yet is not cut off', async () => {
    const { opened, open: release } = gate();
    engine.model.script = () => ({ tokens: ['a', 'b'], beforeToken: (i) => (i === 1 ? opened : undefined) });
    const connection = await open(hasty);
    await connection.write(postText('/v1/chat/completions', chatBody({ stream: true })));
    await new Promise((resolve) => setTimeout(resolve, 2 * hastyLimits.stallMs));
    release();
    await eventually(() => connection.received).toContain('[DONE]');
    expect(connection.received).toContain(': waiting');
    connection.reset();
  });
});
