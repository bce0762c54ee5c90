import { describe, expect, test } from 'vitest';
import { scanJson } from '../../../lib/server/guard/json-scan';

const budget = { maxDepth: 4, maxElements: 10 };
const scan = (text: string) => () => scanJson(text, budget);

describe('depth', () => {
  test('is allowed up to the limit and refused one beyond it', () => {
    expect(scan('[[[1]]]')).not.toThrow();
    expect(scan('[[[{"a":1}]]]')).not.toThrow();
    expect(scan('[[[[[1]]]]]')).toThrow(/deeper than 4/);
  });

  test('does not count brackets in strings, nor closed ones', () => {
    expect(scan('["[[[[[[", "\\"[[[[[[", "\\\\"]')).not.toThrow();
    expect(scan('[[],[],[],[]]')).not.toThrow();
  });

  test('of a hundred thousand is refused without reading on', () => {
    expect(scan('['.repeat(100_000))).toThrow(/deeper than 4/);
  });
});

describe('number of values', () => {
  test('is allowed up to the limit and refused one beyond it', () => {
    expect(scan('[1,2,3,4,5,6,7,8]')).not.toThrow(); // 8 values and the array
    expect(scan('[1,2,3,4,5,6,7,8,9]')).not.toThrow();
    expect(scan('[1,2,3,4,5,6,7,8,9,10]')).toThrow(/more than 10 JSON values/);
    expect(scan('{"a":[1,2,3],"b":[4,5,6],"c":7}')).not.toThrow();
    expect(scan('{"a":[1,2,3],"b":[4,5,6],"c":[7]}')).toThrow(/more than 10/);
  });

  test('does not count commas in strings', () => {
    expect(scan(`["${','.repeat(100)}"]`)).not.toThrow();
  });
});

describe('keys', () => {
  test('given twice in one object are refused, also when one of them is escaped', () => {
    expect(scan('{"a":1,"a":2}')).toThrow(/"a" is given twice/);
    expect(scan('{"a":1,"\\u0061":2}')).toThrow(/"a" is given twice/);
    expect(scan('{"b":{"a":1},"a":{"a":2},"c":["a","a"]}')).not.toThrow();
  });

  test('after a nested object are still compared with those before it', () => {
    expect(scan('{"a":{"x":1},"a":2}')).toThrow(/given twice/);
    expect(scan('{"a":[{"x":1},{"x":2}],"a":2}')).toThrow(/given twice/);
  });

  test('named __proto__ are refused wherever they are', () => {
    expect(scan('{"__proto__":{}}')).toThrow(/__proto__/);
    expect(scan('[{"a":{"\\u005f_proto__":1}}]')).toThrow(/__proto__/);
    expect(scan('{"a":"__proto__"}')).not.toThrow();
  });
});

test('objects have at most 4,096 keys', () => {
  const keys = (count: number): string =>
    `{${Array.from({ length: count }, (_, i) => `"k${i}":1`).join(',')}}`;
  const wide = { maxDepth: 4, maxElements: 100_000 };
  expect(() => scanJson(keys(4_096), wide)).not.toThrow();
  expect(() => scanJson(keys(4_097), wide)).toThrow(/more than 4096 keys/);
});

test('strings end at their own quote, whatever backslashes are before it', () => {
  for (const key of ['\\', '"', 'a\\', '\\"', '""', 'x"y\\', '\\\\"[[[[[', '\n"']) {
    const literal = JSON.stringify(key);
    expect(scan(`{${literal}:1,${literal}:2}`), literal).toThrow(/given twice/);
    expect(scan(`{${literal}:"[[[[[[","b":"[[[[[["}`), literal).not.toThrow();
  }
});

test('text that is not JSON is left to JSON.parse', () => {
  for (const text of ['', '"', '{"', '}', ']]]', '{"a\\', '{"\\uZZ":1}', 'nonsense'])
    expect(scan(text)).not.toThrow();
});
