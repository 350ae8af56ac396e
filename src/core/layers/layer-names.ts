/**
 * Where a layer store keeps what (names below its base):
 *
 *     storage/empty@extracted          the empty base
 *     storage/<ChainID>@extracted      a layer over its parent, whose clone it is
 *     runtime/<container id>           a container root: a clone of a layer
 */
import { PandoError } from '../errors.ts';
import { parseRelativeName, parseSnapshotName, type RelativeName, type SnapshotName } from '../ids.ts';
import { ROOT_ID_CHARACTERS_MAX } from '../layer-events.ts';
import { type ChainId, isDigest } from './digest.ts';

/** The snapshot that makes a dataset in `storage` a layer: it is taken once all of the layer is there and its digests were right. */
export const EXTRACTED = parseSnapshotName('extracted');
/** Whether a dataset has that snapshot. */
export function isExtracted(
  dataset: { readonly snapshots: readonly { readonly name: SnapshotName }[] } | undefined,
): boolean {
  return dataset?.snapshots.some(({ name }) => name === EXTRACTED) === true;
}

/** Carried by a dataset of `storage` from its making on: the ChainID of the layer that it is, or is becoming. */
export const LAYER_PROPERTY = 'pando:layer';
/** The DiffID of a layer, where this node knows it. */
export const DIFF_ID_PROPERTY = 'pando:diff-id';
/** Carried by `storage` and `runtime` themselves where this node made them. */
export const STORE_PROPERTY = 'pando:layer-store';
/** Carried by a container root: the name of the image that it was made from. */
export const IMAGE_PROPERTY = 'pando:image';
/** Carried by a dataset that was made for a snapshot of containerd: what that is. */
export const SNAPSHOT_PROPERTY = 'pando:snapshot';
/** Longest value that every ZFS takes for a property of ours, in bytes (ZAP_MAXVALUELEN of zfs-fuse). */
export const PROPERTY_BYTES_MAX = 1023;
/** What a contested name gets: the end of the dataset's id. */
const CONTESTED_SUFFIX = /-[0-9a-f]{12}$/;
/** Name of the empty base, beside the layers. */
const EMPTY = 'empty';

function below(base: RelativeName, name: string): RelativeName {
  return parseRelativeName(base === '' ? name : `${base}/${name}`);
}

export function storageName(base: RelativeName): RelativeName {
  return below(base, 'storage');
}

export function runtimeName(base: RelativeName): RelativeName {
  return below(base, 'runtime');
}

/** The dataset of a layer; of the empty base for null. Throws `NAME_INVALID` where the whole gets too long. */
export function layerName(base: RelativeName, layer: ChainId | null): RelativeName {
  return below(base, `storage/${layer ?? EMPTY}`);
}

/** The ChainID by which a dataset is called that lies in the storage of that base; undefined for any other. */
export function layerOf(base: RelativeName, name: RelativeName): ChainId | undefined {
  const prefix = `${storageName(base)}/`;
  const rest = name.startsWith(prefix) ? name.slice(prefix.length) : '';
  return isDigest(rest) ? (rest as ChainId) : undefined;
}

/**
 * As {@link layerOf}, and also where two nodes unpacked the same layer and one of them had to give its dataset another name (`settled-names.ts`): as a parent, either is that layer.
 */
export function contestedLayerOf(base: RelativeName, name: RelativeName): ChainId | undefined {
  return layerOf(base, name.replace(CONTESTED_SUFFIX, '') as RelativeName);
}

/** The dataset of a container root. Throws `NAME_INVALID` for an id that cannot be a component of a name. */
export function rootName(base: RelativeName, id: string): RelativeName {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(id) || id.length > ROOT_ID_CHARACTERS_MAX) {
    throw new PandoError(
      'NAME_INVALID',
      `"${id.slice(0, ROOT_ID_CHARACTERS_MAX)}" cannot be the id of a container root: letters, digits, "_", "." and "-", at most ${ROOT_ID_CHARACTERS_MAX}, beginning with a letter or digit.`,
    );
  }
  return below(base, `runtime/${id}`);
}

/** The id of the container root that a dataset is; undefined for any other. */
export function rootIdOf(base: RelativeName, name: RelativeName): string | undefined {
  const prefix = `${runtimeName(base)}/`;
  const rest = name.startsWith(prefix) ? name.slice(prefix.length) : '';
  return rest === '' || rest.includes('/') ? undefined : rest;
}
