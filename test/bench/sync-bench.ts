/** What it costs two nodes to agree on a big graph: bytes and round trips for a few changes, time for none. */

import { lastTimestampAt } from '../../src/core/clock.ts';
import { type SignedHead, signHead } from '../../src/core/codec/chain.ts';
import type { EventBody } from '../../src/core/events.ts';
import type { Graph } from '../../src/core/graph/graph.ts';
import { streamIdOf, type TreeName } from '../../src/core/ids.ts';
import { sealedGraph } from '../../src/log/checkpointing.ts';
import { History } from '../../src/log/history.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { parseAddress } from '../../src/sync/address.ts';
import { createIdentity, type Identity } from '../../src/sync/identity.ts';
import { Session } from '../../src/sync/session.ts';
import { systemTimers } from '../../src/sync/timers.ts';
import type { Connection } from '../../src/sync/transport.ts';
import { WebSocketTransport } from '../../src/sync/websocket-transport.ts';
import { type GraphShape, generateGraph, MILLION_SNAPSHOTS, nextSnapshot } from './generated-graph.ts';
import { Relay } from './relay.ts';

const HOST = '127.0.0.1';
const TREE = 'images' as TreeName;
const CHANGES = 10;
const IDLE_SYNCS = 1_000;
/** One way, in ms: long against what computing takes, so that the time of a sync tells its round trips. */
const LINK_DELAY_MS = 100;

export interface SyncMeasurement {
  readonly snapshots: number;
  readonly datasets: number;
  /** One sync that brings CHANGES new snapshots. */
  readonly changes: {
    readonly count: number;
    /** Bytes on the wire, TLS and acknowledgements included. */
    readonly wireBytesThere: number;
    readonly wireBytesBack: number;
    /** Bytes of frames, both ways. */
    readonly frameBytes: number;
    /** Time over a link with a known delay, in round trips. */
    readonly roundTrips: number;
  };
  /** Syncs with nothing to do. */
  readonly idle: {
    readonly samples: number;
    readonly wireBytesThere: number;
    readonly wireBytesBack: number;
    readonly medianMs: number;
    readonly p99Ms: number;
  };
}

/** A history that holds the author's graph, as its author or as someone who follows it. */
async function historyWith(graph: Graph, head: SignedHead, keeper: Identity): Promise<History> {
  const log = new MemoryLog();
  await log.reset(head.stream, head, await sealedGraph(head, graph, lastTimestampAt(Date.now()), keeper));
  return History.open({ log, signer: keeper, now: Date.now });
}

function sessionOn(connection: Connection, history: History, refresh: () => Promise<void>): Session {
  return new Session(connection, {
    history,
    software: 'bench',
    capabilities: [],
    shares: () => true,
    handsOn: () => false,
    follows: () => false,
    isCurrentKey: () => true,
    refresh,
    handlers: new Map(),
    timers: systemTimers,
    report: (error) => {
      throw error;
    },
  });
}

async function timed(task: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await task();
  return performance.now() - start;
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number;
}

function changesOf(shape: GraphShape, graph: Graph): EventBody[] {
  const ids = [...graph.datasets.keys()];
  return Array.from({ length: CHANGES }, (_, index): EventBody => {
    const place = Math.floor((index * ids.length) / CHANGES);
    return {
      type: 'snapshot.created',
      dataset: ids[place] as (typeof ids)[number],
      snapshot: nextSnapshot(shape, place, 0),
    };
  });
}

/** Two nodes that both hold the graph, connected over TLS on loopback with a relay in between. */
class Scene {
  readonly #transports: readonly WebSocketTransport[];
  readonly relay: Relay;
  readonly author: { readonly history: History; readonly session: Session };
  readonly follower: { readonly history: History; readonly session: Session };

  private constructor(
    transports: readonly WebSocketTransport[],
    relay: Relay,
    author: Scene['author'],
    follower: Scene['follower'],
  ) {
    this.#transports = transports;
    this.relay = relay;
    this.author = author;
    this.follower = follower;
  }

