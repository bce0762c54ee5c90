// The package's own declarations are marked as an ES module, which a CommonJS file may not import, though its code has
// both forms. This is the part of its surface that is used.
declare module '@huggingface/jinja' {
  export interface Token {
    readonly value: string;
    readonly type: string;
  }
  export interface Statement {
    readonly type: string;
  }
  export interface MemberExpression extends Statement {
    readonly object: Statement;
    readonly property: Statement & { readonly value: string };
    readonly computed: boolean;
  }
  export interface FilterExpression extends Statement {
    readonly operand: Statement;
    readonly filter: Statement & { readonly value?: unknown };
  }
  export interface BinaryExpression extends Statement {
    readonly operator: { readonly value: string };
    readonly left: Statement;
    readonly right: Statement;
  }
  export interface RuntimeValue {
    readonly type: string;
    readonly value: unknown;
  }
  export class Environment {
    /** Declares a variable; a name may be declared once. Functions become callables. */
    set(name: string, value: unknown): RuntimeValue;
  }
  export class Interpreter {
    constructor(environment: Environment);
    run(program: Statement): RuntimeValue;
    evaluate(statement: Statement | undefined, environment: Environment): RuntimeValue;
    evaluateBlock(statements: readonly Statement[], environment: Environment): RuntimeValue;
  }
  export function tokenize(
    source: string,
    options: { readonly trim_blocks: boolean; readonly lstrip_blocks: boolean },
  ): Token[];
  export function parse(tokens: Token[]): Statement;
}
