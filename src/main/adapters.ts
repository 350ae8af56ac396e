import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeError, PandoError } from '../core/errors.ts';
import { LevelLog } from '../log/level-log.ts';
import { loadOrCreateIdentity } from '../sync/identity.ts';
import { Sealing } from '../sync/sealing/sealing.ts';
import { WebSocketTransport } from '../sync/websocket-transport.ts';
import { Zstd } from '../transfer/compression/zstd.ts';
import { Launcher } from '../zfs/cli/children/launcher.ts';
import { CliZfs } from '../zfs/cli/cli-zfs.ts';
import type { Config } from './config.ts';
import { readPassphrase } from './passphrase.ts';
import type { NodeSettings } from './settings.ts';
import { softwareVersion } from './version.ts';
import type { NodeAdapters } from './wiring/base.ts';

const LOG_DIRECTORY = 'log';
const SCRATCH_DIRECTORY = 'scratch';
const MS_PER_SECOND = 1000;
/** Keys and history are nobody else's business. */
const DATA_DIRECTORY_MODE = 0o700;

/** The programs that a node starts as processes of their own. */
export interface Programs {
  readonly sealing: string;
  readonly launching: string;
}

/** Those beside this one, compiled as this one is. */
const PROGRAMS: Programs = {
  sealing: fileURLToPath(new URL('../sync/sealing/program.js', import.meta.url)),
  launching: fileURLToPath(new URL('../zfs/cli/children/program.js', import.meta.url)),
};

/** What a configuration says about a node. */
export function settingsOf(config: Config): NodeSettings {
  return {
    version: softwareVersion(),
    listenHost: config.listen.host,
    directPort: config.directPort,
    observeEveryMs: config.observeEverySeconds * MS_PER_SECOND,
    follow: config.follow,
    transfers: config.transfers,
    contributions: config.contributions,
    scratchDirectory: join(config.dataDirectory, SCRATCH_DIRECTORY),
    snapshotterTree: config.snapshotter.tree,
  };
}

/**
 * The real adapters: LevelDB, `zfs` and TLS. Creates the data directory and the node's key on first start. Rejects with
 * `DATA_DIRECTORY_UNWRITABLE`, `IDENTITY_INVALID`, `LOG_LOCKED`, `LOG_CORRUPT`.
 */
export async function openAdapters(
  config: Config,
  onSkipped: (name: string) => void,
  programs = PROGRAMS,
): Promise<NodeAdapters> {
  await makeDataDirectory(config.dataDirectory);
  // What a crash left there was needed no longer than the node ran
  await rm(join(config.dataDirectory, SCRATCH_DIRECTORY), { recursive: true, force: true });
  await makeDataDirectory(join(config.dataDirectory, SCRATCH_DIRECTORY));
  const identity = await loadOrCreateIdentity(config.dataDirectory, await readPassphrase(config));
  const log = await LevelLog.open(join(config.dataDirectory, LOG_DIRECTORY));
  return {
    signer: identity,
    log,
    zfs: new CliZfs({ ...config.zfs, starter: new Launcher(programs.launching), onSkipped }),
    transport: new WebSocketTransport({ identity, ...config.listen }),
    compressor: new Zstd(),
    sealing: new Sealing({ identity, program: programs.sealing }),
  };
}

async function makeDataDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: DATA_DIRECTORY_MODE });
  } catch (cause) {
    throw new PandoError(
      'DATA_DIRECTORY_UNWRITABLE',
      `The data directory ${path} cannot be created (${describeError(cause)}); correct "dataDirectory" or its permissions.`,
      { path },
      { cause },
    );
  }
}
