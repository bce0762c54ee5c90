const CODE = /\{%[\s\S]*?%\}|\{\{[\s\S]*?\}\}/g;

/** Whether a Jinja source looks at the variable: as such, not as a member of another one, and not in its text. */
export function usesVariable(source: string, name: string): boolean {
  const pattern = new RegExp(`(?<![\\w.'"\\[])${name}\\b(?!\\s*=[^=])`);
  return (source.match(CODE) ?? []).some((block) => pattern.test(withoutStrings(block)));
}

function withoutStrings(block: string): string {
  return block.replace(/'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"/gs, "''");
}
