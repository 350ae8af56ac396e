import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { NodeId } from '../../src/core/ids.ts';
import { RECONNECT_DELAY_MAX_MS, RECONNECT_DELAY_MIN_MS } from '../../src/sync/back-off.ts';
import { CONNECT_WAIT_MS, Hub, type PeerDirectory } from '../../src/sync/hub.ts';
import { createIdentity, type Identity } from '../../src/sync/identity.ts';
import { MemoryNetwork } from '../../src/sync/memory-transport.ts';
import type { Transport } from '../../src/sync/transport.ts';
import { WebSocketTransport } from '../../src/sync/websocket-transport.ts';
import { addTree, caughtUp, createNode, known, NOW, type SyncNode, takeSnapshots } from './world.ts';

/** The peers of a node as a test sets them. */
class Directory implements PeerDirectory {
  readonly #addresses = new Map<NodeId, string | null>();
  readonly #node: SyncNode;
  readonly refusals: NodeId[] = [];
  #changed: () => void = () => undefined;

  constructor(node: SyncNode) {
    this.#node = node;
  }

  peers(): { node: NodeId; address: string | null }[] {
    return Array.from(this.#addresses, ([node, address]) => ({ node, address }));
  }

  isKnown(node: NodeId): boolean {
    return this.#addresses.has(node);
  }

  meets(): boolean {
    return true;
  }

  isCurrentKey(): boolean {
    return true;
  }

  refused(node: NodeId): void {
    this.refusals.push(node);
  }

  shares(node: NodeId, tree: Parameters<PeerDirectory['shares']>[1]): boolean {
    return this.isKnown(node) && this.#node.shared.has(tree);
  }

  handsOn(...about: Parameters<PeerDirectory['handsOn']>): boolean {
    return this.#node.handsOn(...about);
  }

  hears(...about: Parameters<PeerDirectory['hears']>): boolean {
    return this.#node.follows(...about);
  }

  onChange(listener: () => void): () => void {
    this.#changed = listener;
    return () => {
      this.#changed = () => undefined;
    };
  }

  set(node: NodeId, address: string | null): void {
    this.#addresses.set(node, address);
    this.#changed();
  }

  remove(node: NodeId): void {
    this.#addresses.delete(node);
    this.#changed();
  }
}

interface HubNode extends SyncNode {
  readonly hub: Hub;
  readonly directory: Directory;
  /** Where it listens, once started. */
  address: string;
  /** Connections and ends of sessions, in the order of their coming. */
  readonly happenings: string[];
}

const open: Hub[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((hub) => hub.close()));
});

async function hubNode(
  makeTransport: (identity: Identity) => Transport,
  identity = createIdentity(),
): Promise<HubNode> {
  const node = await createNode({ identity });
  const directory = new Directory(node);
  const happenings: string[] = [];
  const hub = new Hub({
    history: node.history,
    transport: makeTransport(identity),
    directory,
    software: '0.1.0',
    capabilities: [],
    refresh: () => node.refresh(),
    timers: node.timers,
    now: () => NOW,
    random: () => 0.5,
    report: (error) => node.reported.push(error),
  });
  hub.onConnected(() => happenings.push('connected'));
  hub.onDisconnected((_node, reason) => happenings.push(`disconnected: ${reason.code}`));
  open.push(hub);
  return Object.assign(node, { hub, directory, address: '', happenings });
}

let names = 0;

async function memoryNode(network: MemoryNetwork, identity?: Identity): Promise<HubNode> {
  names += 1;
  const address = `host-${names}`;
  const node = await hubNode(({ node }) => network.transport(node, address), identity);
  node.address = address;
  return node;
}

/** Two identities, the one with the smaller id first. */
function orderedIdentities(): [Identity, Identity] {
  const [one, other] = [createIdentity(), createIdentity()];
  return one.node < other.node ? [one, other] : [other, one];
}

/** Resolves once two hubs have a session with each other. */
async function connected(a: HubNode, b: HubNode): Promise<void> {
  await Promise.all([a.hub.reach(b.node), b.hub.reach(a.node)]);
}

function whenDisconnected({ hub }: HubNode): Promise<unknown> {
  return new Promise((resolve) => {
    const stop = hub.onDisconnected((_node, reason) => {
      stop();
      resolve(reason);
    });
  });
}

