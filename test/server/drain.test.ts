import { afterEach, describe, expect, test } from 'vitest';
import { closeOnSignals, type RunningServer, serve } from '../../lib/server';
import { eventually } from './eventually';
import { chatBody } from './raw-http';
import { gate, ScriptedEngine } from './scripted-engine';

let server: RunningServer | null = null;
afterEach(async () => {
  await server?.close({ graceMs: 0 });
});

async function start(graceMs?: number) {
  const engine = new ScriptedEngine();
  const release = gate();
  engine.model.script = () => ({
    tokens: ['a', 'b'],
    beforeToken: (i) => (i === 1 ? release.opened : undefined),
  });
  const own = await serve(engine, { port: 0, ...(graceMs === undefined ? {} : { graceMs }) });
  server = own;
  const ask = (stream: boolean): Promise<Response> =>
    fetch(`${own.url}/v1/chat/completions`, {
      method: 'POST',
      body: chatBody({ stream }),
      headers: { 'content-type': 'application/json' },
    });
  return { engine, release: release.open, server: own, ask };
}

describe('closing', () => {
  test('without work ends at once, twice as well', async () => {
    const { server } = await start();
    await Promise.all([server.close(), server.close()]);
    await expect(fetch(`${server.url}/health`)).rejects.toThrow();
    await server.close();
  });

  test('lets running answers end, refuses new ones and says so in /health', async () => {
    const { engine, release, server, ask } = await start();
    const stream = await ask(true);
    const whole = ask(false);
    await eventually(() => engine.model.seen.map((call) => call.numTokensMade)).toEqual([1, 1]);
    const closed = server.close();
    const health = await fetch(`${server.url}/health`);
    expect([health.status, ((await health.json()) as { status: string }).status]).toEqual([503, 'draining']);
    const refused = await ask(false);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    expect(await refused.json()).toMatchObject({ error: { code: 'shutting_down', retryable: true } });
    release();
    expect(await stream.text()).toMatch(/"content":"b".*\[DONE\]\n\n$/s);
    expect(await (await whole).json()).toMatchObject({ choices: [{ message: { content: 'ab' } }] });
    await closed;
    await expect(fetch(`${server.url}/health`)).rejects.toThrow();
  });

  test('ends what is left after the grace period with a typed error', async () => {
    const { engine, server, ask } = await start(100);
    const stream = await ask(true);
    const whole = ask(false);
    await eventually(() => engine.model.seen.map((call) => call.numTokensMade)).toEqual([1, 1]);
    await server.close();
    const text = await stream.text();
    expect(text).toMatch(/"content":"a"/);
    expect(text).toMatch(/\ndata: \{"error":\{.*"code":"shutting_down".*\}\}\n\n$/);
    expect(text).not.toContain('[DONE]');
    const response = await whole;
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ error: { code: 'shutting_down', retryable: true } });
    expect(engine.model.seen.map((call) => call.outcome)).toEqual(['aborted', 'aborted']);
  });
});

describe('signals', () => {
  test('close the server, and a second one does not wait for answers', async () => {
    const { engine, server, ask } = await start();
    const stream = await ask(true);
    await eventually(() => engine.model.numRunning).toBe(1);
    let numClosed = 0;
    const before = process.listenerCount('SIGTERM');
    closeOnSignals(server, () => {
      numClosed += 1;
    });
    process.kill(process.pid, 'SIGTERM');
    await eventually(async () => (await fetch(`${server.url}/health`)).status).toBe(503);
    expect(numClosed).toBe(0);
    process.kill(process.pid, 'SIGTERM');
    // Far below the grace period.
    await eventually(() => numClosed).toBe(1);
    expect(await stream.text()).toContain('"code":"shutting_down"');
    expect(process.listenerCount('SIGTERM')).toBe(before);
  });
});
