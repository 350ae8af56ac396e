/** A node in a process of its own, told what to do by the benchmark that forked it: `dist/test/bench/node-process.js DIRECTORY`. */
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Grant } from '../../src/core/grants.ts';
import type { DatasetName, NodeId, TreeName } from '../../src/core/ids.ts';
import { isReceive } from '../../src/core/plan/steps.ts';
import { openAdapters, settingsOf } from '../../src/main/adapters.ts';
import { parseConfig } from '../../src/main/config.ts';
import { PandoNode } from '../../src/main/node.ts';
import type { Zfs } from '../../src/zfs/zfs.ts';

/** What the benchmark can ask of a node. */
export type NodeOrder =
  | {
      readonly do: 'introduce';
      readonly peer: NodeId;
      readonly address: string;
      readonly trustedLink: boolean;
      readonly grants: readonly Grant[];
    }
  | { readonly do: 'share'; readonly tree: TreeName; readonly root: DatasetName }
  | { readonly do: 'mirror'; readonly tree: TreeName; readonly from: NodeId; readonly root: DatasetName }
  | { readonly do: 'look' }
  | { readonly do: 'catch-up'; readonly peer: NodeId }
  | { readonly do: 'sync'; readonly tree: TreeName; readonly times: number }
  | { readonly do: 'sync-and-ask'; readonly tree: TreeName; readonly peer: NodeId }
  | { readonly do: 'usage' }
  | { readonly do: 'traffic' }
  | { readonly do: 'stop' };

export interface NodeHello {
  readonly id: NodeId;
  readonly address: string;
}

/** What many syncs in a row took, and how often they asked ZFS for anything. */
export interface SyncTimes {
  readonly milliseconds: readonly number[];
  readonly bytes: number;
  readonly failures: readonly string[];
  readonly zfsCalls: number;
  readonly steps: number;
  /** Streams among the steps. */
  readonly streams: number;
}

/** A sync, and how long the peer took to answer on the control connection meanwhile. */
export interface AskedSync extends SyncTimes {
  /** In the order in which they were asked. */
  readonly roundTripMilliseconds: readonly number[];
}

/** What a node uses now, children left out. */
export interface Usage {
  /** Resident, in MB (10^6 bytes). */
  readonly megabytes: number;
  readonly cpuSeconds: number;
}

/** Bytes on the control connections of a node, both ways, in all. */
export interface Traffic {
  readonly bytes: number;
}

export interface NodeFarewell {
  /** Peak resident memory in MB (10^6 bytes). */
  readonly peakMegabytes: number;
  /** CPU seconds of Node itself, children left out. */
  readonly cpuSeconds: number;
}

const EVERYTHING = { only: [], except: [], keep: 'all', graceMs: null } as const;
const MICROSECONDS = 1_000_000;
/** Between two questions, in ms. */
const ASK_EVERY_MS = 20;

let zfsCalls = 0;

/** Counts every call of the port: without one, no process was started. */
function counting(zfs: Zfs): Zfs {
  return new Proxy(zfs, {
    get: (target, name: keyof Zfs) => {
      zfsCalls += 1;
      return target[name].bind(target);
    },
  });
}

async function open(directory: string): Promise<PandoNode> {
  const text = 'dataDirectory: data\nlisten: 127.0.0.1:0\ndirectPort: 0\nfollow: false\nobserveEverySeconds: 86400\n';
  const config = parseConfig(text, join(directory, 'pando.yaml'));
  const adapters = await openAdapters(config, () => undefined);
  const node = await PandoNode.open({
    adapters: { ...adapters, zfs: counting(adapters.zfs) },
    settings: settingsOf(config),
    reporter: { info: () => undefined, warn: () => undefined },
  });
  await node.start();
  return node;
}

async function sync(node: PandoNode, tree: TreeName, times: number): Promise<SyncTimes> {
  const { signal } = new AbortController();
  const milliseconds: number[] = [];
  const failures: string[] = [];
  let [bytes, steps, streams] = [0, 0, 0];
  const before = zfsCalls;
  for (let time = 0; time < times; time += 1) {
    const start = performance.now();
    const quiet = { signal, refresh: false, onPlan: () => undefined, onProgress: () => undefined };
    const report = await node.mirrors.sync(tree, quiet);
    milliseconds.push(performance.now() - start);
    bytes += report.bytes;
    steps += report.steps.length;
    streams += report.steps.filter(({ step }) => isReceive(step)).length;
    for (const { outcome } of report.steps) if (outcome.result === 'failed') failures.push(outcome.error.message);
  }
  return { milliseconds, bytes, failures, zfsCalls: zfsCalls - before, steps, streams };
}

/** Asks for what no node knows, which costs it nothing: the round trip is that of the connection, and of what is before it there. */
async function syncAndAsk(node: PandoNode, tree: TreeName, peer: NodeId): Promise<AskedSync> {
  const session = await node.hub.reach(peer);
  const roundTripMilliseconds: number[] = [];
  let isOver = false;
  const asking = (async () => {
    while (!isOver) {
      const start = performance.now();
      await session.call('bench.nothing', null).catch(() => undefined);
      roundTripMilliseconds.push(performance.now() - start);
      await setTimeout(ASK_EVERY_MS);
    }
  })();
  try {
    const times = await sync(node, tree, 1);
    return { ...times, roundTripMilliseconds };
  } finally {
    isOver = true;
    await asking;
  }
}

function usage(): Usage {
  const { user, system } = process.cpuUsage();
  return { megabytes: process.memoryUsage.rss() / 1_000_000, cpuSeconds: (user + system) / MICROSECONDS };
}

async function obey(node: PandoNode, order: NodeOrder): Promise<unknown> {
  switch (order.do) {
    case 'introduce': {
      const { peer, address, trustedLink, grants } = order;
      await node.peers.add({ peer, name: peer.slice(0, 7), address, trustedLink }, grants);
      return null;
    }
    case 'share':
      await node.trees.add({ tree: order.tree, root: order.root });
      return null;
    case 'mirror':
      await node.mirrors.add({ tree: order.tree, from: order.from, root: order.root, ...EVERYTHING });
      return null;
    case 'look':
      for (const { tree } of node.trees.list()) await node.verifier.verify(tree);
      return null;
    case 'catch-up':
      await node.hub.sync(order.peer);
      return null;
    case 'sync':
      return sync(node, order.tree, order.times);
    case 'sync-and-ask':
      return syncAndAsk(node, order.tree, order.peer);
    case 'usage':
      return usage();
    case 'traffic': {
      const links = node.hub.status();
      const traffic: Traffic = { bytes: links.reduce((sum, link) => sum + link.bytesReceived + link.bytesSent, 0) };
      return traffic;
    }
    case 'stop': {
      await node.stop();
      const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage();
      const farewell: NodeFarewell = {
        peakMegabytes: (maxRSS * 1024) / 1_000_000,
        cpuSeconds: (userCPUTime + systemCPUTime) / MICROSECONDS,
      };
      return farewell;
    }
  }
}

const node = await open(process.argv[2] ?? '');
process.on('message', (order: NodeOrder) => {
  void obey(node, order).then(
    (answer) => process.send?.({ answer }),
    (error: unknown) => process.send?.({ error: String(error) }),
  );
});
process.send?.({ answer: { id: node.id, address: node.address } satisfies NodeHello });
