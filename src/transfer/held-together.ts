/** Which snapshots are held one by one, and which with all of their name: a hold of many takes ZFS one transaction where it reaches down from one of them. */
import { compareNames, type Graph } from '../core/graph/graph.ts';
import { absoluteName, type DatasetName, type RelativeName, type SnapshotName } from '../core/ids.ts';
import type { SnapshotReference } from '../zfs/zfs.ts';
import { type HeldSnapshot, type Holds, snapshotsOnce } from './holds.ts';
import { snapshotText } from './snapshot-text.ts';

/** Fewer snapshots than this are held one by one: ZFS does that side by side. */
const TOGETHER_MIN = 8;
/** How much of what is held together must be needed: what is not cannot be destroyed either while the transfer lasts. */
const NEEDED_SHARE_MIN = 1 / 4;

/** What is held goes into one event with the rest of an intent (EVENT_BYTES_MAX): what is not needed goes along only up to this many bytes of names. */
const HELD_BYTES_MAX = 96 * 1024;
/** What an entry takes beside its name, in bytes: its guid, and the keys of both. */
const ENTRY_BYTES = 40;

/** Of one snapshot name: a dataset that has it. */
interface Carrier {
  readonly name: RelativeName;
  readonly held: HeldSnapshot;
  readonly isNeeded: boolean;
}

/**
 * How to hold what a transfer needs of the tree at `root`, and of elsewhere. With it may go what has the same name there, as far as `graph` knows it: then it counts as
 * held. Of those that reach down none lies below another of its name.
 */
export function heldTogether(
  needed: readonly HeldSnapshot[],
  { graph, root }: { readonly graph: Graph; readonly root: DatasetName },
): Holds {
  const once = snapshotsOnce(needed);
  const [held, tops]: [HeldSnapshot[], SnapshotReference[]] = [[...once], []];
  for (const carriers of carriersOf(once, graph, root)) {
    for (const together of togetherAmong(carriers)) {
      tops.push(together[0].held);
      held.push(...together.flatMap((carrier) => (carrier.isNeeded ? [] : [carrier.held])));
    }
  }
  return bytesOf(held) <= HELD_BYTES_MAX ? { held, tops } : { held: once, tops: [] };
}

/** As the journal writes them, where each character is a byte. */
function bytesOf(held: readonly HeldSnapshot[]): number {
  return held.reduce((sum, snapshot) => sum + snapshotText(snapshot).length + ENTRY_BYTES, 0);
}

/** For each name that is needed often enough: all datasets known to have it, a parent right before its children. */
function carriersOf(needed: readonly HeldSnapshot[], graph: Graph, root: DatasetName): Iterable<readonly Carrier[]> {
  const neededOf = new Map<SnapshotName, Set<DatasetName>>();
  for (const { dataset, snapshot } of needed) {
    neededOf.set(snapshot, (neededOf.get(snapshot) ?? new Set()).add(dataset));
  }
  const often = new Map<SnapshotName, Carrier[]>();
  for (const [snapshot, datasets] of neededOf) if (datasets.size >= TOGETHER_MIN) often.set(snapshot, []);
  if (often.size === 0) return [];
  for (const { name, snapshots } of graph.datasets.values()) {
    const dataset = absoluteName(root, name);
    for (const { guid, name: snapshot } of snapshots) {
      const isNeeded = neededOf.get(snapshot)?.has(dataset) === true;
      often.get(snapshot)?.push({ name, held: { dataset, snapshot, guid }, isNeeded });
    }
  }
  return Array.from(often.values(), (carriers) => carriers.sort((a, b) => compareNames(a.name, b.name)));
}

/** The largest parts that are worth it: each begins with the one that the others lie below. */
function togetherAmong(carriers: readonly Carrier[]): (readonly [Carrier, ...Carrier[]])[] {
  const found: (readonly [Carrier, ...Carrier[]])[] = [];
  let index = 0;
  for (let top = carriers[0]; top !== undefined; top = carriers[index]) {
    const below = carriersBelow(carriers, index);
    const needed = [top, ...below].filter(({ isNeeded }) => isNeeded).length;
    if (needed >= TOGETHER_MIN && needed >= (below.length + 1) * NEEDED_SHARE_MIN) {
      found.push([top, ...below]);
      index += below.length;
    }
    index += 1;
  }
  return found;
}

function carriersBelow(carriers: readonly Carrier[], top: number): readonly Carrier[] {
  const prefix = carriers[top]?.name === '' ? '' : `${carriers[top]?.name}/`;
  let end = top + 1;
  while (carriers[end]?.name.startsWith(prefix) === true) end += 1;
  return carriers.slice(top + 1, end);
}
