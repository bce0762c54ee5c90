// A child process that answers each line on its standard input with one line of JSON. Between questions it must not use the
// processor: what is measured in turn with it would suffer.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class Companion {
  #child;
  #waiting = [];
  #errors = '';

  constructor(command, args, { env = {} } = {}) {
    const name = [command, ...args].join(' ');
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    this.#child.stderr.on('data', (text) => {
      this.#errors = (this.#errors + text).slice(-2_000);
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      if (line.startsWith('{')) this.#waiting.shift()?.resolve(JSON.parse(line));
    });
    this.#child.on('close', (status, signal) => {
      const error = new Error(`${name} ended with ${status ?? signal}: ${this.#errors}`);
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    });
    this.#child.on('error', (error) => {
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    });
  }

  get pid() {
    return this.#child.pid;
  }

  /** Asks with `question` as JSON; resolves to the answer. */
  ask(question) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#child.stdin.write(`${JSON.stringify(question)}\n`);
    });
  }

  /** Resolves when the process has ended. */
  close() {
    if (this.#child.exitCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
      this.#child.once('close', resolve);
      this.#child.stdin.end();
    });
  }
}
