/** Machines, what their operators want of them, and the network between them. */
import { type Mirror, mirrorKey } from '../../src/core/admin.ts';
import type { KeepRule, MirrorRules } from '../../src/core/events.ts';
import type { DatasetName, NodeId, TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { SyncReport } from '../../src/features/mirrors/mirror-syncs.ts';
import { Machine } from './machine.ts';
import { SimulatedNetwork } from './network.ts';
import type { Random } from './random.ts';
import { Scheduler } from './scheduler.ts';
import { SimulatedSignatures } from './signatures.ts';
import type { Trace } from './trace.ts';

/** How many peers know only that the other one will dial. */
const WITHOUT_ADDRESS = 0.2;
/** Of how many mirrors the peer is a replica itself. */
const OF_REPLICAS = 0.3;
/** How many of the mirrors that follow a node in wrong hands, or have rules at all, give up what their peer gave up, and after how many ms at least and at most. */
const GIVING_UP = 0.5;
const GRACE_MS_MIN = 2_000;
const GRACE_MS_MAX = 40_000;
/** Where operators keep and take what they decide: of how many mirrors so many snapshots are kept, what is given up goes, or only a part is taken. */
const KEEPING_SOME = 0.3;
const KEEP_RULES: readonly KeepRule[] = [{ last: 1 }, { last: 3 }, { last: 2, hourly: 1 }];
const TAKING_SOME = 0.4;
/** Names of the simulated world end with digits, so that each of these selects some. */
const SOME_GLOBS = ['**/*[0-2]', '**/*[3-6]', '**/*[7-9]', '*[0-4]', 'd*/**', '**/c*'];
/** Trees that one node mirrors at most, beside its own. */
const MIRRORS_MAX = 3;

/** Nodes in a team: each mirrors the one tree from each other. */
const TEAM_NODES = 4;

/**
 * Who mirrors whose trees. `star`: all mirror one; `chain`: each mirrors from the one before; `ring`: each its neighbour's own; `mesh`: anybody anything. `team`: a few work in one
 * tree, each owns a part of it, brings that to all others, and may take over what they own.
 */
export const TOPOLOGIES = ['star', 'chain', 'ring', 'mesh', 'mesh', 'team', 'team'] as const;
export type Topology = (typeof TOPOLOGIES)[number];

/** A violated invariant. */
export interface Violation {
  /** By its number in design §12, or 0 for what must never happen anyway. */
  readonly invariant: number;
  readonly machine: string;
  readonly what: string;
}

/** Which machine's node fell into wrong hands, and the chance for what it does. */
export interface Hostile {
  readonly index: number;
  readonly random: Random;
}

export interface WorldOptions {
  readonly hostile?: Hostile | null;
  readonly rules?: Random | null;
}

/** How a mirror was brought up to date for the last time, or why it was not. */
export interface LastSync {
  readonly machine: Machine;
  readonly mirror: Mirror;
  readonly report: SyncReport | Error;
}

export class World {
  readonly scheduler = new Scheduler();
  readonly network: SimulatedNetwork;
  readonly machines: readonly Machine[];
  readonly violations: Violation[] = [];
  /** What was left to do once the world had come to rest. */
  lastSyncs: readonly LastSync[] = [];
  readonly trace: Trace;
  readonly random: Random;

  /** Chance for what the mirrors keep and take; null where they take all, and for ever. */
  readonly #rules: Random | null;

  constructor(random: Random, trace: Trace, nodes: number, { hostile = null, rules = null }: WorldOptions = {}) {
    const names = new Map<NodeId, string>();
    const signatures = new SimulatedSignatures();
    const { scheduler } = this;
    this.random = random;
    this.#rules = rules;
    this.trace = trace;
    this.network = new SimulatedNetwork({
      scheduler,
      random: random.fork(),
      trace,
      nameOf: (node) => names.get(node) ?? '?',
    });
    this.machines = Array.from({ length: nodes }, (_, index) => {
      const name = `n${index}`;
      const machine = new Machine({
        name,
        scheduler,
        random: random.fork(),
        trace,
        network: this.network,
        signatures,
        hostile: hostile?.index === index ? hostile.random : null,
        accuse: (invariant, what) => this.violations.push({ invariant, machine: name, what }),
      });
      names.set(machine.id, name);
      return machine;
    });
  }

  /** Those whose nodes do as they should, and are judged. */
  get honest(): readonly Machine[] {
    return this.machines.filter(({ hostility }) => hostility === null);
  }

  /** The machine whose node fell into wrong hands. */
  get hostile(): Machine | undefined {
    return this.machines.find(({ hostility }) => hostility !== null);
  }

  readonly machineOf = (node: NodeId): Machine => {
    const found = this.machines.find(({ id }) => id === node);
    if (found === undefined) throw new Error(`There is no machine of node ${node}.`);
    return found;
  };

  /** Creates trees and starts all nodes, with nothing in the way. */
  async build(topology: Topology): Promise<void> {
    this.#connect(topology);
    for (const { zfs, trees } of this.machines) for (const { root } of trees.values()) await zfs.create(root);
    await this.scheduler.until(Promise.all(this.machines.map((machine) => machine.start())));
  }

  /** Looks whether a snapshot is gone from a machine since this was last asked, though nobody destroyed it there (invariant 1). */
  async countGuids({ name, guids, hostility }: Machine): Promise<void> {
    if (hostility !== null) return;
    for (const guid of await guids.missing()) {
      this.violations.push({ invariant: 1, machine: name, what: `snapshot ${guid} is gone` });
    }
  }

  /** Has every mirror brought up to date once more, its peer looking first. What is mirrored from a peer in wrong hands is left. */
  async syncAll(): Promise<void> {
    const syncs: Promise<LastSync>[] = [];
    for (const machine of this.honest) {
      for (const mirror of this.mirrorsOf(machine)) syncs.push(syncOnce(machine, mirror));
    }
    this.lastSyncs = await this.scheduler.until(Promise.all(syncs));
  }

  /** What a machine mirrors from peers that do as they should. */
  mirrorsOf(machine: Machine): Mirror[] {
    return Array.from(machine.mirrors.values()).filter(({ from }) => from !== this.hostile?.id);
  }

  /** Whether a machine mirrors a tree from a peer in wrong hands. */
  isFromHostile(machine: Machine, tree: TreeName): boolean {
    return machine.mirrorsOf(tree).some(({ from }) => from === this.hostile?.id);
  }

  /** Pairs of machines that know each other. */
  links(): (readonly [Machine, Machine])[] {
    return this.machines.flatMap((machine) =>
      Array.from(machine.peers.keys()).flatMap((peer) =>
        machine.id < peer ? [[machine, this.machineOf(peer)] as const] : [],
      ),
    );
  }

  #connect(topology: Topology): void {
    const { machines } = this;
    const [first] = machines;
    if (first === undefined) throw new Error('A world needs a machine.');
    machines.forEach((machine, index) => {
      const before = machines[index - 1] ?? (machines.at(-1) as Machine);
      switch (topology) {
        case 'star':
          if (index === 0) own(machine);
          else this.#mirror(machine, first, ownTree(first));
          return;
        case 'chain':
          if (index === 0) own(machine);
          else this.#mirror(machine, before, ownTree(first));
          return;
        case 'ring':
          own(machine);
          if (before !== machine) this.#mirror(machine, before, ownTree(before));
          return;
        case 'mesh':
          own(machine);
          this.#mirrorSome(machine, index);
          return;
        case 'team':
          if (index % TEAM_NODES === 0) this.#gather(machines.slice(index, index + TEAM_NODES));
      }
    });
  }

  /** Has machines work in one tree, that of the first of them. */
  #gather(team: readonly Machine[]): void {
    const [first] = team;
    if (first === undefined) return;
    own(first);
    const tree = ownTree(first);
    // Whoever may take over all that others own need not do it by foul means
    const isTrusted = team.every(({ hostility }) => hostility === null);
    for (const machine of team) {
      machine.peersMay = isTrusted ? 'standby' : 'contributor';
      machine.shared.add(tree);
      for (const other of team) if (other !== machine) this.#mirror(machine, other, tree);
    }
  }

  /** Mirrors some trees of the machines before it, so that no circle of mirrors arises, each from its owner or from another replica. */
  #mirrorSome(machine: Machine, index: number): void {
    const { random } = this;
    const before = this.machines.slice(0, index);
    for (let count = Math.min(before.length, 1 + random.below(MIRRORS_MAX)); count > 0; count -= 1) {
      const owner = random.pick(before);
      const tree = ownTree(owner);
      if (machine.roots.has(tree)) continue;
      const replicas = before.filter((other) => other.mirrorsOf(tree).length > 0);
      const source = replicas.length > 0 && random.chance(OF_REPLICAS) ? random.pick(replicas) : owner;
      this.#mirror(machine, source, tree);
    }
  }

  #mirror(machine: Machine, source: Machine, tree: TreeName): void {
    introduce(source, machine, this.random.chance(WITHOUT_ADDRESS) ? null : machine.address);
    introduce(machine, source, source.address);
    const isHostiles = source.hostility !== null || source.deceived.has(tree);
    // In a team it hears the others too
    if (isHostiles && !machine.shared.has(tree)) machine.deceived.add(tree);
    const mirror: Mirror = {
      tree,
      from: source.id,
      root: machine.roots.get(tree) ?? (`${machine.name}/of-${tree}` as DatasetName),
      ...(this.#rules === null ? EVERYTHING : someRules(this.#rules)),
      ...(source.hostility?.random.chance(GIVING_UP) && {
        graceMs: Math.round(source.hostility.random.between(GRACE_MS_MIN, GRACE_MS_MAX)),
      }),
    };
    machine.mirrors.set(mirrorKey(mirror), mirror);
  }
}

