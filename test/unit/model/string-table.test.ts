import { expect, test } from 'vitest';
import { decodeStrings, findInvalidString, type StringTable } from '../../../lib/model/string-table';

function tableOf(strings: readonly (string | Uint8Array)[]): StringTable {
  const parts = strings.map((string) => Buffer.from(string as string));
  let end = 0;
  const ends = Uint32Array.from(parts, (part) => {
    end += part.length;
    return end;
  });
  return { bytes: new Uint8Array(Buffer.concat(parts)), ends };
}

test('strings of one to four bytes per character come back as they were', () => {
  const strings = ['', 'a', 'Ġthe', '你好', '😀', '', '\u0000', '\ufeffmark', 'e\u0301', '🏳️‍🌈 flag', ''];
  expect(decodeStrings(tableOf(strings))).toEqual(strings);
  expect(findInvalidString(tableOf(strings))).toBe(-1);
  expect(decodeStrings(tableOf([]))).toEqual([]);
});

test('the first string that is no UTF-8 is found, also when a character runs into the next string', () => {
  const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
  expect(findInvalidString(tableOf(['a', bytes(0xff), 'b']))).toBe(1);
  expect(findInvalidString(tableOf(['ä', bytes(0xe4, 0xbd), bytes(0xa0)]))).toBe(1);
  expect(findInvalidString(tableOf([bytes(0xf0, 0x9f), bytes(0x98, 0x80)]))).toBe(0);
  expect(findInvalidString(tableOf(['fine', bytes(0xc3)]))).toBe(1);
});
