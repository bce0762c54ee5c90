import { AutoglmError } from '../errors';

/** More than any context holds; a wrong pipe must not fill the memory. */
const MAX_INPUT_BYTES = 64 << 20;

/** The text piped into the program; without a pipe it is missing. One newline at its end does not count. */
export async function readStandardInput(what: string): Promise<string> {
  if (process.stdin.isTTY) {
    throw new AutoglmError('invalid_parameter', `${what} is missing`, {
      hint: 'Write it behind the model, or pipe it in.',
    });
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_INPUT_BYTES) {
      throw new AutoglmError('invalid_parameter', `${what} exceeds ${MAX_INPUT_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks)
    .toString('utf8')
    .replace(/\r?\n$/, '');
  if (text === '') throw new AutoglmError('invalid_parameter', `${what} is empty`);
  return text;
}
