import { describe, expect, test } from 'vitest';
import { ConfigSection } from '../../../lib/model/config-section';
import { JsonConfig, parseJsonObject } from '../../../lib/model/json-config';

const config = new JsonConfig(
  'config.json',
  parseJsonObject(
    'config.json',
    '{"n":3,"x":0.5,"big":1e400,"s":"text","yes":true,"nil":null,"list":[1,2],"words":["a"],"in":{"n":4}}',
  ),
);

test('values come back by type, also from inside objects', () => {
  expect(config.integer('n', 1, 10)).toBe(3);
  expect(config.integer('in.n', 1, 10)).toBe(4);
  expect(config.number('x')).toBe(0.5);
  expect(config.string('s')).toBe('text');
  expect(config.boolean('yes')).toBe(true);
  expect(config.numbers('list')).toEqual([1, 2]);
  expect(config.strings('words')).toEqual(['a']);
  expect([config.isList('list'), config.isList('n')]).toEqual([true, false]);
});

test('absent keys and null are both null', () => {
  for (const key of [
    'nil',
    'none',
    'in.none',
    'n.deeper',
    'in.n.deeper',
    'toString',
    '__proto__',
    'constructor.name',
  ]) {
    expect(config.has(key), key).toBe(false);
    expect([config.number(key), config.string(key), config.numbers(key)], key).toEqual([null, null, null]);
  }
});

describe('a value of another type or outside its range names the key, the rule and the value', () => {
  const cases: readonly (readonly [string, () => unknown, RegExp])[] = [
    ['too small', () => config.integer('n', 4, 10), /"n".*4\.\.10, found 3/],
    ['too large', () => config.integer('n', 1, 2), /1\.\.2, found 3/],
    ['a fraction', () => config.integer('x', 0, 1), /whole number.*0\.5/],
    ['text', () => config.number('s'), /finite number, found the string "text"/],
    ['infinite', () => config.number('big'), /finite number, found Infinity/],
    ['a number', () => config.string('n'), /a string, found 3/],
    ['a list', () => config.boolean('list'), /true or false, found a list of 2/],
    ['an object', () => config.string('in'), /a string, found an object/],
    ['words among numbers', () => config.numbers('words'), /list of numbers/],
    ['numbers among words', () => config.strings('list'), /list of strings/],
  ];
  test.each(cases)('%s', (_name, read, message) => {
    expect(read).toThrow(
      expect.objectContaining({ code: 'invalid_model_file', message: expect.stringMatching(message) }),
    );
  });
});

test('a key that says null is stated, and yet has no value', () => {
  const stated = new JsonConfig('f', { none: null, in: { none: null } });
  expect([stated.isStated('none'), stated.isStated('in.none')]).toEqual([true, true]);
  expect([stated.isStated('other'), stated.isStated('in.other'), stated.isStated('none.x')]).toEqual([
    false,
    false,
    false,
  ]);
  expect(stated.has('none')).toBe(false);
});

test('a section reads the keys under its own, and names them whole', () => {
  const section = new ConfigSection(new JsonConfig('f', { text: { n: 3, list: [1], none: null } }), 'text');
  expect([section.integer('n', 1, 5), section.numbers('list'), section.isStated('none')]).toEqual([
    3,
    [1],
    true,
  ]);
  expect(() => section.integer('n', 4, 5)).toThrow(/key "text.n": expected a whole number in 4..5, found 3/);
});

test('brackets inside strings do not count as nesting', () => {
  const text = JSON.stringify({ text: `${'['.repeat(100)}\\"${'{'.repeat(100)}` });
  expect(parseJsonObject('f', text)).toEqual(JSON.parse(text));
  expect(() => parseJsonObject('f', `{"a":${'['.repeat(64)}${']'.repeat(64)}}`)).toThrow(/at most 64 levels/);
  expect(parseJsonObject('f', `{"a":${'['.repeat(63)}${']'.repeat(63)}}`)).toHaveProperty('a');
});