function whenConnected({ hub }: HubNode): Promise<void> {
  return new Promise((resolve) => {
    const stop = hub.onConnected(() => {
      stop();
      resolve();
    });
  });
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
}

test('a hub dials the peers that have an address, and both sides get a session', async () => {
  const network = new MemoryNetwork();
  const [a, b] = [await memoryNode(network), await memoryNode(network)];
  a.directory.set(b.node, b.address);
  b.directory.set(a.node, null);
  await b.hub.start();
  await a.hub.start();
  await connected(a, b);
  expect([a.hub.connected(), b.hub.connected()]).toEqual([[b.node], [a.node]]);
  expect(a.hub.status()).toMatchObject([{ node: b.node, address: b.address, state: 'connected', lastError: null }]);
  expect(a.hub.status()[0]?.bytesSent).toBeGreaterThan(50);
});

test('sync brings the peer up to date', async () => {
  const network = new MemoryNetwork();
  const [a, b] = [await memoryNode(network), await memoryNode(network)];
  a.directory.set(b.node, b.address);
  b.directory.set(a.node, null);
  await addTree(b);
  b.refresh = () => takeSnapshots(b, 1, 5);
  await Promise.all([a.hub.start(), b.hub.start()]);
  expect(await a.hub.sync(b.node, { refresh: true })).toMatchObject({ changed: true });
  expect(known(a, b)).toEqual([1, 7]);
  expect(await a.hub.sync(b.node)).toMatchObject({ changed: false });
  expect(b.hub.acknowledged(a.node, b.history.ownStream('images' as never))).toEqual({ incarnation: 1, seq: 7 });
});

test('when both dial at once, exactly one connection survives: that of the smaller id', async () => {
  const network = new MemoryNetwork();
  const [small, large] = orderedIdentities();
  const [a, b] = [await memoryNode(network, small), await memoryNode(network, large)];
  a.directory.set(b.node, b.address);
  b.directory.set(a.node, a.address);
  await Promise.all([a.hub.start(), b.hub.start()]);
  await connected(a, b);
  await settle();
  await Promise.all([a.timers.advance(60_000), b.timers.advance(20_000)]);
  const [sessionA, sessionB] = [a.hub.session(b.node), b.hub.session(a.node)];
  expect(await sessionA?.sync()).toMatchObject({ changed: false });
  expect(await sessionB?.sync()).toMatchObject({ changed: false });
  expect(sessionA?.bytesSent).toBe(sessionB?.bytesReceived);
  expect(a.happenings.filter((each) => each === 'connected').length).toBeLessThanOrEqual(2);
});

test('after a cut, the dialler comes back with growing waits, and events flow again', async () => {
  const network = new MemoryNetwork();
  const [a, b] = [await memoryNode(network), await memoryNode(network)];
  a.directory.set(b.node, b.address);
  b.directory.set(a.node, null);
  await addTree(b);
  await Promise.all([a.hub.start(), b.hub.start()]);
  await connected(a, b);
  await caughtUp(a, b);
  const disconnected = whenDisconnected(a);
  network.cut(a.node, b.node);
  expect(await disconnected).toMatchObject({ code: 'CONNECTION_CLOSED' });
  expect(a.hub.session(b.node)).toBeUndefined();
  expect(a.hub.status()).toMatchObject([{ state: 'waiting', lastError: { code: 'CONNECTION_CLOSED' } }]);
  expect(b.hub.status()).toMatchObject([{ state: 'idle' }]);
  await a.timers.advance(RECONNECT_DELAY_MIN_MS);
  await settle();
  expect(a.hub.status()).toMatchObject([{ state: 'waiting', lastError: { code: 'PEER_UNREACHABLE' } }]);
  await takeSnapshots(b, 1, 3);
  network.mend(a.node, b.node);
  const reconnected = whenConnected(a);
  await a.timers.advance(RECONNECT_DELAY_MAX_MS);
  await reconnected;
  await caughtUp(a, b);
  expect(known(a, b)).toEqual([1, 5]);
  expect(a.happenings).toEqual(['connected', 'disconnected: CONNECTION_CLOSED', 'connected']);
});

