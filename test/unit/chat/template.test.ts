import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { PromptRenderer } from '../../../lib/chat/prompt';
import { formatDate } from '../../../lib/chat/strftime';
import { ChatTemplate } from '../../../lib/chat/template';

type Message = Readonly<Record<string, unknown>>;

interface Vectors {
  readonly conversations: readonly {
    readonly messages: readonly Message[];
    readonly tools?: readonly Message[];
    readonly options?: Readonly<Record<string, unknown>>;
    readonly add_generation_prompt?: boolean;
  }[];
  readonly templates: Readonly<
    Record<
      string,
      { readonly source: string; readonly rendered: readonly { text?: string; error?: string }[] }
    >
  >;
}

/** Made by test/fixtures/templates/make_template_vectors.py. */
const vectors = JSON.parse(
  readFileSync(join(__dirname, '../../fixtures/templates/template-vectors.json'), 'utf8'),
) as Vectors;

const cases = Object.entries(vectors.templates).flatMap(([name, { source, rendered }]) =>
  rendered.map((expected, i) => ({ name, source, expected, i })),
);

test.each(cases)('template $name renders conversation $i as Jinja2 does', ({ source, expected, i }) => {
  const { messages, tools, options, add_generation_prompt } = vectors.conversations[
    i
  ] as (typeof vectors.conversations)[0];
  const renderer = new PromptRenderer({
    templates: { default: source, named: {} },
    markup: [],
    bosToken: '<s>',
    eosToken: '</s>',
  });
  const render = () =>
    renderer.render({
      messages,
      tools: tools ?? null,
      templateOptions: options ?? {},
      addGenerationPrompt: add_generation_prompt ?? true,
    }).text;
  if (expected.text !== undefined) expect(render()).toBe(expected.text);
  else {
    expect(render).toThrowError(
      expect.objectContaining({
        code: 'template_failed',
        message: `the chat template refuses the conversation: ${expected.error}`,
      }),
    );
  }
});

/** So that a slow machine changes nothing. */
const STANDING_CLOCK = () => 0;

const render = (source: string, variables: Readonly<Record<string, unknown>> = {}) =>
  new ChatTemplate(source).render(variables, STANDING_CLOCK);

describe('a template that is wrong', () => {
  test.each([
    ['text\n{% foo %}', 2, 'foo'],
    ['a\n\n{{ x ? }}', 3, '\\?'],
    ['{% if x %}\n{% for %}', 2, 'CloseStatement'],
    ['a\n{{ x }', 2, ''],
    ['{% if a %}\n', 1, ''],
    ['line\n{{ "open }}', 2, ''],
  ])('%j is refused, naming line %d', (source, line, word) => {
    expect(() => new ChatTemplate(source)).toThrowError(
      expect.objectContaining({
        code: 'template_failed',
        message: expect.stringMatching(new RegExp(`^the chat template, line ${line}: .*${word}`)),
      }),
    );
  });

  test.each([
    '{{ 1 | nosuch }}',
    '{{ x.y.z() }}',
    '{{ "a" - 1 }}',
    '{% for x in 5 %}{% endfor %}',
    '{{ range(1, 2, 0) }}',
  ])('%s fails when rendered', (source) => {
    expect(() => render(source)).toThrowError(expect.objectContaining({ code: 'template_failed' }));
  });

  test('long reasons are cut', () => {
    expect(() => render('{{ raise_exception("x" ~ text) }}', { text: 'y'.repeat(10_000) })).toThrowError(
      expect.objectContaining({ message: expect.stringMatching(/^.{500,600}$/s) }),
    );
  });
});