function someRules(random: Random): MirrorRules {
  const globs = (): string[] => (random.chance(TAKING_SOME) ? [random.pick(SOME_GLOBS)] : []);
  return {
    only: globs(),
    except: globs(),
    keep: random.chance(KEEPING_SOME) ? random.pick(KEEP_RULES) : 'all',
    graceMs: random.chance(GIVING_UP) ? Math.round(random.between(GRACE_MS_MIN, GRACE_MS_MAX)) : null,
  };
}

async function syncOnce(machine: Machine, mirror: Mirror): Promise<LastSync> {
  const { signal } = new AbortController();
  const quiet = { onProgress: () => undefined, onPlan: () => undefined };
  try {
    if (machine.node === null) throw new Error('the node is not up');
    const { tree, from } = mirror;
    const report = await machine.node.mirrors.sync(tree, { ...quiet, signal, refresh: true }, from);
    return { machine, mirror, report };
  } catch (error) {
    return { machine, mirror, report: error instanceof Error ? error : new Error(String(error)) };
  }
}

/** The tree that a machine owns. */
export function ownTree({ name }: Machine): TreeName {
  return `tree-${name}` as TreeName;
}

function own(machine: Machine): void {
  const tree = ownTree(machine);
  machine.trees.set(tree, { tree, root: `${machine.name}/own` as DatasetName });
}

/** Has one machine's operator add another as a peer. */
function introduce(machine: Machine, peer: Machine, address: string | null): void {
  const known = machine.peers.get(peer.id)?.address ?? null;
  machine.peers.set(peer.id, {
    peer: peer.id,
    name: peer.name,
    address: known ?? address,
    trustedLink: false,
  });
}