test('a sync does not wait for the end of a wait', async () => {
  const network = new MemoryNetwork();
  const [a, b] = [await memoryNode(network), await memoryNode(network)];
  a.directory.set(b.node, b.address);
  b.directory.set(a.node, null);
  await a.hub.start();
  await settle();
  expect(a.hub.status()).toMatchObject([{ state: 'waiting' }]);
  await b.hub.start();
  expect(await a.hub.sync(b.node)).toMatchObject({ changed: false });
});

test('a sync with a peer that does not come is given up with what went wrong last', async () => {
  const network = new MemoryNetwork();
  const [a, b] = [await memoryNode(network), await memoryNode(network)];
  a.directory.set(b.node, 'nowhere');
  await a.hub.start();
  const sync = a.hub.sync(b.node);
  const rejected = expect(sync).rejects.toMatchObject({
    code: 'PEER_UNREACHABLE',
    message: expect.stringContaining('nowhere'),
  });
  await settle();
  await a.timers.advance(CONNECT_WAIT_MS);
  await rejected;
  await expect(a.hub.sync(createIdentity().node)).rejects.toMatchObject({ code: 'PEER_UNKNOWN' });
});

test('a peer that does not know this node shows in the status, with the remedy', async () => {
  const network = new MemoryNetwork();
  const [a, b] = [await memoryNode(network), await memoryNode(network)];
  a.directory.set(b.node, b.address);
  await Promise.all([a.hub.start(), b.hub.start()]);
  await settle();
  const [status] = a.hub.status();
  expect(status?.lastError).toMatchObject({ code: 'PEER_REFUSED', message: expect.stringContaining('pando peer add') });
});

test('a peer that is removed loses its session at once; added again, it is dialled at once', async () => {
  const network = new MemoryNetwork();
  const [a, b] = [await memoryNode(network), await memoryNode(network)];
  a.directory.set(b.node, b.address);
  b.directory.set(a.node, null);
  await Promise.all([a.hub.start(), b.hub.start()]);
  await connected(a, b);
  const gone = whenDisconnected(b);
  a.directory.remove(b.node);
  expect(a.hub.session(b.node)).toBeUndefined();
  expect(a.hub.status()).toEqual([]);
  expect(await gone).toMatchObject({ code: 'PEER_REFUSED' });
  a.directory.set(b.node, b.address);
  await connected(a, b);
});

test('a new address is tried at once', async () => {
  const network = new MemoryNetwork();
  const [a, b] = [await memoryNode(network), await memoryNode(network)];
  a.directory.set(b.node, 'nowhere');
  b.directory.set(a.node, null);
  await Promise.all([a.hub.start(), b.hub.start()]);
  await settle();
  a.directory.set(b.node, b.address);
  await connected(a, b);
});

describe.each([0, 1])('a peer that restarts, in the order %i of their ids', (first) => {
  let a: Awaited<ReturnType<typeof memoryNode>>;
  let b: typeof a;
  let again: typeof a;

  beforeEach(async () => {
    const network = new MemoryNetwork();
    const identities = orderedIdentities();
    const [dialling, waiting] = [identities[first], identities[1 - first]];
    [a, b] = [await memoryNode(network, dialling), await memoryNode(network, waiting)];
    a.directory.set(b.node, b.address);
    b.directory.set(a.node, null);
    await Promise.all([a.hub.start(), b.hub.start()]);
    await connected(a, b);
    again = await memoryNode(network, dialling);
    again.directory.set(b.node, b.address);
  });

  afterEach(() => Promise.all([again.hub.close(), a.hub.close(), b.hub.close()]));

  test('replaces its dead connection', async () => {
    const old = b.hub.session(a.node);
    const replaced = whenConnected(b);
    await again.hub.start();
    await replaced;
    expect(b.hub.session(a.node)).not.toBe(old);
    expect(await again.hub.sync(b.node)).toMatchObject({ changed: false });
  });

  test('has a sync go on over the connection that takes the place of its own', async () => {
    a.refresh = () => new Promise(() => undefined);
    const syncing = b.hub.sync(a.node, { refresh: true });
    await again.hub.start();
    expect(await syncing).toMatchObject({ changed: false });
  });
});

