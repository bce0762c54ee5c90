import { expect, test } from 'vitest';
import { StopMatcher } from '../../../lib/tokenizer/stop-matcher';
import { seededRandom } from './vectors';

function run(stops: readonly string[], parts: readonly string[]): { text: string; stop: string | null } {
  const matcher = new StopMatcher(stops);
  let text = '';
  for (const part of parts) {
    const match = matcher.push(part);
    text += match.text;
    if (match.stop !== null) return { text, stop: match.stop };
  }
  return { text: text + matcher.end(), stop: null };
}

/** The rule, spelled out: the first place where a stop string is complete; there, the longest one. */
function expected(stops: readonly string[], text: string): { text: string; stop: string | null } {
  for (let end = 1; end <= text.length; end += 1) {
    const [stop] = stops
      .filter((candidate) => text.slice(0, end).endsWith(candidate))
      .sort((a, b) => b.length - a.length);
    if (stop !== undefined) return { text: text.slice(0, end - stop.length), stop };
  }
  return { text, stop: null };
}

test.each([
  [['\n\n'], 'one\n\ntwo', { text: 'one', stop: '\n\n' }],
  [['User:', '\n\nUser:'], 'hi\n\nUser: x', { text: 'hi', stop: '\n\nUser:' }],
  [['abc', 'b'], 'xabc', { text: 'xa', stop: 'b' }],
  [['aab'], 'aaab', { text: 'a', stop: 'aab' }],
  [['🙂!'], 'a🙂🙂!', { text: 'a🙂', stop: '🙂!' }],
  [['never'], 'neve', { text: 'neve', stop: null }],
  [[], 'text', { text: 'text', stop: null }],
])('stops %j in %j', (stops, text, result) => {
  expect(expected(stops, text)).toEqual(result);
  expect(run(stops, [text])).toEqual(result);
});

// Goal: where text is cut does not matter. Method: a small alphabet, so that stop strings overlap themselves and others.
test('random stop strings are found as the rule says, at every cut', () => {
  const random = seededRandom(5);
  const word = (length: number) => Array.from({ length }, () => 'abc'[Math.floor(random() * 3)]).join('');
  for (let round = 0; round < 400; round += 1) {
    const stops = Array.from({ length: 1 + Math.floor(random() * 4) }, () =>
      word(1 + Math.floor(random() * 5)),
    );
    const text = word(Math.floor(random() * 24));
    const result = expected(stops, text);
    const name = `round ${round}: ${JSON.stringify(stops)} in ${text}`;
    expect(run(stops, [...text]), name).toEqual(result);
    for (let cut = 0; cut <= text.length; cut += 1) {
      expect(run(stops, [text.slice(0, cut), text.slice(cut)]), `${name} cut at ${cut}`).toEqual(result);
    }
  }
});

test('only what may begin a stop string is held back', () => {
  const matcher = new StopMatcher(['</end>']);
  expect(matcher.push('text <').text).toBe('text ');
  expect(matcher.push('/e').text).toBe('');
  expect(matcher.push('lse').text).toBe('</else');
});

test('after a stop nothing more comes', () => {
  const matcher = new StopMatcher(['x']);
  expect(matcher.push('axb')).toEqual({ text: 'a', stop: 'x' });
  expect(matcher.push('c')).toEqual({ text: '', stop: null });
  expect(matcher.end()).toBe('');
});

test('an empty stop string is refused', () => {
  expect(() => new StopMatcher(['a', ''])).toThrowError(
    expect.objectContaining({ code: 'invalid_parameter' }),
  );
});
