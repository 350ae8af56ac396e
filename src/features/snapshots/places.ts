/** Which dataset a snapshot lies in: that of a layer, where its key, label or name says that it is one, or any other below `runtime`. */
import { absoluteName, type RelativeName } from '../../core/ids.ts';
import type { ChainId } from '../../core/layers/digest.ts';
import { LAYER_PROPERTY, layerName, layerOf, runtimeName } from '../../core/layers/layer-names.ts';
import { type Labels, SNAPSHOT_REF_LABEL } from '../../core/snapshots/snapshot.ts';
import type { SnapshotParts } from './parts.ts';
import type { KeptSnapshot } from './snapshot-journal.ts';

/** Containerd calls a layer by its ChainID, behind what namespace and number it gives its name (`metadata/snapshot.go`). */
const LAYER_IN_NAME = /(?:^|[/ ])(sha256:[0-9a-f]{64})$/;

export class Places {
  readonly #parts: SnapshotParts;

  constructor(parts: SnapshotParts) {
    this.#parts = parts;
  }

  /** Whether a snapshot is kept in that dataset. */
  isTaken(dataset: RelativeName): boolean {
    for (const kept of this.#parts.journal.all()) if (kept.dataset === dataset) return true;
    return false;
  }

  /** The layer that a committed snapshot is; null for none at all, undefined for one that is no layer. */
  layerIn(kept: KeptSnapshot | null): ChainId | null | undefined {
    return kept === null ? null : layerOf(this.#parts.store().base, kept.dataset);
  }

  /** Whether the dataset lies where layers do. */
  isForLayer(dataset: RelativeName): boolean {
    return layerOf(this.#parts.store().base, dataset) !== undefined;
  }

  /** Whether the dataset is that of a layer which is here, whole. */
  isLayer(dataset: RelativeName): boolean {
    const layer = layerOf(this.#parts.store().base, dataset);
    return layer !== undefined && this.#parts.hasLayer(layer);
  }

  /** Where that belongs which will be a layer, as its key or label says; undefined for what will be none. */
  forLayer(key: string, origin: KeptSnapshot | null, labels: Labels): RelativeName | undefined {
    const layer = layerInName(labels[SNAPSHOT_REF_LABEL] ?? key);
    if (layer === undefined || !this.#isFreeFor(layer, origin)) return undefined;
    return layerName(this.#parts.store().base, layer);
  }

  /** The layer that a name stands for, where that is here already, over the same parent. */
  layerNamed(name: string, { parent }: KeptSnapshot): ChainId | undefined {
    const { hasLayer, layerBelow } = this.#parts;
    const layer = layerInName(name);
    if (layer === undefined || !hasLayer(layer)) return undefined;
    const below = this.layerIn(this.#parentOf(parent));
    return below !== undefined && layerBelow(layer) === below ? layer : undefined;
  }

  /** Brings what is being committed where it belongs by its name; it lies there from its making on, unless that name was not told then. */
  async forCommitted({ dataset, parent }: KeptSnapshot, name: string): Promise<RelativeName> {
    const { store, zfs } = this.#parts;
    const { base, root } = store();
    const layer = layerInName(name);
    if (layerOf(base, dataset) === layer) return dataset;
    const from = absoluteName(root, dataset);
    if (layer !== undefined && this.#isFreeFor(layer, this.#parentOf(parent))) {
      // Before it lies there: a layer on its way is nobody's business
      await zfs.setProperties([from], { [LAYER_PROPERTY]: layer });
      await zfs.rename(from, absoluteName(root, layerName(base, layer)));
      return layerName(base, layer);
    }
    if (layerOf(base, dataset) === undefined) return dataset;
    const place = this.anywhere();
    await zfs.rename(from, absoluteName(root, place));
    await zfs.inheritProperty([absoluteName(root, place)], LAYER_PROPERTY);
    return place;
  }

  #isFreeFor(layer: ChainId, parent: KeptSnapshot | null): boolean {
    const isOverLayer = this.layerIn(parent) !== undefined;
    return isOverLayer && !this.#parts.hasLayer(layer) && !this.isTaken(layerName(this.#parts.store().base, layer));
  }

  #parentOf(parent: string | null): KeptSnapshot | null {
    return parent === null ? null : (this.#parts.journal.get(parent) ?? null);
  }

  /** A name that nothing has. */
  anywhere(): RelativeName {
    const { store, mintUuid } = this.#parts;
    return `${runtimeName(store().base)}/${mintUuid()}` as RelativeName;
  }
}

function layerInName(name: string): ChainId | undefined {
  return LAYER_IN_NAME.exec(name)?.[1] as ChainId | undefined;
}
