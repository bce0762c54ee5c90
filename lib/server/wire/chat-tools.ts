import { z } from 'zod';
import type { GenerateOptions, ToolDefinition } from '../../engine/types';
import { flag, textOf } from './fields';

const MAX_TOOLS = 128;
const NAME = 'a name of 1..64 characters out of A-Z, a-z, 0-9, _ and -';
const toolName = z.string({ error: NAME }).regex(/^[\w-]{1,64}$/, { error: NAME });

const TOOL = '{"type": "function", "function": {"name": STRING, "parameters": OBJECT}}';
const tool = z.strictObject(
  {
    type: z.literal('function', { error: '"function"' }),
    function: z.strictObject(
      {
        name: toolName,
        description: textOf(0, 65_536).nullable().optional(),
        parameters: z
          .record(z.string(), z.unknown(), { error: 'an object: the JSON schema of the arguments' })
          .nullable()
          .optional(),
        strict: flag().nullable().optional().meta({
          description: 'Accepted; true adds a warning, because nothing enforces the schema yet.',
        }),
      },
      { error: TOOL },
    ),
  },
  { error: TOOL },
);

const TOOLS = `an array of at most ${MAX_TOOLS} tools`;
const CHOICE = '"auto", "none", "required" or {"type": "function", "function": {"name": STRING}}';

/** What a chat request may say about tools. */
export const toolFields = () => ({
  tools: z
    .array(tool, { error: TOOLS })
    .max(MAX_TOOLS, { error: TOOLS })
    .optional()
    .meta({ description: 'Functions the model may call. Refused for models that cannot be given any.' }),
  tool_choice: z
    .union(
      [
        z.enum(['auto', 'none', 'required']),
        z.strictObject({
          type: z.literal('function'),
          function: z.strictObject({ name: toolName }),
        }),
      ],
      { error: CHOICE },
    )
    .optional()
    .meta({
      description:
        'required and a function begin the answer with the head of a call; none leaves the tools out of the prompt. Default auto.',
    }),
  parallel_tool_calls: flag()
    .optional()
    .meta({ description: 'false ends the answer after its first call. Default true.' }),
});

type ToolRequest = z.output<z.ZodObject<ReturnType<typeof toolFields>>>;

/** The engine's options for what a request says about tools. */
export function toToolOptions({
  tools,
  tool_choice: choice,
  parallel_tool_calls: parallelToolCalls,
}: ToolRequest): Pick<GenerateOptions, 'tools' | 'toolChoice' | 'parallelToolCalls'> {
  return {
    ...(tools === undefined ? {} : { tools: tools.map(toTool) }),
    ...(choice === undefined
      ? {}
      : { toolChoice: typeof choice === 'string' ? choice : { name: choice.function.name } }),
    ...(parallelToolCalls === undefined ? {} : { parallelToolCalls }),
  };
}

function toTool({ function: declared }: z.output<typeof tool>): ToolDefinition {
  const { name, description, parameters, strict } = declared;
  return {
    name,
    ...(description === undefined || description === null ? {} : { description }),
    ...(parameters === undefined || parameters === null ? {} : { parameters }),
    ...(strict === undefined || strict === null ? {} : { strict }),
  };
}
