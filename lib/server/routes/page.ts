import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface PageFile {
  readonly path: string;
  readonly contentType: string;
  readonly text: string;
}

const FILES = [
  { path: '/', file: 'index.html', contentType: 'text/html; charset=utf-8' },
  { path: '/page/app.js', file: 'app.js', contentType: 'text/javascript; charset=utf-8' },
  { path: '/page/style.css', file: 'style.css', contentType: 'text/css; charset=utf-8' },
] as const;

/** The page's own scripts and styles and calls to this server; nothing else, from nowhere else. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'cross-origin-opener-policy': 'same-origin',
  'x-frame-options': 'DENY',
  'cache-control': 'no-cache',
};

/** The chat page, read once: three files next to this folder, in lib/ and in dist/ alike. */
export function readPage(): readonly PageFile[] {
  return FILES.map(({ path, file, contentType }) => ({
    path,
    contentType,
    text: readFileSync(join(__dirname, '..', 'page', file), 'utf8'),
  }));
}
