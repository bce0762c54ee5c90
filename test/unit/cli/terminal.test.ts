import { stripVTControlCharacters } from 'node:util';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { terminalLogger } from '../../../lib/cli/terminal';
import type { LogRecord } from '../../../lib/engine/types';

afterEach(() => {
  vi.restoreAllMocks();
});

function linesOf(record: LogRecord, isVerbose = true): string {
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  terminalLogger(isVerbose)(record);
  return stripVTControlCharacters(write.mock.calls.map(([text]) => String(text)).join(''));
}

describe('the log on a terminal', () => {
  it('shows what a record says beside its text', () => {
    const fields = { route: '/v1/models', status: 200, model: 'my model' };
    expect(linesOf({ level: 'info', text: 'request', fields })).toBe(
      'request route=/v1/models status=200 model="my model"\n',
    );
  });

  it('shows the stack of a fault on lines of its own', () => {
    const fields = { cause: 'Error: lost\n    at here' };
    expect(linesOf({ level: 'error', text: 'request failed', fields })).toContain(
      'error: request failed cause=\nError: lost\n    at here\n',
    );
  });

  it('keeps what is only of interest with isVerbose to itself without it', () => {
    expect(linesOf({ level: 'info', text: 'request' }, false)).toBe('');
  });
});
