import { expect, test } from 'vitest';
import { formatBytes, formatCount, formatFacts, formatSeconds, formatTable } from '../../../lib/cli/figures';

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 kB'],
  [98_362_432, '98.4 MB'],
  [999_499_999, '999 MB'],
  [999_600_000, '1.0 GB'],
  [18_500_000_000, '18.5 GB'],
  [5e15, '5000 TB'],
])('%d bytes are written as %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [0.0123, '12 ms'],
  [1.25, '1.3 s'],
  [59.9, '59.9 s'],
  [61, '1 min 1 s'],
  [119.7, '2 min 0 s'],
])('%d seconds are written as %s', (seconds, text) => {
  expect(formatSeconds(seconds)).toBe(text);
});

test('counts have their thousands apart', () => {
  expect(formatCount(1_234_567)).toBe('1,234,567');
});

test('a table aligns its columns, numbers to the right, without blanks at line ends', () => {
  expect(
    formatTable(
      ['NAME', 'SIZE'],
      [
        ['a', '1'],
        ['long name', '234'],
      ],
      [1],
    ),
  ).toBe('NAME       SIZE\na             1\nlong name   234');
  expect(formatTable(['A', 'B'], [['x', '']])).toBe('A  B\nx');
});

test('facts have their values in one column', () => {
  expect(
    formatFacts([
      ['a', '1'],
      ['long', '2'],
    ]),
  ).toBe('a     1\nlong  2');
});
