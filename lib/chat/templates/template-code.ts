const CODE = /\{%[\s\S]*?%\}|\{\{[\s\S]*?\}\}/g;

/**
 * Whether a Jinja source looks at the variable: as such, not as a member of another one, and not in its text. A name that
 * the template itself gives to a member of something is another variable.
 */
export function usesVariable(source: string, name: string): boolean {
  const isOwn = new RegExp(
    `\\bset\\s+${name}\\s*=\\s*\\w+\\s*(?:\\.\\s*${name}\\b|\\[\\s*['"]${name}['"]\\s*\\])`,
  );
  if (isOwn.test(source)) return false;
  const pattern = new RegExp(`(?<![\\w.'"\\[])${name}\\b(?!\\s*=[^=])`);
  return (source.match(CODE) ?? []).some((block) => pattern.test(withoutStrings(block)));
}

function withoutStrings(block: string): string {
  return block.replace(/'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"/gs, "''");
}
