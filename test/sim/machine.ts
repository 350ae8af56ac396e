/** A machine that a node runs on: its pool, its disk with the log, its key and its clock outlive the node's process. */

import {
  type LocalTree,
  type Mirror,
  type MirrorKey,
  mirrorKey,
  mirrorsOf,
  type Peer,
  rootsOf,
} from '../../src/core/admin.ts';
import type { Signer } from '../../src/core/codec/chain.ts';
import { describeError, isPandoError } from '../../src/core/errors.ts';
import type { Role } from '../../src/core/grants.ts';
import { type DatasetName, isLineage, type NodeId, relativeTo, type TreeName } from '../../src/core/ids.ts';
import { PandoNode } from '../../src/main/node.ts';
import { MemoryCompressor } from '../../src/transfer/compression/memory-compressor.ts';
import { DEFAULT_TRANSFER_LIMITS } from '../../src/transfer/limits.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { DurableLog } from './durable-log.ts';
import { Effects } from './effects.ts';
import { GuidWatch, type Keeping } from './guid-watch.ts';
import { Hostility } from './hostile/hostility.ts';
import { Life } from './life.ts';
import type { SimulatedNetwork } from './network.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import type { SimulatedSignatures } from './signatures.ts';
import type { Trace } from './trace.ts';

/** 2026-01-01T00:00:00Z in ms: where clocks that are right begin. */
const BEGINNING_UNIX_MS = 1_767_225_600_000;
/** As configured by default. */
const OBSERVE_EVERY_MS = 5_000;
/** After this time, in ms, a person tries again what was refused. */
const PERSON_RETRIES_MS = 5_000;

/** Far above what people make in a world: what a limit leaves out has tests of its own. */
const UNLIMITED = { filesystems: 10_000, snapshots: 100_000 };

/** What every machine of a world shares. */
export interface MachineOptions {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly trace: Trace;
  readonly network: SimulatedNetwork;
  readonly signatures: SimulatedSignatures;
  /** Chance for what a node does that fell into wrong hands; null for one that did not. */
  readonly hostile: Random | null;
  /** Takes what must never happen. */
  readonly accuse: (invariant: number, what: string) => void;
}

/** What no peer and no ZFS can bring about: a node that contradicts itself. */
const OWN_FAULTS: ReadonlySet<unknown> = new Set(['INTERNAL', 'EVENT_INVALID']);

export class Machine {
  readonly name: string;
  readonly signer: Signer;
  readonly zfs: MemoryZfs;
  readonly log = new DurableLog();
  readonly guids: GuidWatch;
  /** What its node does to others, where it fell into wrong hands. */
  readonly hostility: Hostility | null;
  /** What its operator wants: said again whenever the node has forgotten it. */
  readonly peers = new Map<NodeId, Peer>();
  readonly trees = new Map<TreeName, LocalTree>();
  readonly mirrors = new Map<MirrorKey, Mirror>();
  /** Trees of those in which others own datasets too: whoever works here changes only what is this node's own. */
  readonly shared = new Set<TreeName>();
  /** What its peers may do in all its trees: by default they read them, and bring what they own into them. */
  peersMay: Role = 'contributor';
  /** Trees of which all that it hears comes by way of a node in wrong hands: it believes what that says. */
  readonly deceived = new Set<TreeName>();
  /** Whether its log has lost something: also, maybe, that this node took over what can be written to here. */
  hasForgotten = false;
  /** By how much its clock is wrong, in ms. */
  skewMs = 0;
  readonly #options: MachineOptions;
  #life: Life | null = null;
  #node: PandoNode | null = null;
  #isRetired = false;
  /** What its node waits for. Whatever is kept for a peer, and let go in time, has one of these. */
  #timers = new Set<object>();
  /** The most of them that there were at a time. */
  timersMax = 0;