describe('a template that costs too much', () => {
  const limited = (limit: string) =>
    expect.objectContaining({
      code: 'template_budget_exceeded',
      details: expect.objectContaining({ limit }),
    });

  test.each([
    ['rangeLength', '{{ range(100000000) }}'],
    ['rangeLength', '{{ range(100001) }}'],
    ['depth', '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'],
    ['depth', `{{ ${'('.repeat(50_000)}1${')'.repeat(50_000)} }}`],
    [
      'outputLength',
      '{% set ns = namespace(x="aaaaaaaa") %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}',
    ],
    [
      'memory',
      '{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}',
    ],
    ['templateLength', ' '.repeat(262_145)],
  ])('is stopped by the limit %s: %.60s', (limit, source) => {
    expect(() => render(source)).toThrowError(limited(limit));
  });

  test('is stopped after 100 ms of work', () => {
    let now = 0;
    const clock = () => {
      now += 1;
      return now;
    };
    const source = '{% for i in range(100000) %}{% for j in range(1000) %}x{% endfor %}{% endfor %}';
    expect(() => new ChatTemplate(source).render({}, clock)).toThrowError(limited('timeMs'));
  });

  test('is not stopped because the machine let the thread wait', () => {
    let now = 0;
    const clock = () => {
      now += now === 0 ? 0.001 : 5_000;
      return now;
    };
    const source = '{% for i in range(40) %}x{% endfor %}';
    expect(new ChatTemplate(source).render({}, clock)).toBe('x'.repeat(40));
  });

  test('is stopped after a million steps, whatever the clock says', () => {
    const source = `{% for i in range(100000) %}${'x{# #}'.repeat(10)}{% endfor %}`;
    expect(() => render(source)).toThrowError(limited('steps'));
  });

  test.each([
    ['a range of 100000', '{{ range(100000) | length }}', '100000'],
    ['4 MiB of output', '{{ text }}', 'y'.repeat(4_194_304)],
    [
      'thousands of loops left early',
      '{% for i in range(800) %}{% if true %}{% continue %}{% endif %}{% endfor %}ok',
      'ok',
    ],
  ])('is not stopped at the limit: %s', (_, source, expected) => {
    expect(render(source, { text: 'y'.repeat(4_194_304) }) === expected).toBe(true);
  });
});

describe('what a template cannot reach', () => {
  test.each([
    '{{ x.constructor }}',
    '{{ x.__proto__ }}',
    '{{ x.hasOwnProperty }}',
    '{{ list.constructor }}',
    '{{ list.push }}',
    '{{ "text".constructor }}',
    '{{ "text".__class__ }}',
    '{{ range.constructor }}',
    '{{ range.__globals__ }}',
    '{{ messages.__class__.__mro__ if messages }}',
    '{{ process }}{{ require }}{{ globalThis }}{{ self }}',
  ])('%s is nothing', (source) => {
    expect(render(source, { x: { a: 1 }, list: [1] })).toBe('');
  });

  test('keys named like properties of objects are data', () => {
    const x = JSON.parse('{"__proto__": "p", "constructor": "c"}') as unknown;
    expect(render('{{ x.__proto__ }}{{ x["constructor"] }}', { x })).toBe('pc');
    expect(Object.hasOwn(Object.prototype, 'p')).toBe(false);
  });

  test.each(['range', 'raise_exception', 'true', 'namespace'])(
    'the built-in %s cannot be replaced',
    (name) => {
      expect(() => render('x', { [name]: 1 })).toThrowError(
        expect.objectContaining({ code: 'invalid_parameter' }),
      );
    },
  );
});

// Source: python3 -c "import datetime as d; print(d.datetime(2026,1,5,0,7,9).strftime('...'))"
test.each([
  ['%d %b %Y', '05 Jan 2026'],
  ['%A, %B %d, %Y %H:%M:%S', 'Monday, January 05, 2026 00:07:09'],
  ['%I:%M %p %y-%m %a 100%%', '12:07 AM 26-01 Mon 100%'],
  ['%Q %', '%Q %'],
])('the date in the form %s is %s', (format, expected) => {
  expect(formatDate(new Date(2026, 0, 5, 0, 7, 9), format)).toBe(expected);
});
