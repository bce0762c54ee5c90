import {
  type BinaryExpression,
  Environment,
  type FilterExpression,
  Interpreter,
  type MemberExpression,
  parse,
  type RuntimeValue,
  type Statement,
  tokenize,
} from '@huggingface/jinja';
import { AutoglmError } from '../errors';
import { PYTHON_STRIP } from './python-strip';
import { formatDate } from './strftime';
import { exceeded, TemplateBudget, TemplateLimits } from './template-budget';
import { lineOfLexerError, lineOfToken } from './template-lines';
import { pythonText } from './templates/python-text';
import { type Clock, threadClock } from './thread-clock';

/** A parsed chat template, rendered as transformers does: Jinja with trimmed blocks and the sandbox's limits. */
export class ChatTemplate {
  readonly #program: Statement;

  /** Throws `template_failed` for a template that is not Jinja, with the line where it is known. */
  constructor(source: string) {
    if (source.length > TemplateLimits.templateLength) {
      throw exceeded('templateLength', TemplateLimits.templateLength);
    }
    this.#program = parseTemplate(source);
  }

  /** Variables are plain data. Names of built-in variables throw `invalid_parameter`. */
  render(variables: Readonly<Record<string, unknown>>, clock: Clock = renderClock()): string {
    const environment = new Environment();
    for (const [name, value] of Object.entries(BUILT_IN)) environment.set(name, value);
    for (const [name, value] of Object.entries(variables)) {
      if (Object.hasOwn(BUILT_IN, name) || name === 'namespace') {
        throw new AutoglmError('invalid_parameter', `the template variable "${name}" is built in`);
      }
      environment.set(name, value);
    }
    const interpreter = new BudgetedInterpreter(environment, new TemplateBudget(clock));
    try {
      return String(interpreter.run(this.#program).value);
    } catch (cause) {
      throw templateError(cause, null);
    }
  }
}

let ownClock: Clock | null = null;

/** One per thread that renders. */
function renderClock(): Clock {
  ownClock ??= threadClock();
  return ownClock;
}

/** Kinds of nodes whose value is new, rather than a variable or a part of one. */
const MAKES_VALUES = new Set([
  'Program',
  'Set',
  'If',
  'For',
  'CallStatement',
  'FilterStatement',
  'CallExpression',
  'BinaryExpression',
  'FilterExpression',
  'MemberExpression',
  'ArrayLiteral',
  'TupleLiteral',
  'ObjectLiteral',
]);

/** Statements whose value is not printed. */
const PRINTS_NOTHING = new Set(['Set', 'Macro', 'Comment', 'Break', 'Continue']);

class BudgetedInterpreter extends Interpreter {
  readonly #budget: TemplateBudget;

  constructor(environment: Environment, budget: TemplateBudget) {
    super(environment);
    this.#budget = budget;
  }

  override evaluate(statement: Statement | undefined, environment: Environment): RuntimeValue {
    this.#budget.enter();
    let result: RuntimeValue;
    try {
      result = this.#asPython(statement, environment) ?? super.evaluate(statement, environment);
    } finally {
      this.#budget.leave(); // `break` and `continue` are exceptions, too
    }
    if (statement !== undefined && MAKES_VALUES.has(statement.type)) this.#charge(statement, result);
    return result;
  }

  /** The library prints true, null and lists as JavaScript and JSON do. */
  override evaluateBlock(statements: readonly Statement[], environment: Environment): RuntimeValue {
    let text = '';
    for (const statement of statements) {
      const value = this.evaluate(statement, environment);
      if (!PRINTS_NOTHING.has(statement.type)) text += pythonText(value);
    }
    return this.#textValue(text);
  }

  /** What the library does otherwise than Python; null for everything else. */
  #asPython(statement: Statement | undefined, environment: Environment): RuntimeValue | null {
    if (statement?.type === 'FilterExpression') {
      const { operand, filter } = statement as FilterExpression;
      if (filter.type !== 'Identifier' || filter.value !== 'string') return null;
      return this.#textValue(pythonText(this.evaluate(operand, environment)));
    }
    if (statement?.type === 'BinaryExpression') {
      const { operator, left, right } = statement as BinaryExpression;
      if (operator.value !== '~') return null;
      const first = pythonText(this.evaluate(left, environment));
      return this.#textValue(first + pythonText(this.evaluate(right, environment)));
    }
    return this.#stripMethod(statement, environment);
  }

  #textValue(text: string): RuntimeValue {
    return new Environment().set('text', text);
  }

