/** Nodes in one process for the tests of sessions and hubs: real histories, a network in memory, time by hand. */
import type { PandoError } from '../../src/core/errors.ts';
import type { EventBody, Snapshot } from '../../src/core/events.ts';
import type {
  DatasetId,
  DatasetName,
  NodeId,
  RelativeName,
  SnapshotGuid,
  SnapshotName,
  TreeName,
} from '../../src/core/ids.ts';
import { uuidFrom } from '../../src/core/ids.ts';
import { History } from '../../src/log/history.ts';
import type { Log } from '../../src/log/log.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import type { CallHandler } from '../../src/sync/calls.ts';
import { createIdentity, type Identity } from '../../src/sync/identity.ts';
import { MemoryNetwork } from '../../src/sync/memory-transport.ts';
import { decodeMessage, encodeMessage } from '../../src/sync/message-codec.ts';
import { type Message, PROTOCOL_RANGE, RELAY_CAPABILITY } from '../../src/sync/messages.ts';
import { Session, type SessionContext } from '../../src/sync/session.ts';
import type { Connection } from '../../src/sync/transport.ts';
import { FakeTimers } from './fake-timers.ts';

export const IMAGES = 'images' as TreeName;
export const SECRETS = 'secrets' as TreeName;
/** 2026-01-01T00:00:00Z in ms. */
export const NOW = 1_767_225_600_000;

export interface SyncNode {
  readonly identity: Identity;
  readonly node: NodeId;
  readonly history: History;
  readonly timers: FakeTimers;
  readonly handlers: Map<string, CallHandler>;
  readonly reported: unknown[];
  readonly context: SessionContext;
  /** Trees that any peer may read. */
  readonly shared: Set<TreeName>;
  /** What this node does when a peer asks it to look at ZFS. */
  refresh: () => Promise<void>;
  /** What it hands on of others, nothing unless a test says so. */
  handsOn: SessionContext['handsOn'];
  /** What it takes of others from whoever brings it, nothing unless a test says so. */
  follows: SessionContext['follows'];
  /** Lengths of key proofs that nobody shows any more. */
  readonly replaced: Set<number>;
}

export async function createNode(
  options: { readonly identity?: Identity; readonly log?: Log; readonly timers?: FakeTimers } = {},
): Promise<SyncNode> {
  const { identity = createIdentity(), log = new MemoryLog(), timers = new FakeTimers() } = options;
  const history = await History.open({ log, signer: identity, now: () => NOW });
  const shared = new Set([IMAGES]);
  const handlers = new Map<string, CallHandler>();
  const reported: unknown[] = [];
  const node: SyncNode = {
    identity,
    node: identity.node,
    history,
    timers,
    handlers,
    reported,
    shared,
    refresh: async () => undefined,
    handsOn: () => false,
    follows: () => false,
    replaced: new Set(),
    context: {
      history,
      software: '0.1.0',
      capabilities: [],
      shares: (_peer, tree) => shared.has(tree),
      handsOn: (peer, author, tree) => node.handsOn(peer, author, tree),
      follows: (author, tree) => node.follows(author, tree),
      isCurrentKey: ({ keyProof }) => !node.replaced.has(keyProof.length),
      refresh: () => node.refresh(),
      handlers,
      timers,
      report: (error) => reported.push(error),
    },
  };
  return node;
}

const ROOT = uuidFrom(NOW, new Uint8Array(16)) as DatasetId;

function snapshot(number: number): Snapshot {
  return {
    guid: String(1_000_000_000_000_000_000n + BigInt(number)) as SnapshotGuid,
    name: `autosnap-${number}` as SnapshotName,
    createtxg: number,
    creation: 1_767_225_600 + number,
    referenced: 1_000_000 + number,
    written: 1_000,
  };
}

/** Begins a node's stream of a tree: the tree and its root dataset. */
export async function addTree(owner: SyncNode, tree: TreeName = IMAGES): Promise<void> {
  await owner.history.record(tree, 'command', [
    { type: 'tree.added', root: 'tank/images' as DatasetName },
    {
      type: 'dataset.created',
      dataset: ROOT,
      kind: 'filesystem',
      guid: '1',
      name: '' as RelativeName,
      origin: null,
      owner: { node: owner.node, epoch: 1 },
      properties: {},
    },
  ]);
}

/** Events of snapshots, numbered from `first`. */
function snapshotEvents(first: number, count: number): EventBody[] {
  return Array.from({ length: count }, (_, index) => ({
    type: 'snapshot.created',
    dataset: ROOT,
    snapshot: snapshot(first + index),
  }));
}

/** Takes snapshots numbered from `first`, all in one go. */
export async function takeSnapshots(owner: SyncNode, first: number, count: number, tree = IMAGES): Promise<void> {
  await owner.history.record(tree, 'command', snapshotEvents(first, count));
}

