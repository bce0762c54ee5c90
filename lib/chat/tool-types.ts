/** A function that the caller offers to the model. */
export interface ToolDefinition {
  /** 1..64 of A-Z, a-z, 0-9, _ and -. */
  readonly name: string;
  readonly description?: string;
  /** JSON schema of the arguments object. Default: no arguments. */
  readonly parameters?: Readonly<Record<string, unknown>>;
  /** Nothing enforces a schema in this version: `true` gives a warning. */
  readonly strict?: boolean;
}

/** A whole call as the model wrote it. */
export interface ToolCall {
  /** Made here: what a model calls its own calls is not kept. */
  readonly id: string;
  readonly name: string;
  /** JSON text of an object. Its keys and types are the model's: nothing has checked them against the schema. */
  readonly arguments: string;
}

/** What a model's output consists of, in order. */
export type OutputPiece =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'reasoning'; readonly text: string }
  /** More of a call's arguments; the first one of a call may be empty. */
  | { readonly type: 'tool-input'; readonly id: string; readonly name: string; readonly delta: string }
  | { readonly type: 'tool-call'; readonly call: ToolCall }
  | { readonly type: 'warning'; readonly code: OutputWarning; readonly message: string };

/**
 * `malformed_tool_call`: something began as a call and is none; it is text. `incomplete_tool_call`: the answer ended inside
 * of a call; it is text. `unknown_tool`: a call of a function that was not offered.
 */
export type OutputWarning = 'malformed_tool_call' | 'incomplete_tool_call' | 'unknown_tool';