test('calls are answered by the handlers of the hub, and data connections by its data handler', async () => {
  const network = new MemoryNetwork();
  const [a, b] = [await memoryNode(network), await memoryNode(network)];
  a.directory.set(b.node, b.address);
  b.directory.set(a.node, null);
  b.hub.handle('greet', async (peer) => `hello ${peer}`);
  expect(() => b.hub.handle('greet', async () => null)).toThrow();
  await Promise.all([a.hub.start(), b.hub.start()]);
  const session = await a.hub.reach(b.node);
  expect(await session.call('greet', null)).toBe(`hello ${a.node}`);
  const { signal } = new AbortController();
  await expect(a.hub.openData(b.node, 't', signal)).rejects.toMatchObject({ code: 'PEER_REFUSED' });
  const taken = new Promise<unknown>((resolve) => {
    b.hub.onDataConnection((peer, ticket) => () => resolve([peer, ticket]));
  });
  (await a.hub.openData(b.node, 't', signal)).destroy();
  expect(await taken).toEqual([a.node, 't']);
  await expect(b.hub.openData(a.node, 't', signal)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
});

test('a hub that closes says goodbye, and leaves no timer and no session behind', async () => {
  const network = new MemoryNetwork();
  const [a, b] = [await memoryNode(network), await memoryNode(network)];
  a.directory.set(b.node, b.address);
  b.directory.set(a.node, null);
  await Promise.all([a.hub.start(), b.hub.start()]);
  await connected(a, b);
  const heard = whenDisconnected(b);
  await a.hub.close();
  expect(await heard).toMatchObject({ code: 'CONNECTION_CLOSED', message: expect.stringContaining('shuts down') });
  await expect(a.hub.reach(b.node)).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' });
  expect(a.timers.pending).toBe(0);
  expect(a.hub.connected()).toEqual([]);
});

test('over real TLS: both dial at once, sync, survive a restart, and part', async () => {
  const make = (identity: Identity): Transport => new WebSocketTransport({ identity, host: '127.0.0.1', port: 0 });
  const [a, b] = [await hubNode(make), await hubNode(make)];
  await addTree(a);
  await takeSnapshots(a, 1, 20);
  a.address = await a.hub.start();
  b.address = await b.hub.start();
  a.directory.set(b.node, b.address);
  b.directory.set(a.node, a.address);
  await connected(a, b);
  expect((await b.hub.sync(a.node)).changed).toBeDefined();
  expect(known(b, a)).toEqual([1, 22]);
  const gone = whenDisconnected(b);
  await a.hub.close();
  expect(await gone).toMatchObject({ code: 'CONNECTION_CLOSED' });
});

test('whoever waits for a peer hears at once that the hub is closed', async () => {
  const network = new MemoryNetwork();
  const [a, b] = [await memoryNode(network), await memoryNode(network)];
  a.directory.set(b.node, null);
  await a.hub.start();
  const waiting = a.hub.reach(b.node);
  await Promise.all([expect(waiting).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' }), a.hub.close()]);
});

test('a peer that is not connected is heard through one that is, and no longer once it is back', async () => {
  const network = new MemoryNetwork();
  const [author, relay, far] = [await memoryNode(network), await memoryNode(network), await memoryNode(network)];
  relay.handsOn = () => true;
  far.follows = (node) => node === author.node;
  await addTree(author);
  author.directory.set(relay.node, null);
  author.directory.set(far.node, null);
  relay.directory.set(author.node, author.address);
  relay.directory.set(far.node, null);
  far.directory.set(relay.node, relay.address);
  await Promise.all([author, relay, far].map(({ hub }) => hub.start()));
  await connected(author, relay);
  await connected(relay, far);
  await caughtUp(far, author);
  far.directory.set(author.node, author.address);
  const heard = () => far.hub.status().find(({ node }) => node === author.node)?.heardThrough;
  expect(heard()).toEqual([relay.node]);
  await connected(author, far);
  expect(heard()).toEqual([]);
  await takeSnapshots(author, 1, 3);
  await caughtUp(far, author);
  const gone = whenDisconnected(far);
  network.cut(author.node, far.node);
  await gone;
  expect(heard()).toEqual([relay.node]);
  await takeSnapshots(author, 4, 3);
  await caughtUp(far, author);
});
