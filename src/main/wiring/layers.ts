/** The layer store and containerd's snapshots, joined with each other and with the rest of a node. */
import {
  type DatasetName,
  parseDatasetId,
  parseTransferId,
  type RelativeName,
  relativeTo,
  type TreeName,
} from '../../core/ids.ts';
import { layerBelow } from '../../features/layers/layer-below.ts';
import type { LayerStore } from '../../features/layers/layer-stores.ts';
import { Layers } from '../../features/layers/layers.ts';
import type { Mirrors } from '../../features/mirrors/mirrors.ts';
import { Snapshots } from '../../features/snapshots/snapshots.ts';
import type { Trees } from '../../features/trees/trees.ts';
import type { NodeBase } from './base.ts';
import { LookSoon } from './look-soon.ts';
import type { Looks } from './looks.ts';

const NANOSECONDS_PER_MS = 1_000_000n;

interface LayerWiringOptions {
  readonly trees: Trees;
  readonly mirrors: Mirrors;
  readonly looks: Looks;
}

export interface LayerWiring {
  readonly layers: Layers;
  readonly snapshots: Snapshots;
  readonly lookSoon: LookSoon;
}

export function wireLayers(base: NodeBase, options: LayerWiringOptions): LayerWiring {
  const { looks } = options;
  const look = (tree: TreeName, names: readonly RelativeName[]) => looks.at(tree, names, 'command');
  const lookSoon = new LookSoon(base.surroundings.timers, look);
  const isInUse = (dataset: DatasetName): boolean =>
    layers.stores.list().some(({ root }) => {
      const name = relativeTo(root, dataset);
      return name !== undefined && snapshots.isKeptIn(name);
    });
  const layers = createLayers(base, options, isInUse);
  const snapshots = createSnapshots(base, options, layers, lookSoon);
  return { layers, snapshots, lookSoon };
}

function createLayers(
  base: NodeBase,
  { trees, mirrors, looks }: LayerWiringOptions,
  isInUse: (dataset: DatasetName) => boolean,
): Layers {
  const { adapters, admin, history, mintUuid, reporter, settings, transfers } = base;
  return new Layers({
    history,
    admin,
    journal: transfers,
    zfs: adapters.zfs,
    compressor: adapters.compressor,
    scratch: settings.scratchDirectory,
    rootOf: (tree) => trees.rootOf(tree),
    graph: (tree) => trees.graph(tree),
    others: (tree) => history.othersOf(tree),
    isReceiving: (tree) => mirrors.isReceiving(tree),
    isInUse,
    fetch: (tree, name, signal) => mirrors.fetch(tree, name, signal),
    look: (tree, names) => looks.at(tree, names, 'command'),
    mintDatasetId: () => parseDatasetId(mintUuid()),
    mintTransferId: () => parseTransferId(mintUuid()),
    warn: (message, facts) => reporter.warn(message, facts),
  });
}

function createSnapshots(base: NodeBase, { trees }: LayerWiringOptions, layers: Layers, lookSoon: LookSoon): Snapshots {
  const { adapters, history, mintUuid, reporter, settings, snapshots: journal } = base;
  const store = (): LayerStore => {
    const tree = settings.snapshotterTree ?? journal.tree ?? layers.stores.list()[0]?.tree;
    return layers.stores.require(tree);
  };
  return new Snapshots({
    zfs: adapters.zfs,
    journal,
    store,
    hasLayer: (layer) => layers.stores.has(store(), layer),
    // Containerd asks again where it lost patience, and what came meanwhile is here then
    fetchLayer: (layer) => layers.stores.fetch(store(), layer, new AbortController().signal),
    keeping: (layer, task) => layers.keeping(layer, task),
    layerBelow: (layer) => layerBelow(trees.graph(store().tree), store(), layer),
    lookSoon: (names) => lookSoon.add(store().tree, names),
    collectGarbage: () => layers.collectGarbage(store(), { isDryRun: false, ofContainerd: true }),
    mintUuid,
    now: () => BigInt(history.now()) * NANOSECONDS_PER_MS,
    warn: (message, facts) => reporter.warn(message, facts),
  });
}
