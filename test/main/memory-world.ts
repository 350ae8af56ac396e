/** Nodes in one process: the whole of Pando on the in-memory adapters, each with a ZFS, a log and an address of its own. */
import { tmpdir } from 'node:os';
import { PandoError } from '../../src/core/errors.ts';
import type { DatasetName, RelativeName, SnapshotName, TreeName } from '../../src/core/ids.ts';
import { DEFAULT_ALLOWANCE } from '../../src/core/plan/allowance.ts';
import type { SyncReport } from '../../src/features/mirrors/mirror-syncs.ts';
import type { Log } from '../../src/log/log.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { PandoNode } from '../../src/main/node.ts';
import type { NodeSettings } from '../../src/main/settings.ts';
import { type Surroundings, systemSurroundings } from '../../src/main/surroundings.ts';
import { createIdentity, type Identity } from '../../src/sync/identity.ts';
import { MemoryNetwork } from '../../src/sync/memory-transport.ts';
import type { Compressor } from '../../src/transfer/compression/compressor.ts';
import { MemoryCompressor } from '../../src/transfer/compression/memory-compressor.ts';
import { DEFAULT_TRANSFER_LIMITS } from '../../src/transfer/limits.ts';
import type { TransferProgress } from '../../src/transfer/progress.ts';
import { MemoryZfs, type MemoryZfsOptions } from '../../src/zfs/memory/memory-zfs.ts';

/** Observers look when they are told to: tests decide what has been noticed. */
const NEVER_MS = 1_000_000_000;

export function addressOf(name: string): string {
  return `${name}:1`;
}

/** A log in memory that is still there when the node that closed it starts again, as a disk is. */
export function surviving(log: Log): Log {
  return new Proxy<Log>(log, {
    get: (target, name: keyof Log) => (name === 'close' ? async () => undefined : target[name].bind(target)),
  });
}

export interface WorldNode {
  readonly node: PandoNode;
  readonly zfs: MemoryZfs;
  readonly log: Log;
  readonly identity: Identity;
  readonly pool: string;
  readonly warnings: string[];
}

export class MemoryWorld {
  readonly network = new MemoryNetwork();
  readonly #nodes: PandoNode[] = [];
  readonly #surroundings: Surroundings;

  constructor(surroundings = systemSurroundings) {
    this.#surroundings = surroundings;
  }

  /** Starts a node, anew or as what is left of another. Its pool is called as the node. */
  async start(
    name: string,
    former?: WorldNode,
    zfsOptions: MemoryZfsOptions = {},
    settings: Partial<NodeSettings> = {},
    compressor: Compressor = new MemoryCompressor(),
  ): Promise<WorldNode> {
    const identity = former?.identity ?? createIdentity();
    const zfs = former?.zfs ?? new MemoryZfs(zfsOptions);
    if (former === undefined) zfs.addPool(name);
    const log = former === undefined ? surviving(new MemoryLog()) : former.log;
    const warnings: string[] = [];
    const node = await PandoNode.open({
      adapters: {
        sealing: null,
        compressor,
        signer: identity,
        log,
        zfs,
        transport: this.network.transport(identity.node, addressOf(name), identity.keyProof),
      },
      settings: {
        version: 'test',
        listenHost: '127.0.0.1',
        directPort: null,
        observeEveryMs: NEVER_MS,
        follow: false,
        transfers: DEFAULT_TRANSFER_LIMITS,
        contributions: DEFAULT_ALLOWANCE,
        scratchDirectory: tmpdir(),
        snapshotterTree: null,
        ...settings,
      },
      reporter: { info: () => undefined, warn: (message) => warnings.push(message) },
      surroundings: this.#surroundings,
    });
    this.#nodes.push(node);
    await node.start();
    return { node, zfs, log, identity, pool: name, warnings };
  }

  async stop(): Promise<void> {
    for (const node of this.#nodes.splice(0)) await node.stop();
  }
}

/** Makes two nodes know each other; the owner shares all its trees with the follower. */
export async function introduce(owner: WorldNode, follower: WorldNode): Promise<void> {
  const link = { trustedLink: false };
  await owner.node.peers.add(
    { peer: follower.node.id, name: follower.pool, address: addressOf(follower.pool), ...link },
    [{ trees: '*', role: 'reader' }],
  );
  await follower.node.peers.add({
    peer: owner.node.id,
    name: owner.pool,
    address: addressOf(owner.pool),
    ...link,
  });
}

export function dataset(name: string): DatasetName {
  return name as DatasetName;
}

export function at(name: string, snapshot: string) {
  return { dataset: name as DatasetName, snapshot: snapshot as SnapshotName };
}

export const IMAGES = 'images' as TreeName;
export const ROOT = '' as RelativeName;

export interface SyncImagesOptions {
  readonly signal?: AbortSignal;
  /** Whether the owner looks at its ZFS first (default: it does). */
  readonly refresh?: boolean;
  readonly onProgress?: (progress: TransferProgress) => void;
  /** From whom, where `images` is mirrored from several. */
  readonly from?: WorldNode;
}

/** Syncs a mirror of `images`. */
export function syncImages(
  { node }: WorldNode,
  { signal = new AbortController().signal, refresh = true, onProgress = () => undefined, from }: SyncImagesOptions = {},
): Promise<SyncReport> {
  return node.mirrors.sync(IMAGES, { signal, refresh, onProgress, onPlan: () => undefined }, from?.node.id);
}

/** Something that is waited for in one place and let go on from another. */
export function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}

/** The code that a promise rejects with; throws when it does not reject with a PandoError. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof PandoError) return error.code;
    throw error;
  }
  throw new Error('did not reject');
}
