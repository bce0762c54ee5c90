import { isUtf8 } from 'node:buffer';
import { AutoglmError } from '../../errors';
import { refuse } from '../http-errors';
import type { ServerLimits } from '../options';
import { scanJson } from './json-scan';

/** The rest of a refused body is not worth reading, so its connection ends with the answer. */
const CLOSE = { connection: 'close' };

function checkHeaders(headers: Headers, limits: ServerLimits): void {
  const contentType = headers.get('content-type') ?? '';
  const [mediaType = '', ...parameters] = contentType
    .toLowerCase()
    .split(';')
    .map((part) => part.trim());
  if (mediaType !== 'application/json')
    throw refuse(
      'unsupported_media_type',
      `expected content-type application/json, got "${mediaType.slice(0, 64)}"`,
      {
        where: 'header content-type',
        found: mediaType.slice(0, 64),
        allowed: 'application/json',
        headers: CLOSE,
      },
    );
  const charset =
    parameters
      .find((part) => part.startsWith('charset='))
      ?.slice(8)
      .replaceAll('"', '') ?? 'utf-8';
  if (charset !== 'utf-8' && charset !== 'utf8')
    throw refuse('unsupported_media_type', `expected charset utf-8, got "${charset.slice(0, 64)}"`, {
      where: 'header content-type',
      found: charset.slice(0, 64),
      allowed: 'utf-8',
      headers: CLOSE,
    });
  const encoding = (headers.get('content-encoding') ?? 'identity').toLowerCase();
  if (encoding !== 'identity')
    throw refuse(
      'unsupported_media_type',
      `expected an uncompressed body, got content-encoding "${encoding.slice(0, 64)}"`,
      {
        where: 'header content-encoding',
        found: encoding.slice(0, 64),
        allowed: 'identity',
        headers: CLOSE,
      },
    );
  const length = Number(headers.get('content-length') ?? 0);
  if (length > limits.bodyBytes) throw tooLarge(`${length} bytes`, limits);
}

function tooLarge(found: string, { bodyBytes }: ServerLimits): Error {
  return refuse('body_too_large', `expected a body of at most ${bodyBytes} bytes, got ${found}`, {
    where: 'body',
    found,
    allowed: `at most ${bodyBytes} bytes`,
    headers: CLOSE,
  });
}

/** Collects the body while counting it, so that no more than the limit is ever held. */
async function readBytes(request: Request, limits: ServerLimits): Promise<Uint8Array> {
  if (request.body === null) return new Uint8Array();
  const reader = (request.body as ReadableStream<Uint8Array>).getReader();
  let late: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_, reject) => {
    late = setTimeout(() => {
      const message = `the body did not arrive within ${limits.bodyWaitMs} ms`;
      reject(refuse('request_timeout', message, { where: 'body', headers: CLOSE }));
    }, limits.bodyWaitMs);
  });
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), deadline]);
      if (done) return chunks.length === 1 ? (chunks[0] as Uint8Array) : Buffer.concat(chunks);
      size += value.byteLength;
      if (size > limits.bodyBytes) throw tooLarge(`over ${limits.bodyBytes} bytes`, limits);
      chunks.push(value);
    }
  } catch (error) {
    // The reader may already have failed with the connection; the first error is the one to report.
    reader.cancel(error).catch(() => {});
    if (AutoglmError.is(error)) throw error;
    throw refuse('malformed_request', 'the connection ended before the body was complete', {
      where: 'body',
      headers: CLOSE,
    });
  } finally {
    clearTimeout(late);
  }
}

function decode(bytes: Uint8Array): string {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf)
    throw refuse('invalid_json', 'the body starts with a byte order mark; send plain UTF-8', {
      where: 'body, byte 0',
    });
  if (!isUtf8(bytes)) throw refuse('invalid_json', 'the body is not valid UTF-8', { where: 'body' });
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // The rest of V8's message quotes the body, which has no place in a log.
    const position = /position (\d+)/.exec(error instanceof Error ? error.message : '')?.[1];
    const where = position === undefined ? 'body' : `body, character ${position}`;
    throw refuse('invalid_json', `the body is not valid JSON (${where})`, { where });
  }
}

/** The JSON value in a request body, within the limits on size, time, depth and number of values. */
export async function readJsonBody(request: Request, limits: ServerLimits): Promise<unknown> {
  checkHeaders(request.headers, limits);
  const bytes = await readBytes(request, limits);
  if (bytes.byteLength === 0)
    throw refuse('invalid_json', 'the body is empty; send a JSON object', { where: 'body' });
  const text = decode(bytes);
  scanJson(text, { maxDepth: limits.jsonDepth, maxElements: limits.jsonElements });
  return parse(text);
}