  /** The library's strip methods ignore their argument, which templates give to keep spaces while newlines go. */
  #stripMethod(statement: Statement | undefined, environment: Environment): RuntimeValue | null {
    if (statement?.type !== 'MemberExpression') return null;
    const { object, property, computed } = statement as MemberExpression;
    if (computed || !Object.hasOwn(PYTHON_STRIP, property.value)) return null;
    const { value } = this.evaluate(object, environment);
    if (typeof value !== 'string') return null;
    return new Environment().set(property.value, (characters?: unknown) =>
      PYTHON_STRIP[property.value]?.(value, typeof characters === 'string' ? characters : null),
    );
  }

  #charge(statement: Statement, { value }: RuntimeValue): void {
    if (typeof value === 'string') this.#budget.chargeText(value.length);
    // Members are parts of values that were charged when they were made.
    else if (statement.type === 'MemberExpression') return;
    else if (Array.isArray(value)) this.#budget.chargeEntries(value.length);
    else if (value instanceof Map) this.#budget.chargeEntries(value.size);
  }
}

const BUILT_IN: Readonly<Record<string, unknown>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  raise_exception: (message: unknown) => {
    throw new AutoglmError('template_failed', `the chat template refuses the conversation: ${cut(message)}`, {
      hint: 'Change the roles or the order of the messages as the message says.',
    });
  },
  range,
  strftime_now: (format: unknown) => formatDate(new Date(), String(format)),
};

function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const count = Math.max(0, Math.ceil((stop - start) / step));
  if (!Number.isFinite(count)) throw new Error('range() needs whole numbers and a step that is not 0');
  if (count > TemplateLimits.rangeLength) throw exceeded('rangeLength', TemplateLimits.rangeLength);
  return Array.from({ length: count }, (_, i) => start + i * step);
}

function parseTemplate(source: string): Statement {
  let tokens: ReturnType<typeof tokenize>;
  try {
    tokens = tokenize(source, { trim_blocks: true, lstrip_blocks: true });
  } catch (cause) {
    throw templateError(cause, lineOfLexerError(source));
  }
  // The parser keeps no positions; the furthest token it looked at is where it gave up.
  let furthest = 0;
  const watched = new Proxy(tokens, {
    get(target, key) {
      if (typeof key === 'string' && /^\d+$/.test(key)) furthest = Math.max(furthest, Number(key));
      return Reflect.get(target, key);
    },
  });
  try {
    return parse(watched);
  } catch (cause) {
    throw templateError(cause, lineOfToken(source, tokens, furthest));
  }
}

function templateError(cause: unknown, line: number | null): AutoglmError {
  if (AutoglmError.is(cause)) return cause;
  const message = cause instanceof Error ? cause.message : String(cause);
  if (cause instanceof RangeError && /call stack/i.test(message)) {
    return exceeded('depth', TemplateLimits.depth);
  }
  const place = line === null ? '' : `, line ${line}`;
  return new AutoglmError('template_failed', `the chat template${place}: ${cut(message)}`, {
    hint: 'Give another template with chatTemplate, or send a prompt instead of messages.',
    details: { line },
    cause,
  });
}

const MAX_MESSAGE_LENGTH = 500;

function cut(message: unknown): string {
  const text = String(message);
  return text.length > MAX_MESSAGE_LENGTH ? `${text.slice(0, MAX_MESSAGE_LENGTH)}...` : text;
}