  constructor(options: MachineOptions) {
    const { name, random, scheduler, signatures, trace, hostile, accuse } = options;
    this.name = name;
    this.#options = options;
    this.signer = signatures.createSigner(random);
    this.hostility = hostile === null ? null : new Hostility(hostile, this.signer);
    this.zfs = new MemoryZfs({ random: random.bits64, now: () => BEGINNING_UNIX_MS + scheduler.now() });
    this.zfs.addPool(name);
    this.guids = new GuidWatch({
      zfs: this.zfs,
      pool: name as DatasetName,
      now: scheduler.now,
      keepingOf: (dataset) => this.#keepingOf(dataset as DatasetName),
      accuse: (lost) => {
        trace.note(scheduler.now(), name, `lost ${lost}`);
        if (hostile === null) accuse(1, lost);
      },
    });
  }

  get id(): NodeId {
    return this.signer.node;
  }

  get address(): string {
    return `${this.name}:1`;
  }

  /** Where it keeps each tree, those of its own and those it mirrors. */
  get roots(): ReadonlyMap<TreeName, DatasetName> {
    return rootsOf(this);
  }

  /** Its mirrors of one tree. */
  mirrorsOf(tree: TreeName): Mirror[] {
    return mirrorsOf(this, tree);
  }

  /** The node while it is up. */
  get node(): PandoNode | null {
    return this.#node;
  }

  /** Whether its process runs, though it may still be starting. */
  get isRunning(): boolean {
    return this.#life !== null;
  }

  /** Starts the node's process, and has its operator say what it has forgotten. Resolves once it is up, or gone. */
  async start(): Promise<void> {
    if (this.#life !== null || this.#isRetired) return;
    const life = new Life();
    this.#life = life;
    this.#note('start');
    try {
      const node = await this.#open(life);
      await node.start();
      this.#node = node;
      this.#note('is up');
      await this.#configure(node, life);
    } catch (error) {
      if (!life.isOver) this.#options.accuse(0, `does not start: ${describeError(error)}`);
    }
  }

  /** Ends the process at once, as kill -9 or a loss of power does. */
  crash(): void {
    if (this.#life === null) return;
    this.#note('crash');
    this.#life.end();
    this.#options.network.wires.unplug(this.id, this.address);
    this.#gone();
  }

  /** Ends the process, and nobody starts it again. */
  retire(): void {
    this.#isRetired = true;
    this.crash();
  }

  /** Asks the node to stop, as SIGTERM does; resolves once it has. */
  async stop(): Promise<void> {
    const life = this.#life;
    const node = this.#node;
    if (life === null || node === null) return;
    this.#note('stop');
    this.#node = null;
    await node.stop();
    if (life.isOver) return;
    life.end();
    this.#gone();
  }

  /** What the node tells its operator. An error with a stack was foreseen by nobody (invariant 7). */
  #reported(message: string, facts: object = {}): void {
    const { trace, scheduler, name, accuse } = this.#options;
    trace.remark(scheduler.now(), name, () => message);
    const isOwnFault = 'stack' in facts || ('code' in facts && OWN_FAULTS.has(facts.code));
    if (isOwnFault && this.hostility === null) accuse(7, `${message} ${JSON.stringify(facts)}`);
  }

  #after(ms: number, task: () => void, life: Life): () => void {
    const { scheduler, trace, name } = this.#options;
    const waiting = {};
    this.#timers.add(waiting);
    this.timersMax = Math.max(this.timersMax, this.#timers.size);
    const cancel = scheduler.after(ms, () => {
      this.#timers.delete(waiting);
      if (life.isOver) return;
      trace.note(scheduler.now(), name, 'timer');
      task();
    });
    return () => {
      this.#timers.delete(waiting);
      cancel();
    };
  }

  /**
   * Whoever tells of clones that never come can have lineage holders received, and given up when it tells otherwise. So can one of several owners, whose clone comes
   * before the dataset that it hangs off.
   */
  #keepingOf(dataset: DatasetName): Keeping[] {
    return Array.from(this.mirrors.values()).flatMap(({ tree, root, keep, graceMs }): Keeping[] => {
      const name = relativeTo(root, dataset);
      if (name === undefined) return [];
      const isShared = this.shared.has(tree);
      const owner = this.#node?.trees.graph(tree).named(name)?.owner.node;
      if (isShared && owner === this.id && !isLineage(name)) return [];
      const isFleeting = isLineage(name) && (this.deceived.has(tree) || isShared);
      return [{ keep, graceMs: isFleeting ? 0 : graceMs, isShared }];
    });
  }

