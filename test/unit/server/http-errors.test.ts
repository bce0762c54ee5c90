import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { AutoglmError, type ErrorCode } from '../../../lib/errors';
import { refuse, toHttpFailure } from '../../../lib/server/http-errors';
import { errorSchema } from '../../../lib/server/wire/responses';

const source = readFileSync(join(__dirname, '..', '..', '..', 'lib', 'errors.ts'), 'utf8');
const codes = [...source.matchAll(/^ {2}\| '(\w+)'/gm)].map((match) => match[1] as ErrorCode);

test('every code of the package has a status and the promised body', () => {
  expect(codes.length).toBeGreaterThan(20);
  for (const code of codes) {
    const { status, body } = toHttpFailure(new AutoglmError(code, 'why'), 'req_1');
    expect(status, code).toBeGreaterThanOrEqual(400);
    expect(status, code).toBeLessThan(600);
    expect(errorSchema.parse(body).error).toMatchObject({ code, message: 'why', request_id: 'req_1' });
  }
});

test('an error of another copy of the package counts as ours', () => {
  const foreign = Object.assign(new Error('full'), {
    code: 'queue_full',
    details: {},
    retryable: true,
    [Symbol.for('open-autoglm.error')]: true,
  });
  expect(toHttpFailure(foreign, 'r').status).toBe(429);
});

describe('what the engine says', () => {
  const failure = (path: string, message: string) =>
    toHttpFailure(
      new AutoglmError('invalid_parameter', message, { details: { path, found: 1, allowed: 'x' } }),
      'r',
    ).body.error;

  test('names fields as the client sent them', () => {
    expect(failure('topP', 'expected topP to be x, got 1')).toMatchObject({
      param: 'top_p',
      message: 'expected top_p to be x, got 1',
    });
    expect(failure('logitBias[5]', 'expected logitBias[5] to be x').param).toBe('logit_bias[5]');
    expect(failure('a key of logitBias', 'expected a key of logitBias to be x').param).toBe('logit_bias');
    expect(failure('messages[0].content', 'm').param).toBe('messages[0].content');
    expect(failure('tokens[3]', 'm').param).toBe('prompt[3]');
    expect(failure('the prompt', 'm').param).toBe('prompt');
  });

  test('of a context too long has both counts', () => {
    const error = new AutoglmError('context_length_exceeded', 'too long', {
      details: { promptTokens: 900, contextLength: 512 },
    });
    expect(toHttpFailure(error, 'r').body.error).toMatchObject({ found: '900', allowed: '512' });
  });

  test('of a full queue says when to come back', () => {
    const now = toHttpFailure(new AutoglmError('queue_full', 'full'), 'r');
    expect([now.headers['retry-after'], now.body.error.retry_after_ms]).toEqual(['1', 1_000]);
    const later = toHttpFailure(
      new AutoglmError('queue_full', 'full', { details: { retryAfterMs: 2_500 } }),
      'r',
    );
    expect([later.headers['retry-after'], later.body.error.retry_after_ms]).toEqual(['3', 2_500]);
  });
});

test('a refusal keeps its own name and headers', () => {
  const { status, headers, body } = toHttpFailure(
    refuse('method_not_allowed', 'no', { headers: { allow: 'GET' }, found: 'PUT' }),
    'r',
  );
  expect([status, headers.allow, body.error.code, body.error.found]).toEqual([
    405,
    'GET',
    'method_not_allowed',
    'PUT',
  ]);
});
