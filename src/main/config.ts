/**
 * The configuration of a node: one YAML file, every key optional. What is wrong in it is named with file, line, column and key, and
 * `CONFIG_INVALID`; nothing is passed over.
 */
import { readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { describeError, PandoError } from '../core/errors.ts';
import { treeName } from '../core/event-fields.ts';
import type { TreeName } from '../core/ids.ts';
import { DEFAULT_ALLOWANCE } from '../core/plan/allowance.ts';
import { LOOK_INTERVAL_MS } from '../features/observe/observer.ts';
import { type Address, PORT_MAX, parseAddress } from '../sync/address.ts';
import { DEFAULT_TRANSFER_LIMITS } from '../transfer/limits.ts';
import { parseYaml } from './yaml-config.ts';

const DEFAULT_CONFIG_FILE = '/etc/pando/pando.yaml';
const DEFAULT_DATA_DIRECTORY = '/var/lib/pando';
const DEFAULT_LISTEN = '0.0.0.0:7380';
const SOCKET_NAME = 'pando.sock';
const SNAPSHOTTER_SOCKET_NAME = 'snapshotter.sock';
/** Commands that `zfs` runs side by side for one pool: more of them queue up behind the same transaction group. */
const DEFAULT_CONCURRENCY_PER_POOL = 4;
/** Above this, a limit limits nothing any more: each stream is a process on either end. */
const CONCURRENCY_MAX = 1024;
/** A day: whoever looks more seldom wants no observer. */
const OBSERVE_SECONDS_MAX = 86_400;
const MS_PER_SECOND = 1000;

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
const LOG_FORMATS = ['auto', 'json', 'pretty'] as const;

/** `HOST:PORT` or `[IPV6]:PORT`; unlike the address of a peer, port 0 is allowed and means any free one. */
const listenAddress = z.string().transform((text, context): Address => {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/[\]]+)):([0-9]{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host !== undefined && port <= PORT_MAX) return { host, port };
  context.addIssue({ code: 'custom', message: `"${text}" is not an address; write "HOST:PORT" or "[IPV6]:PORT"` });
  return z.NEVER;
});

/** Where others find this node, as peers give addresses. */
const publicAddress = z.string().refine(isAddress, { error: 'not an address; write "HOST:PORT" or "[IPV6]:PORT"' });

function isAddress(text: string): boolean {
  try {
    parseAddress(text);
    return true;
  } catch {
    return false;
  }
}

const port = z.int().min(0).max(PORT_MAX);
const concurrency = z.int().min(1).max(CONCURRENCY_MAX);
const path = z.string().min(1);

/** As systemd takes it: the name of a file in the directory of credentials. */
const credentialName = z.string().regex(/^[A-Za-z0-9_.-]{1,255}$/, { error: 'not the name of a credential' });

const schema = z.strictObject({
  dataDirectory: path.default(DEFAULT_DATA_DIRECTORY),
  socket: path.optional(),
  listen: listenAddress.prefault(DEFAULT_LISTEN),
  publicAddress: publicAddress.nullable().default(null),
  keyPassphrase: z
    .union([z.strictObject({ file: path }), z.strictObject({ credential: credentialName })])
    .nullable()
    .default(null),
  directPort: port.nullable().default(null),
  zfs: z
    .strictObject({
      prefix: z.array(z.string().min(1)).default([]),
      remoteShell: z.boolean().default(false),
      concurrencyPerPool: concurrency.default(DEFAULT_CONCURRENCY_PER_POOL),
    })
    .prefault({}),
  observeEverySeconds: z
    .number()
    .positive()
    .max(OBSERVE_SECONDS_MAX)
    .default(LOOK_INTERVAL_MS / MS_PER_SECOND),
  follow: z.boolean().default(true),
  transfers: z
    .strictObject({
      perPeer: concurrency.default(DEFAULT_TRANSFER_LIMITS.perPeer),
      perPool: concurrency.default(DEFAULT_TRANSFER_LIMITS.perPool),
      overall: concurrency.default(DEFAULT_TRANSFER_LIMITS.overall),
    })
    .prefault({}),
  contributions: z
    .strictObject({
      filesystems: z.int().min(0).default(DEFAULT_ALLOWANCE.filesystems),
      snapshots: z.int().min(0).default(DEFAULT_ALLOWANCE.snapshots),
    })
    .prefault({}),
  snapshotter: z
    .strictObject({
      socket: path.nullable().optional(),
      tree: treeName.nullable().default(null),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z.enum(LOG_LEVELS).default('info'),
      format: z.enum(LOG_FORMATS).default('auto'),
    })
    .prefault({}),
});

/** A configuration with the defaults filled in. Paths are absolute. See docs/operations.md for what each key means. */
export interface Config extends Omit<z.output<typeof schema>, 'socket' | 'snapshotter'> {
  readonly socket: string;
  readonly snapshotter: {
    /** Null for none. */
    readonly socket: string | null;
    readonly tree: TreeName | null;
  };
}

async function readConfig(file: string, mayBeMissing: boolean): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (mayBeMissing && (error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new PandoError(
      'CONFIG_INVALID',
      `The configuration ${file} cannot be read: ${describeError(error)}.`,
      { file },
      { cause: error },
    );
  }
}

/**
 * Reads a configuration from its text; `file` is named in errors, and its directory is where relative paths begin. Throws
 * `CONFIG_INVALID`.
 *
 * @internal Exported for tests.
 */
export function parseConfig(text: string, file: string): Config {
  const config = parseYaml(text, file, schema);
  const dataDirectory = resolve(dirname(file), config.dataDirectory);
  const socket = config.socket === undefined ? join(dataDirectory, SOCKET_NAME) : resolve(dirname(file), config.socket);
  const { keyPassphrase, snapshotter } = config;
  const snapshotterSocket = (given: string | null | undefined): string | null => {
    if (given === undefined) return join(dataDirectory, SNAPSHOTTER_SOCKET_NAME);
    return given === null ? null : resolve(dirname(file), given);
  };
  const passphrase =
    keyPassphrase !== null && 'file' in keyPassphrase
      ? { file: resolve(dirname(file), keyPassphrase.file) }
      : keyPassphrase;
  return {
    ...config,
    dataDirectory,
    socket,
    keyPassphrase: passphrase,
    snapshotter: { ...snapshotter, socket: snapshotterSocket(snapshotter.socket) },
  };
}

/**
 * Reads the configuration file of that path. Without one, {@link DEFAULT_CONFIG_FILE}, which may be missing: then the defaults hold.
 * Rejects with `CONFIG_INVALID`.
 */
export async function loadConfig(file: string | undefined): Promise<Config> {
  const path = resolve(file ?? DEFAULT_CONFIG_FILE);
  return parseConfig(await readConfig(path, file === undefined), path);
}