  #gone(): void {
    this.#life = null;
    this.#node = null;
    this.#timers = new Set();
  }

  /** How many things its node waits for now. */
  get timers(): number {
    return this.#timers.size;
  }

  #open(life: Life): Promise<PandoNode> {
    const { network, random, scheduler, signatures, trace, name } = this.#options;
    const effects = new Effects({
      name,
      life,
      scheduler,
      random: random.fork(),
      trace,
      watch: (command, given, act) => this.guids.watch(command, given, act),
    });
    const { hostility } = this;
    const zfs = effects.zfs(this.zfs);
    const transport = network.transport(this.id, this.address, life);
    const chance = random.fork();
    return PandoNode.open({
      adapters: {
        sealing: null,
        compressor: new MemoryCompressor(),
        signer: this.signer,
        isSigned: signatures.isSigned,
        log: effects.log(this.log),
        zfs: hostility?.zfs(zfs) ?? zfs,
        transport: hostility?.transport(transport) ?? transport,
      },
      settings: {
        version: 'simulated',
        listenHost: name,
        directPort: null,
        observeEveryMs: OBSERVE_EVERY_MS,
        follow: true,
        contributions: UNLIMITED,
        scratchDirectory: '/nowhere',
        snapshotterTree: null,
        transfers: DEFAULT_TRANSFER_LIMITS,
      },
      reporter: {
        info: (message, facts) => this.#reported(message, facts),
        warn: (message, facts) => this.#reported(message, facts),
      },
      surroundings: {
        now: () => BEGINNING_UNIX_MS + scheduler.now() + this.skewMs,
        timers: {
          now: scheduler.now,
          after: (ms, task) => this.#after(ms, task, life),
        },
        random: chance.fraction,
        randomBytes: chance.bytes,
      },
    });
  }

  /** Says what the operator wants and the node does not know (any more), until it does. */
  async #configure(node: PandoNode, life: Life): Promise<void> {
    while (!life.isOver && !this.#knowsAll(node)) {
      try {
        await this.#tell(node);
      } catch (error) {
        if (!isPandoError(error)) throw error;
        this.#options.trace.remark(this.#options.scheduler.now(), this.name, () => `operator: ${error.message}`);
        await this.#options.scheduler.pause(PERSON_RETRIES_MS);
      }
    }
  }

  #knowsAll(node: PandoNode): boolean {
    const trees = new Set(node.trees.list().map(({ tree }) => tree));
    const mirrors = new Set(node.mirrors.list().map(mirrorKey));
    return (
      Array.from(this.peers.keys()).every((peer) => node.peers.get(peer) !== undefined) &&
      Array.from(this.trees.keys()).every((tree) => trees.has(tree)) &&
      Array.from(this.mirrors.keys()).every((mirror) => mirrors.has(mirror))
    );
  }

  async #tell(node: PandoNode): Promise<void> {
    const kept = new Set(node.trees.list().map(({ tree }) => tree));
    const mirrored = new Set(node.mirrors.list().map(mirrorKey));
    for (const peer of this.peers.values())
      if (node.peers.get(peer.peer) === undefined) await node.peers.add(peer, [{ trees: '*', role: this.peersMay }]);
    for (const tree of this.trees.values()) if (!kept.has(tree.tree)) await node.trees.add(tree);
    for (const [key, mirror] of this.mirrors) if (!mirrored.has(key)) await node.mirrors.add(mirror);
  }

  #note(what: string): void {
    this.#options.trace.note(this.#options.scheduler.now(), this.name, what);
  }
}
