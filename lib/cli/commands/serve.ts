import type { Logger } from '../../engine/types';
import { closeOnSignals, type ServeOptions, serve as startServer } from '../../server/index';
import { parseSettings } from '../../server/options';
import { listNamed } from '../../server/routes/models';
import { checkAdapterBases } from '../adapters';
import { Interrupt } from '../interrupt';
import { openModels } from '../open-model';
import type { ModelFlags } from '../options';
import { colors, note, terminalLogger } from '../terminal';

export interface ServeFlags extends ModelFlags {
  readonly host?: string;
  readonly port?: number;
  readonly apiKey?: readonly string[];
  readonly allowHost?: readonly string[];
  readonly corsOrigin?: readonly string[];
  readonly page: boolean;
  readonly json?: boolean;
}

/** Serves models over HTTP until SIGINT or SIGTERM, then lets running answers end. */
export async function serve(sources: readonly string[], flags: ServeFlags): Promise<number> {
  const options = serverOptions(flags);
  // A wrong setting is told before models are fetched and loaded.
  parseSettings(options, options.host);
  checkAdapterBases(flags.adapter ?? [], sources.length);
  const interrupt = new Interrupt();
  const { engine } = await openModels(sources, flags, interrupt.signal).finally(() => interrupt.stop());
  try {
    const server = await startServer(engine, options);
    const names = listNamed(engine)
      .map(({ id }) => id)
      .join(', ');
    note(`${colors.green('listening')} on ${server.url} (${names})`);
    if (flags.page) note(colors.dim(`chat page ${server.url}/, API ${server.url}/v1`));
    await new Promise<void>((resolve) => {
      closeOnSignals(server, resolve);
      for (const signal of ['SIGINT', 'SIGTERM'] as const) {
        process.once(signal, () => note('stopping; running answers may end (once more ends them)'));
      }
    });
    return 0;
  } finally {
    await engine.close();
  }
}

function serverOptions(flags: ServeFlags): ServeOptions & { readonly host: string } {
  const key = process.env.OPEN_AUTOGLM_API_KEY;
  return {
    apiKeys: [...(flags.apiKey ?? []), ...(key === undefined || key === '' ? [] : [key])],
    host: flags.host ?? '127.0.0.1',
    page: flags.page,
    logger: serverLogger(flags),
    ...(flags.port === undefined ? {} : { port: flags.port }),
    ...(flags.allowHost === undefined ? {} : { allowedHosts: flags.allowHost }),
    ...(flags.corsOrigin === undefined ? {} : { corsOrigins: flags.corsOrigin }),
  };
}

/** One line per request, or with --json one JSON object per line, for log collectors. */
function serverLogger(flags: ServeFlags): Logger {
  if (flags.json !== true) return terminalLogger(flags.quiet !== true);
  return (record) => note(JSON.stringify({ time: new Date().toISOString(), ...record }));
}
