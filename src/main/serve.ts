import { once } from 'node:events';
import { type DestinationStream, type Logger, pino } from 'pino';
import pretty from 'pino-pretty';
import { describeError } from '../core/errors.ts';
import { type GrpcServer, startGrpcServer } from '../interfaces/grpc/server.ts';
import { type HttpServer, startHttpServer } from '../interfaces/http/server.ts';
import { openAdapters, settingsOf } from './adapters.ts';
import { type Config, loadConfig } from './config.ts';
import { PandoNode } from './node.ts';
import { presenceOf } from './presence.ts';
import { rotateKey } from './rotation.ts';
import { stopInTime } from './stop-in-time.ts';
import { softwareVersion } from './version.ts';
import type { NodeReporter } from './wiring/reports.ts';

/** A stop that takes longer than this, in ms, is cut short: what is left open is cleared up at the next start (invariant 5). */
const STOP_LIMIT_MS = 10_000;

/** Names that Pando does not take are rare; a pool full of them is told of by the first ones. */
const SKIPPED_NAMES_SAID_MAX = 1_000;

function createLogger({ level, format }: Config['log']): Logger {
  const people = format === 'pretty' || (format === 'auto' && process.stderr.isTTY);
  const destination: DestinationStream = people
    ? pretty({ destination: 2, sync: true, ignore: 'pid,hostname' })
    : pino.destination({ dest: 2, sync: true });
  return pino({ level, base: null }, destination);
}

function reporterOn(logger: Logger): NodeReporter {
  return {
    info: (message, facts = {}) => logger.info(facts, message),
    warn: (message, facts = {}) => logger.warn(facts, message),
  };
}

/** Warns of names that are left out: each once, and no more than people will read. */
function sayOnce(logger: Logger): (name: string) => void {
  const said = new Set<string>();
  return (name) => {
    if (said.has(name) || said.size >= SKIPPED_NAMES_SAID_MAX) return;
    said.add(name);
    logger.warn({ name }, 'A dataset or snapshot is left out: Pando does not take its name');
  };
}

/** Resolves on SIGTERM or SIGINT with the name of the signal. */
async function toldToStop(): Promise<string> {
  const done = new AbortController();
  const { signal } = done;
  const signals = ['SIGTERM', 'SIGINT'].map((name) => once(process, name, { signal }).then(() => name));
  const first = await Promise.race(signals);
  done.abort();
  await Promise.allSettled(signals);
  return first;
}

/**
 * Runs a node with its API until SIGTERM or SIGINT, then drains and stops it. Rejects with what keeps it from starting: `CONFIG_INVALID`,
 * `DATA_DIRECTORY_UNWRITABLE`, `LOG_LOCKED`, `PORT_IN_USE`, `DAEMON_RUNNING`, `ZFS_UNAVAILABLE` …
 */
export async function serve(configPath: string | undefined): Promise<void> {
  const config = await loadConfig(configPath);
  const logger = createLogger(config.log);
  const reporter = reporterOn(logger);
  const stop = toldToStop();
  const adapters = await openAdapters(config, sayOnce(logger));
  const node = await PandoNode.open({ adapters, settings: settingsOf(config), reporter });
  const report = (error: unknown): void => logger.error({ error }, describeError(error));
  let server: HttpServer | undefined;
  let snapshotter: GrpcServer | undefined;
  try {
    await node.start();
    server = await startHttpServer({
      socket: config.socket,
      services: {
        node: node.id,
        version: softwareVersion(),
        startedAt: node.startedAt,
        dataDirectory: config.dataDirectory,
        rotateKey: () => rotateKey(config),
        address: node.address,
        history: node.history,
        trees: node.trees,
        operators: node.operators,
        mirrors: node.mirrors,
        ownership: node.ownership,
        diverged: node.diverged,
        peers: node.peers,
        grants: node.grants,
        invitations: node.invitations,
        limits: node.limits,
        notices: node.notices,
        presence: presenceOf(config, node.address),
        verifier: node.verifier,
        observer: node.observer,
        layers: node.layers,
        snapshots: node.snapshots,
        links: () => node.hub.status(),
        linkUses: node.linkUses,
        zfsCapabilities: () => node.zfs.capabilities(),
      },
      report,
    });
    if (config.snapshotter.socket !== null) {
      snapshotter = await startGrpcServer({ socket: config.snapshotter.socket, snapshots: node.snapshots, report });
    }
    logger.info({ socket: config.socket, snapshotter: config.snapshotter.socket }, 'Ready');
    logger.info(`${await stop}: stopping`);
  } finally {
    // A sync that the API tells of ends when the node ends it.
    await stopInTime([async () => snapshotter?.close(), async () => server?.close(), () => node.stop()], {
      limitMs: STOP_LIMIT_MS,
      giveUp: () => {
        logger.error('Stopping takes too long and is cut short; the next start clears up what is left');
        process.exit(1);
      },
    });
    logger.info('Stopped');
  }
}
