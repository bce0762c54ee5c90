import type { ToolDefinition } from '../tool-types';

type JsonType = 'string' | 'number' | 'integer' | 'boolean' | 'object' | 'array' | 'null';

/** What a schema lets a value be; null for anything. */
export type AllowedTypes = ReadonlySet<JsonType> | null;

type Schema = Readonly<Record<string, unknown>>;

/** References and alternatives inside each other; schemas come from callers. */
const MAX_DEPTH = 16;

const isSchema = (value: unknown): value is Schema =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The types of one parameter of a tool; anything for a parameter that the schema does not name. */
export function parameterTypes(tool: ToolDefinition | undefined, parameter: string): AllowedTypes {
  const root = tool?.parameters;
  if (root === undefined || !isSchema(root.properties)) return null;
  if (!Object.hasOwn(root.properties, parameter)) return null;
  return typesOf(root.properties[parameter], root, 0);
}

function typesOf(schema: unknown, root: Schema, depth: number): AllowedTypes {
  if (!isSchema(schema) || depth > MAX_DEPTH) return null;
  if (typeof schema.$ref === 'string') return typesOf(resolve(schema.$ref, root), root, depth + 1);
  const { type, enum: values, anyOf, oneOf, allOf } = schema;
  const isNullable = schema.nullable === true ? ['null'] : [];
  if (typeof type === 'string') return new Set([type, ...isNullable]) as AllowedTypes;
  if (Array.isArray(type)) return new Set([...type, ...isNullable]) as AllowedTypes;
  if (Array.isArray(values)) return new Set(values.map(typeOf));
  if (Object.hasOwn(schema, 'const')) return new Set([typeOf(schema.const)]);
  const alternatives = anyOf ?? oneOf;
  if (Array.isArray(alternatives)) {
    const types = alternatives.map((alternative) => typesOf(alternative, root, depth + 1));
    return types.includes(null) ? null : new Set(types.flatMap((set) => [...(set as Set<JsonType>)]));
  }
  if (!Array.isArray(allOf)) return null;
  return allOf.map((part) => typesOf(part, root, depth + 1)).find((types) => types !== null) ?? null;
}

/** A reference within the schema, such as #/$defs/city. */
function resolve(reference: string, root: Schema): unknown {
  if (!reference.startsWith('#/')) return undefined;
  let found: unknown = root;
  for (const part of reference.slice(2).split('/')) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~');
    if (!isSchema(found) || !Object.hasOwn(found, key)) return undefined;
    found = found[key];
  }
  return found;
}

function typeOf(value: unknown): JsonType {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value as JsonType;
}

export function allows(types: AllowedTypes, value: unknown): boolean {
  if (types === null) return true;
  const type = typeOf(value);
  return types.has(type) || (type === 'number' && Number.isInteger(value) && types.has('integer'));
}

export const isTextOnly = (types: AllowedTypes): boolean => types?.size === 1 && types.has('string');
