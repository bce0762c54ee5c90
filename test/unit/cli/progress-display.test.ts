import { describe, expect, test } from 'vitest';
import { ProgressDisplay } from '../../../lib/cli/progress-display';

class Recorder {
  text = '';
  constructor(
    readonly isTTY: boolean,
    readonly columns = 200,
  ) {}
  write(text: string): void {
    this.text += text;
  }
  /** What a terminal would show: the last line, after the last erasure. */
  get line(): string {
    return (this.text.split('\r\u001b[2K').at(-1) ?? '').replace(/\u001b\[\d+m/g, '');
  }
}

const download = { phase: 'download', file: 'model.gguf', total: 100_000_000 } as const;

describe('on a terminal', () => {
  test('a download is one line with bar, share, size, speed and time left', () => {
    const terminal = new Recorder(true);
    const display = new ProgressDisplay(terminal);
    display.update({ ...download, loaded: 25_000_000, bytesPerSecond: 5_000_000 });
    expect(terminal.line).toMatch(
      /^fetching model\.gguf {2}━{6} {18} {2}25 % {2}25\.0 MB of 100 MB {2}5\.0 MB\/s {2}15\.0 s left$/,
    );
    expect(terminal.text).not.toContain('\n');
  });

  test('the line never exceeds the terminal, so that it can be erased', () => {
    const terminal = new Recorder(true, 40);
    new ProgressDisplay(terminal).update({ ...download, loaded: 25_000_000, bytesPerSecond: 5_000_000 });
    expect(terminal.line.length).toBeLessThan(40);
  });

  test('nothing of it is left when the model is ready', () => {
    const terminal = new Recorder(true);
    const display = new ProgressDisplay(terminal);
    display.update({ phase: 'weights', loaded: 1, total: 2 });
    display.update({ phase: 'ready', loaded: 2, total: 2 });
    expect(terminal.line).toBe('');
  });

  test('an unknown size shows what has come', () => {
    const terminal = new Recorder(true);
    new ProgressDisplay(terminal).update({ phase: 'download', file: 'x', loaded: 5_000_000, total: null });
    expect(terminal.line).toBe('fetching x  5.0 MB');
  });
});

describe('without a terminal', () => {
  test('a download is a line for the file and one per quarter', () => {
    const pipe = new Recorder(false);
    const display = new ProgressDisplay(pipe);
    for (let loaded = 0; loaded <= 100; loaded += 1) display.update({ ...download, loaded: loaded * 1e6 });
    expect(pipe.text).toBe('fetching model.gguf (100 MB)\n  25 %\n  50 %\n  75 %\n  100 %\n');
  });

  test('loading prints nothing, and neither does clearing', () => {
    const pipe = new Recorder(false);
    const display = new ProgressDisplay(pipe);
    display.update({ phase: 'weights', loaded: 1, total: 2 });
    display.clear();
    expect(pipe.text).toBe('');
  });
});
