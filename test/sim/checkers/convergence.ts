import { basename, dirname } from 'node:path/posix';
import type { Mirror } from '../../../src/core/admin.ts';
import { isMovedHere } from '../../../src/core/graph/lineage.ts';
import {
  type DatasetId,
  type DatasetName,
  ID_PROPERTY,
  isHidden,
  isLineage,
  type RelativeName,
  relativeTo,
} from '../../../src/core/ids.ts';
import { FIRST_EPOCH } from '../../../src/core/ownership.ts';
import type { Contested } from '../../../src/core/plan/settled-names.ts';
import { DIVERGED_PROPERTY, listKeptAside } from '../../../src/transfer/preservation.ts';
import type { ListedDataset } from '../../../src/zfs/zfs.ts';
import type { Machine } from '../machine.ts';
import type { World } from '../world.ts';
import type { Checker, Finding } from './checker.ts';
import { takenOf } from './taken.ts';

/**
 * Invariant 3: what its peer has of a tree, a mirror has as well: the same names, origins, guids and order, as the two ZFS show them. Where a tree is mirrored from several peers, each
 * counts for what it owns. Where a mirror takes a part of it, or keeps some of the snapshots, that is there, and of all that is there the newest snapshot. A mirror may have more, since a receiver destroys nothing that it was not told to. What the node itself tells of as a conflict, as waiting, or as a
 * name that was given twice, is between people.
 */
export const convergence: Checker = {
  invariant: 3,
  async check(world) {
    const found: Finding[] = [];
    for (const machine of world.honest) {
      for (const mirror of world.mirrorsOf(machine)) {
        const differences = await differencesOf(world, machine, mirror);
        found.push(...differences.map((what) => ({ machine: machine.name, what: `${mirror.tree}: ${what}` })));
      }
    }
    return found;
  },
};

async function differencesOf(world: World, machine: Machine, mirror: Mirror): Promise<string[]> {
  const source = world.machineOf(mirror.from);
  const root = source.roots.get(mirror.tree);
  if (root === undefined) return ['its peer does not keep the tree'];
  const isAwaited = world.isFromHostile(source, mirror.tree);
  // What a peer in wrong hands began to send there waits for it to go on
  const theirs = (await tree(source, root)).filter((one) => !(isAwaited && isOnlyBegun(one)));
  const ours = await tree(machine, mirror.root);
  const aside = await listKeptAside(machine.zfs, mirror.root);
  return new Comparison({ world, machine, mirror, source, root, theirs, ours, aside }).run();
}

interface Compared {
  readonly world: World;
  readonly machine: Machine;
  readonly mirror: Mirror;
  readonly source: Machine;
  /** Where the source keeps the tree. */
  readonly root: DatasetName;
  readonly theirs: readonly ListedDataset[];
  readonly ours: readonly ListedDataset[];
  /** What the machine keeps aside of the tree. */
  readonly aside: readonly ListedDataset[];
}

class Comparison {
  readonly #of: Compared;
  readonly #isShared: boolean;
  readonly #follows: (id: string) => boolean;
  /** What this node itself tells of. */
  readonly #excused: ReadonlySet<string>;
  readonly #contested: readonly Contested[];
  /** Guids that the source has in several datasets, and those that it has in one. */
  readonly #copies: readonly string[];
  readonly #guids: ReadonlySet<string>;

  constructor(compared: Compared) {
    const { world, machine, mirror, source, theirs } = compared;
    this.#of = compared;
    this.#isShared = machine.shared.has(mirror.tree);
    this.#follows = followedBy(machine, source, mirror);
    this.#excused = toldOf(world, machine, mirror);
    const last = world.lastSyncs.find((sync) => sync.machine === machine && sync.mirror === mirror)?.report;
    this.#contested = last === undefined || last instanceof Error ? [] : last.plan.contested;
    const all = theirs.flatMap(({ snapshots }) => snapshots.map(({ guid }): string => guid));
    const times = new Map<string, number>();
    for (const guid of all) times.set(guid, (times.get(guid) ?? 0) + 1);
    this.#copies = all.filter((guid) => times.get(guid) !== 1);
    this.#guids = new Set(all.filter((guid) => times.get(guid) === 1));
  }

