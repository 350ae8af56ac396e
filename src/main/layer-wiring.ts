/** The layer store and containerd's snapshots, joined with each other and with the rest of a node. */
import { type DatasetName, type RelativeName, relativeTo, type TreeName } from '../core/ids.ts';
import { layerBelow } from '../features/layers/layer-below.ts';
import type { LayerStore } from '../features/layers/layer-stores.ts';
import { Layers, type LayersOptions } from '../features/layers/layers.ts';
import type { SnapshotJournal } from '../features/snapshots/snapshot-journal.ts';
import { Snapshots } from '../features/snapshots/snapshots.ts';
import type { Timers } from '../sync/timers.ts';
import { LookSoon } from './look-soon.ts';

const NANOSECONDS_PER_MS = 1_000_000n;

export interface LayerWiringOptions extends Omit<LayersOptions, 'isInUse'> {
  readonly snapshots: SnapshotJournal;
  /** The tree of the store that snapshots are kept in; null for the one where there are some, or the first. */
  readonly snapshotterTree: TreeName | null;
  readonly timers: Timers;
  readonly mintUuid: () => string;
}

export interface LayerWiring {
  readonly layers: Layers;
  readonly snapshots: Snapshots;
  readonly lookSoon: LookSoon;
}

export function wireLayers({
  snapshots: journal,
  snapshotterTree,
  timers,
  mintUuid,
  ...parts
}: LayerWiringOptions): LayerWiring {
  const lookSoon = new LookSoon(timers, parts.look);
  const isInUse = (dataset: DatasetName): boolean =>
    layers.stores.list().some(({ root }) => {
      const name = relativeTo(root, dataset);
      return name !== undefined && snapshots.isKeptIn(name);
    });
  const layers: Layers = new Layers({ ...parts, isInUse });
  const store = (): LayerStore => {
    const tree = snapshotterTree ?? journal.tree ?? layers.stores.list()[0]?.tree;
    return layers.stores.require(tree);
  };
  const snapshots: Snapshots = new Snapshots({
    zfs: parts.zfs,
    journal,
    store,
    hasLayer: (layer) => layers.stores.has(store(), layer),
    // Containerd asks again where it lost patience, and what came meanwhile is here then
    fetchLayer: (layer) => layers.stores.fetch(store(), layer, new AbortController().signal),
    keeping: (layer, task) => layers.keeping(layer, task),
    layerBelow: (layer) => layerBelow(parts.graph(store().tree), store(), layer),
    lookSoon: (names: readonly RelativeName[]) => lookSoon.add(store().tree, names),
    collectGarbage: () => layers.collectGarbage(store(), { isDryRun: false, ofContainerd: true }),
    mintUuid,
    now: () => BigInt(parts.history.now()) * NANOSECONDS_PER_MS,
    warn: parts.warn,
  });
  return { layers, snapshots, lookSoon };
}
