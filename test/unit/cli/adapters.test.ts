import { InvalidArgumentError } from 'commander';
import { expect, test } from 'vitest';
import { checkAdapterBases, collectAdapter } from '../../../lib/cli/adapters';

test.each([
  ['sql=./a', { model: null, name: 'sql', source: './a' }],
  ['sql=hf:org/a:x.gguf', { model: null, name: 'sql', source: 'hf:org/a:x.gguf' }],
  ['sql=./a=b', { model: null, name: 'sql', source: './a=b' }],
  ['tiny:sql=./a', { model: 'tiny', name: 'sql', source: './a' }],
  ['name:file:sql=./a', { model: 'name:file', name: 'sql', source: './a' }],
])('%s', (text, expected) => {
  expect(collectAdapter(text)).toEqual([expected]);
});

test.each(['', 'sql', './a', '=./a', 'sql=', ':sql=./a', 'tiny:=./a'])('"%s" is no adapter', (text) => {
  expect(() => collectAdapter(text)).toThrow(InvalidArgumentError);
});

test('a name is given once per model', () => {
  const list = ['a:sql=./a', 'b:sql=./b', 'a:poems=./c'].reduce(
    (each, text) => collectAdapter(text, each),
    collectAdapter('sql=./a'),
  );
  expect(list.map(({ source }) => source)).toEqual(['./a', './a', './b', './c']);
  expect(() => collectAdapter('b:sql=./d', list)).toThrow('"b:sql" is taken');
  expect(() => collectAdapter('sql=./d', list)).toThrow('"sql" is taken');
});

test('beside several models a name says whose it is', () => {
  expect(() => checkAdapterBases(collectAdapter('sql=./a'), 1)).not.toThrow();
  expect(() => checkAdapterBases(collectAdapter('b:sql=./a'), 2)).not.toThrow();
  expect(() => checkAdapterBases([], 2)).not.toThrow();
  const mixed = collectAdapter('sql=./a', collectAdapter('b:sql=./a'));
  expect(() => checkAdapterBases(mixed, 2)).toThrow(
    expect.objectContaining({ code: 'invalid_parameter', hint: expect.stringContaining('MODEL:sql=./a') }),
  );
});