  run(): string[] {
    const { mirror, root, theirs } = this.#of;
    const taken = takenOf(theirs, root, mirror);
    const brought = theirs.filter((one) => this.#follows(idOf(one)) && taken.has(one.name));
    // A lineage holder comes with what hangs off it, once that has a snapshot, and that may come from another peer
    const clones = brought.filter((one) => one.snapshots.length > 0 && !this.#hangsElsewhere(one));
    const needed = new Set(clones.map(({ origin }) => origin?.reference.dataset));
    return brought
      .filter((one) => !this.#excused.has(idOf(one)))
      .flatMap((dataset) => this.#differences(dataset, needed));
  }

  #differences(dataset: ListedDataset, needed: ReadonlySet<DatasetName | undefined>): string[] {
    const { mirror, root } = this.#of;
    const copy = this.#copyOf(dataset);
    const name = relative(root, dataset);
    if (isHolder(name) && !needed.has(dataset.name)) return [];
    if (copy === undefined) return this.#isDisputed(dataset) ? [] : [`${name} is missing`];
    return [
      ...(this.#isCalledSo(dataset, copy) ? [] : [`${name} is called ${relative(mirror.root, copy)}`]),
      ...snapshotDifferences(name, withoutExcused(dataset, this.#lacking(dataset, copy)), copy),
      ...(this.#tellsOrigin(dataset, copy) ? originDifferences(root, dataset, copy, this.#guids) : []),
    ];
  }

  /** Whether a node in wrong hands, which this one mirrors as well, says that it owns what was not here before. */
  #isDisputed(dataset: ListedDataset): boolean {
    const { world, machine, mirror } = this.#of;
    const { hostile } = world;
    if (hostile === undefined) return false;
    const told = machine.node?.history
      .othersOf(mirror.tree)
      .get(hostile.id)
      ?.get(idOf(dataset) as DatasetId);
    return told?.owner.node === hostile.id;
  }

  #isCalledSo(dataset: ListedDataset, copy: ListedDataset): boolean {
    const { mirror, root, theirs, ours } = this.#of;
    const name = relative(root, dataset);
    if (relative(mirror.root, copy) === name || this.#isNamedTwice(name)) return true;
    return this.#isShared && isAtSamePlace({ dataset, all: theirs, copy, copies: ours });
  }

  #isNamedTwice(name: string): boolean {
    const { root, theirs } = this.#of;
    return isBelow(name, this.#contested, theirs, root);
  }

  /** What need not be in a copy, or cannot. */
  #lacking(dataset: ListedDataset, copy: ListedDataset): string[] {
    const { machine, mirror, source, ours } = this.#of;
    return [
      ...this.#copies,
      ...machine.guids.givenUp,
      ...heldBeside(ours, copy),
      ...olderThanAlone(dataset, copy, machine),
      ...(this.#isShared || this.#keepsSome(source) ? olderThanCommon(dataset, copy) : []),
      ...(mirror.keep === 'all' ? [] : notKept(dataset, copy)),
    ];
  }

  /** Whether it had grown from another dataset before that was kept aside for people. */
  #hangsOffAside({ name, origin }: ListedDataset): boolean {
    const aside = this.#of.aside.find((one) => one.name === origin?.reference.dataset);
    return aside !== undefined && aside.properties[DIVERGED_PROPERTY] !== name;
  }

  /** Whether a clone is here, and hangs off the same snapshot in something that is no lineage holder. */
  #hangsElsewhere(dataset: ListedDataset): boolean {
    const copy = this.#copyOf(dataset);
    const isSame = copy?.origin != null && copy.origin.guid === dataset.origin?.guid;
    return isSame && !hangsOffHolder(this.#of.mirror, copy);
  }

  #copyOf(dataset: ListedDataset): ListedDataset | undefined {
    return this.#of.ours.find((one) => idOf(one) === idOf(dataset));
  }

  /** A peer that is a replica itself, and keeps some of the snapshots, can come to have older ones: where it had to receive something anew. */
  #keepsSome(source: Machine): boolean {
    return source.mirrorsOf(this.#of.mirror.tree).some(({ keep }) => keep !== 'all');
  }

  #tellsOrigin(dataset: ListedDataset, copy: ListedDataset): boolean {
    const { machine, mirror, source } = this.#of;
    if (!source.trees.has(mirror.tree) && dataset.origin === null) return false;
    if (this.#hangsOffAside(copy) || isHolderOfOld(relative(mirror.root, copy), copy)) return false;
    if (!this.#isShared) return true;
    if (hangsOffHolder(mirror, copy)) return false;
    return dataset.origin !== null || !(isTakenOver(machine, mirror, copy) || hangsOffAnothers(machine, mirror, copy));
  }
}

/** The datasets that a machine tells of with a mirror. A lineage holder belongs to nobody, so that it does not matter with which mirror something is told of it. */
function toldOf(world: World, machine: Machine, mirror: Mirror): ReadonlySet<string> {
  const syncs = world.lastSyncs.filter((sync) => sync.machine === machine && sync.mirror.tree === mirror.tree);
  const told = syncs.flatMap(({ mirror: other, report }) => {
    if (report instanceof Error) return [];
    return [...report.plan.conflicts, ...report.plan.waiting].filter(({ name }) => other === mirror || isLineage(name));
  });
  // No simulated mirror lies at a pool, the one place where a root that diverged would have to stay
  return new Set(told.filter(({ reason }) => reason !== 'root-diverged').map(({ dataset }) => dataset));
}

/** As the replica of what its owner destroyed does, where a clone of another owner hangs off that. */
function hangsOffHolder({ root }: Mirror, { origin }: ListedDataset): boolean {
  return origin !== null && isHolder(relativeTo(root, origin.reference.dataset) ?? '');
}

/** What its owner has as a copy, since it was not the owner yet when it received it, others may have as the clone that it was. */
function isTakenOver(machine: Machine, { tree }: Mirror, copy: ListedDataset): boolean {
  const owner = machine.node?.trees.graph(tree).get(idOf(copy) as DatasetId)?.owner;
  return owner !== undefined && owner.epoch > FIRST_EPOCH;
}

/** One owner promoted what another took over meanwhile, and destroyed the origin of: neither gives way in what is its own. */
function hangsOffAnothers(machine: Machine, { tree, root }: Mirror, { name, origin }: ListedDataset): boolean {
  const graph = machine.node?.trees.graph(tree);
  const [own, others] = [name, origin?.reference.dataset].map((one) => {
    const place = one === undefined ? undefined : relativeTo(root, one);
    return place === undefined ? undefined : graph?.named(place)?.owner.node;
  });
  return own !== undefined && others !== undefined && own !== others;
}

/** A lineage holder that got its snapshots from a dataset that was here hangs off what that hung off. */
function isHolderOfOld(name: string, copy: ListedDataset): boolean {
  return isHolder(name) && isMovedHere(copy);
}

function isHolder(name: string): boolean {
  return isLineage(name as RelativeName);
}

/** Whether a mirror takes a dataset from its peer: the peer owns it, or this node mirrors the tree from nobody who does, and does not own it itself. */
function followedBy(machine: Machine, source: Machine, { tree, from }: Mirror): (id: string) => boolean {
  const peers = new Set(machine.mirrorsOf(tree).map((one) => one.from));
  const [ours, theirs] = [machine, source].map(({ node }) => node?.trees.graph(tree));
  return (id) => {
    const owner = (ours?.get(id as DatasetId) ?? theirs?.get(id as DatasetId))?.owner.node;
    return owner !== machine.id && (owner === undefined || owner === from || !peers.has(owner));
  };
}

function isOnlyBegun({ resumeToken, snapshots }: ListedDataset): boolean {
  return resumeToken !== null && snapshots.length === 0;
}

/** What people see of a tree; nothing when it is not there. */
async function tree({ zfs }: Machine, root: DatasetName): Promise<ListedDataset[]> {
  const [there] = await zfs.listOnly([root]);
  if (there === undefined) return [];
  return (await zfs.list(root)).filter(({ name }) => !isHidden(relativeTo(root, name) ?? ('' as RelativeName)));
}

/** Whether a name was given twice, to the dataset or to one above it: then the node tells what it is called there. */
function isBelow(
  name: string,
  contested: readonly Contested[],
  theirs: readonly ListedDataset[],
  root: DatasetName,
): boolean {
  const ids = new Set<string>(contested.map(({ dataset }) => dataset));
  const names = theirs.filter((one) => ids.has(idOf(one))).map((one) => relative(root, one));
  return names.some((one) => name === one || name.startsWith(`${one}/`));
}

function idOf({ name, properties }: ListedDataset): string {
  return properties[ID_PROPERTY] ?? `without an id: ${name}`;
}

function relative(root: DatasetName, { name }: ListedDataset): string {
  return relativeTo(root, name) || 'the root';
}

/** What a dataset that came as a copy lacks lies in the dataset that it would hang off. */
function heldBeside(ours: readonly ListedDataset[], copy: ListedDataset): string[] {
  return ours.flatMap(({ name, snapshots }) => (name === copy.name ? [] : snapshots.map(({ guid }) => guid)));
}

/** An origin that came alone, and is the first snapshot of a dataset now: nothing older can be received any more. */
function olderThanAlone(theirs: ListedDataset, ours: ListedDataset, { guids }: Machine): string[] {
  const first = ours.snapshots[0]?.guid;
  if (first === undefined || !guids.cameAlone.has(first)) return [];
  const at = theirs.snapshots.findIndex(({ guid }) => guid === first);
  return theirs.snapshots.slice(0, Math.max(0, at)).map(({ guid }) => guid);
}

/** What a rule on what is kept may leave out: all but the newest, and that too where the owner destroyed a newer one, which is here. */
function notKept({ snapshots }: ListedDataset, { snapshots: ours }: ListedDataset): string[] {
  const newest = ours.at(-1)?.creation ?? Number.NEGATIVE_INFINITY;
  return snapshots
    .filter((one, index) => index < snapshots.length - 1 || one.creation <= newest)
    .map(({ guid }) => guid);
}

/** What a former owner had destroyed before it was sent, and the next owner still has: a replica that has newer ones cannot receive it any more. */
function olderThanCommon(theirs: ListedDataset, ours: ListedDataset): string[] {
  const here = new Set(ours.snapshots.map(({ guid }) => guid));
  const at = theirs.snapshots.findLastIndex(({ guid }) => here.has(guid));
  return theirs.snapshots.slice(0, Math.max(0, at)).flatMap(({ guid }) => (here.has(guid) ? [] : [guid]));
}

/** A dataset and its copy, each with all that is there beside it. */
interface Places {
  readonly dataset: ListedDataset;
  readonly all: readonly ListedDataset[];
  readonly copy: ListedDataset;
  readonly copies: readonly ListedDataset[];
}

/** Whether both are called the same below the same dataset: that may have another name where its owner has one of that name itself. */
function isAtSamePlace({ dataset, all, copy, copies }: Places): boolean {
  const above = idAbove(dataset, all);
  return above !== null && above === idAbove(copy, copies) && basename(dataset.name) === basename(copy.name);
}

function idAbove(dataset: ListedDataset, all: readonly ListedDataset[]): string | null {
  const parent = all.find(({ name }) => name === dirname(dataset.name));
  return parent === undefined ? null : idOf(parent);
}

/**
 * What was destroyed by hand on the machine of the mirror does not come again, once the mirror has newer snapshots. What its peer keeps several copies of
 * may be here once.
 */
function withoutExcused(dataset: ListedDataset, excused: readonly string[]): ListedDataset {
  const without = new Set(excused);
  return { ...dataset, snapshots: dataset.snapshots.filter(({ guid }) => !without.has(guid)) };
}

function snapshotDifferences(name: string, theirs: ListedDataset, ours: ListedDataset): string[] {
  const wanted = theirs.snapshots.map(({ guid, name: snapshot }) => `${guid} ${snapshot}`);
  const guids = new Set(theirs.snapshots.map(({ guid }) => guid));
  const there = ours.snapshots
    .filter(({ guid }) => guids.has(guid))
    .map(({ guid, name: snapshot }) => `${guid} ${snapshot}`);
  return wanted.join() === there.join() ? [] : [`${name} has ${there.join(', ')} instead of ${wanted.join(', ')}`];
}

/** A copy may stand alone, and hang off what its owner has no more. Where a peer that is a replica itself has a copy, this one may have the clone. */
function originDifferences(
  root: DatasetName,
  theirs: ListedDataset,
  ours: ListedDataset,
  guids: ReadonlySet<string>,
): string[] {
  const there = ours.origin?.guid ?? null;
  if (there === null || there === theirs.origin?.guid || !guids.has(there)) return [];
  return [`${relative(root, theirs)} hangs off ${there} instead of ${theirs.origin?.guid ?? 'nothing'}`];
}