  static async create(shape: GraphShape): Promise<Scene> {
    const [author, follower] = [createIdentity(), createIdentity()];
    const graph = generateGraph(shape, author.node);
    const stream = streamIdOf(author.node, TREE);
    const seq = graph.datasets.size + graph.snapshotCount;
    const head = signHead({ stream, incarnation: 1, seq, hash: new Uint8Array(32) }, author);
    const authorHistory = await historyWith(graph, head, author);
    const followerHistory = await historyWith(graph, head, follower);
    const listening = new WebSocketTransport({ identity: author, host: HOST, port: 0 });
    const dialling = new WebSocketTransport({ identity: follower, host: HOST, port: 0 });
    let accept: (connection: Connection) => void = () => undefined;
    const accepted = new Promise<Connection>((resolve) => {
      accept = resolve;
    });
    const address = await listening.listen({
      admit: () => true,
      meets: () => true,
      accept,
      acceptData: () => null,
      acceptBare: () => null,
      introduce: async () => new Uint8Array(),
    });
    const relay = await Relay.to(parseAddress(address));
    const near = await dialling.dial(relay.address, author.node, new AbortController().signal);
    const refresh = async (): Promise<void> => {
      await authorHistory.record(TREE, 'observed', changesOf(shape, graph));
    };
    const authorSession = sessionOn(await accepted, authorHistory, refresh);
    const followerSession = sessionOn(near, followerHistory, async () => undefined);
    await Promise.all([authorSession.sync(), followerSession.sync()]);
    return new Scene(
      [dialling, listening],
      relay,
      { history: authorHistory, session: authorSession },
      { history: followerHistory, session: followerSession },
    );
  }

  /** Bytes on the wire while `task` runs. */
  async wireBytes(task: () => Promise<unknown>): Promise<{ wireBytesThere: number; wireBytesBack: number }> {
    const { there, back } = this.relay.bytes;
    await task();
    return { wireBytesThere: this.relay.bytes.there - there, wireBytesBack: this.relay.bytes.back - back };
  }

  /** Resolves once everything that the author recorded is known to be on the follower's disk. */
  async acknowledged(): Promise<void> {
    const { history, session } = this.author;
    const stream = history.ownStream(TREE);
    while (session.acknowledged(stream)?.seq !== history.head(stream)?.seq) {
      await new Promise(setImmediate);
    }
  }

  async close(): Promise<void> {
    for (const transport of this.#transports) await transport.close();
    this.relay.close();
  }
}

async function measureChanges(scene: Scene): Promise<SyncMeasurement['changes']> {
  const { session } = scene.follower;
  scene.relay.delayMs = LINK_DELAY_MS;
  const before = session.bytesSent + session.bytesReceived;
  let elapsed = 0;
  const wire = await scene.wireBytes(async () => {
    elapsed = await timed(async () => {
      const { changed } = await session.sync({ refresh: true });
      if (!changed) throw new Error('the changes did not arrive');
    });
    await scene.acknowledged();
  });
  scene.relay.delayMs = 0;
  const frameBytes = session.bytesSent + session.bytesReceived - before;
  return { count: CHANGES, ...wire, frameBytes, roundTrips: Math.round(elapsed / (2 * LINK_DELAY_MS)) };
}

async function measureIdle(scene: Scene): Promise<SyncMeasurement['idle']> {
  const { session } = scene.follower;
  const wire = await scene.wireBytes(() => session.sync());
  const times: number[] = [];
  for (let sample = 0; sample < IDLE_SYNCS; sample += 1) times.push(await timed(() => session.sync()));
  times.sort((a, b) => a - b);
  return { samples: IDLE_SYNCS, ...wire, medianMs: percentile(times, 0.5), p99Ms: percentile(times, 0.99) };
}

/** Measures over TLS on loopback. The graph of the default shape takes about half a gigabyte and some seconds to make. */
export async function measureSync(shape: GraphShape = MILLION_SNAPSHOTS): Promise<SyncMeasurement> {
  const scene = await Scene.create(shape);
  try {
    return {
      snapshots: shape.datasets * shape.snapshotsEach,
      datasets: shape.datasets,
      changes: await measureChanges(scene),
      idle: await measureIdle(scene),
    };
  } finally {
    await scene.close();
  }
}