/** Destroys the snapshots that {@link takeSnapshots} took. */
export async function destroySnapshots(owner: SyncNode, first: number, count: number): Promise<void> {
  const bodies = Array.from({ length: count }, (_, index): EventBody => {
    const { guid, name } = snapshot(first + index);
    return { type: 'snapshot.destroyed', dataset: ROOT, guid, name };
  });
  await owner.history.record(IMAGES, 'command', bodies);
}

/** How far `reader` knows the stream of `owner`: incarnation and seq, or null. */
export function known(reader: SyncNode, owner: SyncNode, tree: TreeName = IMAGES): readonly [number, number] | null {
  const head = reader.history.head(owner.history.ownStream(tree));
  return head === null ? null : [head.incarnation, head.seq];
}

/** Resolves once `reader` knows as much of the stream of `owner` as the owner. */
export async function caughtUp(reader: SyncNode, owner: SyncNode, tree: TreeName = IMAGES): Promise<void> {
  const same = (): boolean => String(known(reader, owner, tree)) === String(known(owner, owner, tree));
  await until(reader, same);
}

/** Resolves once a condition on a node's history holds. */
export async function until(node: SyncNode, condition: () => boolean): Promise<void> {
  while (!condition()) {
    await new Promise<void>((resolve) => {
      const stop = node.history.onChange(() => {
        stop();
        resolve();
      });
    });
  }
}

let pairs = 0;

/** Two ends of a connection between two nodes. */
export async function connectionPair(
  network: MemoryNetwork,
  a: NodeId,
  b: NodeId,
): Promise<readonly [Connection, Connection]> {
  pairs += 1;
  const address = `meeting ${pairs}`;
  const listening = network.transport(b, address);
  const accepted = new Promise<Connection>((accept) => {
    void listening.listen({
      admit: () => true,
      meets: () => true,
      accept,
      acceptData: () => null,
      acceptBare: () => null,
      introduce: async () => new Uint8Array(),
    });
  });
  const near = await network.transport(a, `${a} dials`).dial(address, b, new AbortController().signal);
  return [near, await accepted];
}

export interface Pair {
  readonly network: MemoryNetwork;
  readonly sessionA: Session;
  readonly sessionB: Session;
}

/** Sessions between two nodes, open at both ends. */
export async function connect(a: SyncNode, b: SyncNode, network = new MemoryNetwork()): Promise<Pair> {
  const [near, far] = await connectionPair(network, a.node, b.node);
  const sessionA = new Session(near, a.context);
  const sessionB = new Session(far, b.context);
  await Promise.all([sessionA.opened, sessionB.opened]);
  return { network, sessionA, sessionB };
}

/** A peer that says whatever a test has it say. */
export class Puppet {
  readonly identity: Identity;
  readonly network = new MemoryNetwork();
  readonly messages: Message[] = [];
  readonly closed: Promise<PandoError>;
  readonly connection: Connection;
  #wake: () => void = () => undefined;

  private constructor(identity: Identity, connection: Connection, network: MemoryNetwork) {
    this.identity = identity;
    this.connection = connection;
    this.network = network;
    this.closed = new Promise((resolve) => connection.onClose(resolve));
    connection.onFrame((frame) => {
      this.messages.push(decodeMessage(frame));
      this.#wake();
    });
  }

  /** A puppet and the session that `node` has with it. */
  static async meet(node: SyncNode, identity = createIdentity()): Promise<{ puppet: Puppet; session: Session }> {
    const network = new MemoryNetwork();
    const [near, far] = await connectionPair(network, identity.node, node.node);
    return { puppet: new Puppet(identity, near, network), session: new Session(far, node.context) };
  }

  /** The same, with hellos exchanged and the node's first question answered. */
  static async greet(node: SyncNode, identity = createIdentity()): Promise<{ puppet: Puppet; session: Session }> {
    const met = await Puppet.meet(node, identity);
    met.puppet.sayHello();
    const question = await met.puppet.hear('have');
    met.puppet.say({ ...question, reply: true, heads: [] });
    return met;
  }

  sayHello(): void {
    this.say({
      type: 'hello',
      protocol: PROTOCOL_RANGE,
      node: this.identity.node,
      software: '9.9.9',
      capabilities: [RELAY_CAPABILITY],
    });
  }

  say(message: Message): void {
    this.connection.send(encodeMessage(message));
  }

  /** The first message of a type that was not heard before. */
  async hear<Type extends Message['type']>(type: Type): Promise<Extract<Message, { type: Type }>> {
    for (;;) {
      const index = this.messages.findIndex((message) => message.type === type);
      if (index >= 0) return this.messages.splice(index, 1)[0] as Extract<Message, { type: Type }>;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
