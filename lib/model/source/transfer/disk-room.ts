import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { diskFull } from './local-fault';

/** Refuses at once what cannot fit; a disk that fills up later is met when it happens. */
export async function requireRoom(path: string, bytes: number): Promise<void> {
  const folder = dirname(path);
  // Some file systems cannot say; then the writes themselves find out.
  const stats = await statfs(folder).catch(() => null);
  if (stats === null || stats.blocks === 0) return;
  const free = stats.bavail * stats.bsize;
  if (bytes > free) throw diskFull(folder, { needed: bytes, free });
}
