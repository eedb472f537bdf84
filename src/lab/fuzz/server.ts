/** The Redis or Valkey server of a campaign queue, through the optional packages bullmq and ioredis. */
import type * as bullmq from 'bullmq';
import type { Redis } from 'ioredis';
import { KvmscopeError } from '../../errors.ts';

export type BullMq = typeof bullmq;

export interface Server {
  readonly bullmq: BullMq;
  readonly redis: Redis;
  /** The address without its password. */
  readonly name: string;
  /** Another connection, for commands that wait. */
  another(): Redis;
  /** What `work` does, unless the server goes away for good: then KvmscopeError('engine'). */
  unlessLost<T>(work: Promise<T>): Promise<T>;
  close(): void;
}

/** Streams with NOMKSTREAM are there since this version. */
const OLDEST = [6, 2];

async function packages(): Promise<{ bullmq: BullMq; Client: typeof Redis }> {
  try {
    return { bullmq: await import('bullmq'), Client: (await import('ioredis')).Redis };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new KvmscopeError('engine', 'a queue needs the npm packages bullmq and ioredis: npm install bullmq ioredis');
  }
}

/** An address as ioredis takes it, and as it may be shown. */
function address(url: string): { target: string; name: string } {
  if (url.startsWith('unix:')) {
    const path = url.slice('unix:'.length).replace(/^\/\/(?=\/)/, '');
    if (path !== '') return { target: path, name: url };
  }
  if (/^rediss?:\/\//.test(url) && URL.canParse(url)) {
    const shown = new URL(url);
    if (shown.password !== '') shown.password = '***';
    return { target: url, name: shown.href };
  }
  const text = url.replace(/\/\/[^@/]*@/, '//***@');
  throw new KvmscopeError(
    'usage',
    `'${text}' is no server: write redis://host:6379, rediss://… or unix:/path/of/socket`,
  );
}

/** Connects; throws KvmscopeError('engine') with one line if a package or the server is missing. `patience`: milliseconds without server. */
export async function connectServer(url: string, patience: number): Promise<Server> {
  const { target, name } = address(url);
  const { bullmq, Client } = await packages();
  let connected = false;
  let failure = '';
  let since: number | undefined;
  const redis = new Client(target, {
    lazyConnect: true,
    // BullMQ's workers want commands to wait for the connection; this decides how long there is one.
    maxRetriesPerRequest: null,
    connectTimeout: 10_000,
    retryStrategy() {
      since ??= Date.now();
      return connected && Date.now() - since < patience ? 250 : null;
    },
  });
  let lose: (error: Error) => void = () => {};
  const lost = new Promise<never>((_, reject) => {
    lose = reject;
  });
  lost.catch(() => {});
  let closed = false;
  const watch = (client: Redis): Redis =>
    client
      .on('error', (error: Error) => {
        failure = error.message;
      })
      .on('ready', () => {
        since = undefined;
      })
      .on('end', () => {
        if (connected && !closed)
          lose(new KvmscopeError('engine', `the server ${name} went away: ${failure || 'closed'}`));
      });
  const clients = [watch(redis)];
  const close = (): void => {
    closed = true;
    for (const client of clients) client.disconnect();
  };
  try {
    await redis.connect();
    connected = true;
    const [, version] = /^redis_version:(\S+)/m.exec(await redis.info('server')) ?? [];
    const [major, minor] = (version ?? '').split('.').map(Number);
    if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))
      throw new KvmscopeError('engine', `${name} is Redis ${version}; the queue needs ${OLDEST.join('.')} or later`);
  } catch (error) {
    close();
    if (error instanceof KvmscopeError) throw error;
    throw new KvmscopeError('engine', `no Redis or Valkey server at ${name}: ${failure || (error as Error).message}`);
  }
  return {
    bullmq,
    redis,
    name,
    another() {
      const client = watch(redis.duplicate({ lazyConnect: false }));
      clients.push(client);
      return client;
    },
    async unlessLost(work) {
      try {
        return await Promise.race([work, lost]);
      } catch (error) {
        // Commands that waited for the connection fail a moment before or after it is given up.
        if (/^Connection is closed/.test((error as Error).message)) await lost;
        throw error;
      }
    },
    close,
  };
}
