import { exceeded, TemplateLimits } from './template-budget';

/**
 * Makes the few built-in functions with which a small template can ask for gigabytes refuse to. V8 ends the whole process
 * when one allocation passes a thread's heap limit by far, so the result's size is checked before it is made.
 * For a thread that does nothing but render templates: it changes the built-ins of the realm it runs in.
 */
export function limitAllocations(): void {
  const maxLength: number = TemplateLimits.outputLength;
  const tooLong = () => exceeded('outputLength', maxLength);

  // Filters join, indent and tojson. Elements are joined one by one, so that the text never passes the limit by more
  // than one of them.
  Array.prototype.join = function (this: unknown[], separator: string = ','): string {
    let text = '';
    for (let i = 0; i < this.length; i += 1) {
      text += (i === 0 ? '' : separator) + String(this[i] ?? '');
      if (text.length > maxLength) throw tooLong();
    }
    return text;
  };

  type Replacer = (match: string, ...rest: unknown[]) => string;
  // One signature each; the declared overloads cannot be called with a union.
  const { repeat, replaceAll, split } = String.prototype as unknown as {
    repeat(count: number): string;
    replaceAll(pattern: string | RegExp, replacement: string | Replacer): string;
    split(separator: string | RegExp, limit?: number): string[];
  };

  String.prototype.repeat = function (count: number): string {
    if (this.length * count > maxLength) throw tooLong();
    return repeat.call(this, count);
  };

  // Method replace of Jinja's strings: one callback per place.
  String.prototype.replaceAll = function (pattern: string | RegExp, replacement: string | Replacer): string {
    if (typeof replacement === 'string') return replaceAll.call(this, pattern, replacement);
    let length = this.length;
    return replaceAll.call(this, pattern, (match, ...rest) => {
      const text = replacement(match, ...rest);
      length += text.length - match.length;
      if (length > maxLength) throw tooLong();
      return text;
    });
  };

  String.prototype.split = function (this: string, separator: string | RegExp, limit?: number): string[] {
    const parts = split.call(this, separator, limit);
    if (parts.length > MAX_PARTS) throw exceeded('memory', MAX_PARTS);
    return parts;
  } as typeof String.prototype.split;
}

/** Parts of a split text: each becomes an object of some hundred bytes. */
const MAX_PARTS = 262_144;
