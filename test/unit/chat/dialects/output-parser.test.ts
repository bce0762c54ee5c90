import { describe, expect, test } from 'vitest';
import { Random } from '../../../simulation/random';
import { CASES } from './cases';
import { type Format, parseOutput, THINK } from './parse-output';

function randomPieces(characters: readonly string[], random: Random): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < characters.length; ) {
    const end = at + 1 + Math.floor(random.next() ** 3 * 12);
    pieces.push(characters.slice(at, end).join(''));
    at = end;
  }
  return pieces;
}

describe.each(CASES)('$format.dialect: $name', ({ format, output, expected }) => {
  test('is understood', () => {
    expect(parseOutput(format, [output])).toMatchObject({ warnings: [], ...expected });
  });

  // Goal: what a stream says does not depend on where it is cut.
  // Method: every cut in two, every character alone, and 20 random cuts.
  test('means the same wherever it is cut', () => {
    const whole = parseOutput(format, [output]);
    const characters = [...output];
    expect(parseOutput(format, characters), 'character by character').toEqual(whole);
    for (let i = 0; i <= characters.length; i += 1) {
      const pieces = [characters.slice(0, i).join(''), characters.slice(i).join('')];
      expect(parseOutput(format, pieces), `cut at ${i}`).toEqual(whole);
    }
    const random = new Random(characters.length);
    for (let i = 0; i < 20; i += 1) {
      const pieces = randomPieces(characters, random);
      expect(parseOutput(format, pieces), JSON.stringify(pieces)).toEqual(whole);
    }
  });
});

// Goal: no output makes a parser throw, and every character of it is somewhere in the result.
// Method: outputs put together at random from the formats' own pieces; what the result holds is counted.
describe('outputs put together at random', () => {
  const FRAGMENTS = [
    ...CASES.flatMap(({ output }) => output.match(/<[^>]*>|\[[A-Z_]+\]|\w+|\s+|[^\w\s]/gu) ?? []),
    '🙂',
    '\\u00e9"',
  ];
  const formats = [...new Map(CASES.map(({ format }) => [JSON.stringify(format), format])).values()];

  test.each(formats)('$dialect, thinking $think.open, in reasoning $beginsInReasoning', (format: Format) => {
    const random = new Random(97);
    for (let run = 0; run < 300; run += 1) {
      const output = Array.from({ length: random.int(1, 30) }, () => random.pick(FRAGMENTS)).join('');
      const whole = parseOutput(format, [output]);
      expect(parseOutput(format, randomPieces([...output], random)), output).toEqual(whole);
      if (whole.calls.length > 0 || whole.warnings.length > 0) continue;
      const shown = (whole.reasoning + whole.text).replaceAll(/\s/g, '');
      const tags = format.think === undefined ? [] : [format.think.open, format.think.close];
      let written = output.replaceAll(/\s/g, '');
      for (const tag of [...tags, '<|assistant|>']) {
        // A tag that did its work is not shown; one that did not is.
        if (!shown.includes(tag)) written = written.replaceAll(tag, '');
      }
      if (!tags.some((tag) => shown.includes(tag))) expect(shown, output).toBe(written);
    }
  });
});

describe('arguments', () => {
  test('go on as they come', () => {
    const format: Format = { dialect: 'glm4.5', think: THINK };
    const begun = '<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Pa"r';
    // The call is not whole, but what there is of it has been handed out.
    expect(parseOutput(format, [begun]).inputs).toEqual(['{"city":"Pa\\"r']);
    const json = '<tool_call>{"name": "get_weather", "arguments": {"city": "Pa';
    expect(parseOutput({ dialect: 'hermes' }, [json]).inputs).toEqual(['{"city": "Pa']);
  });
});

describe('what could cost much', () => {
  test.each([
    ['openers without end', 'glm4.5', '<tool_call>'.repeat(20_000)],
    ['calls inside of calls', 'hermes', '<tool_call>{"arguments": {"x": "'.repeat(5_000)],
    [
      'a string without end',
      'hermes',
      `<tool_call>{"name": "get_time", "arguments": {"x": "${'y'.repeat(400_000)}`,
    ],
    ['lines that begin like calls', 'llama3', '{"name": "get_'.concat('\n').repeat(10_000)],
    ['half a tag over and over', 'qwen3-coder', '<tool_cal'.repeat(30_000)],
  ] as const)('%s ends soon and loses nothing', (_, dialect, output) => {
    const { text, calls } = parseOutput({ dialect }, [output]);
    expect(calls).toEqual([]);
    expect(text).toBe(output.trimEnd() === output ? output : text);
    expect(text.replaceAll(/\s/g, '').length).toBe(output.replaceAll(/\s/g, '').length);
  });
});
