import { homedir } from 'node:os';
import { join } from 'node:path';

// Read at each call, not at import: a host may set the environment after it has loaded this package.

/** Root of everything but Hugging Face files: OPEN_AUTOGLM_CACHE, else the platform's cache folder. */
export function cacheFolder(): string {
  const explicit = process.env.OPEN_AUTOGLM_CACHE;
  if (explicit) return explicit;
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'open-autoglm');
  if (process.platform === 'win32') {
    return join(process.env.LOCALAPPDATA || join(homedir(), 'AppData', 'Local'), 'open-autoglm', 'Cache');
  }
  return join(userCacheFolder(), 'open-autoglm');
}

/** The folder that Hugging Face's own tools use: HF_HUB_CACHE, else $HF_HOME/hub. */
export function hubCacheFolder(): string {
  const explicit = process.env.HF_HUB_CACHE || process.env.HUGGINGFACE_HUB_CACHE;
  return explicit || join(hubHomeFolder(), 'hub');
}

/** Where Hugging Face's tools keep the login token and, by default, the cache. */
export function hubHomeFolder(): string {
  return process.env.HF_HOME || join(userCacheFolder(), 'huggingface');
}

function userCacheFolder(): string {
  return process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
}

/** True when HF_HUB_OFFLINE forbids the network, with the spellings its own tools accept. */
export function isOfflineByEnvironment(): boolean {
  return /^(1|on|yes|true)$/i.test(process.env.HF_HUB_OFFLINE ?? '');
}
