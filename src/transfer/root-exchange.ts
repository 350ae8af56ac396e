/**
 * Puts another dataset in the place of a mirror's root, at the cost of no data. Nothing can be renamed below itself, so the root goes outside for a moment, with all that lies
 * below it:
 *
 *     rename  root → outside               the successor, which lies below the root, goes along
 *     rename  outside/… → root             the successor: nothing lies below it
 *     rename  outside/x → root/x           for whatever lay right below the root
 *     rename  outside → root/…             the former root, to where it is to be
 *
 * Each step shows in what ZFS lists, so that it can be finished, or taken back, from wherever it was left (invariant 5). While something stands in a dataset that is mounted, the
 * first step is refused already, and nothing has changed.
 */
import { sha256 } from '../core/codec/hash.ts';
import { isPandoError, PandoError } from '../core/errors.ts';
import type { RootExchangeStarted } from '../core/events.ts';
import {
  absoluteName,
  type DatasetId,
  type DatasetName,
  ID_PROPERTY,
  isHidden,
  nameInBetween,
  type RelativeName,
} from '../core/ids.ts';
import { OWNER_PROPERTY } from '../core/ownership.ts';
import { PLACEHOLDER_PROPERTY } from '../core/plan/steps.ts';
import { STREAM_PROPERTY } from '../core/stream-flags.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';

/** What a root is called while it stands beside its place. */
const OUTSIDE_PREFIX = 'pando-';
/** Of the hash of its name: 48 bits. */
const OUTSIDE_DIGITS = 12;

/**
 * Where a root stands while it changes places: by a short name, since everything below the root has it before its own for a moment, and by one that can be told from the root's, so
 * that it is found again also where the log that knew of it was lost.
 */
export function outsideOf(root: DatasetName): DatasetName {
  const parent = root.slice(0, root.lastIndexOf('/')) as DatasetName;
  const digits = Buffer.from(sha256(Buffer.from(root)))
    .toString('hex')
    .slice(0, OUTSIDE_DIGITS);
  return absoluteName(parent, `${OUTSIDE_PREFIX}${digits}` as RelativeName);
}

export interface RootExchange {
  readonly root: DatasetName;
  /** Beside the root, where nothing else is. */
  readonly outside: DatasetName;
  /** Where the successor is before, below the root, and the id that it carries. */
  readonly successor: DatasetName;
  readonly successorId: DatasetId;
  /** Where the former root is afterwards, below the root. */
  readonly former: DatasetName;
}

/**
 * What says of a dataset what it is, not of a place how it is used; or takes from others what they have (`reservation`), or is chosen when a dataset is made.
 */
const OWN_PROPERTIES: ReadonlySet<string> = new Set([
  ...['canmount', 'readonly', 'reservation', 'refreservation', 'volsize', 'volblocksize'],
  ...['encryption', 'keyformat', 'keylocation', 'pbkdf2iters'],
  ...[ID_PROPERTY, OWNER_PROPERTY, PLACEHOLDER_PROPERTY, STREAM_PROPERTY],
]);

/** Gives the successor what people set on the root (where it is mounted, how it is compressed): what lies below inherits that. Idempotent. */
export async function handOnProperties({ root, successor }: RootExchange, zfs: Zfs): Promise<void> {
  const listed = await zfs.listOnly([root, successor]);
  const former = listed.find(({ name }) => name === root);
  const heir = listed.find(({ name }) => name === successor);
  if (former === undefined || heir === undefined) return;
  for (const [name, value] of Object.entries(former.properties)) {
    if (OWN_PROPERTIES.has(name) || heir.properties[name] === value) continue;
    await zfs.setProperties([successor], { [name]: value }).catch((error: unknown) => {
      // What this ZFS lets nobody set on what is there already
      if (!isPandoError(error, 'ZFS_UNSUPPORTED')) throw error;
    });
  }
}

/** Does what is not yet done. Idempotent once it has begun; rejects as ZFS does, and can then be tried again. */
export async function exchangeRoots(exchange: RootExchange, zfs: Zfs): Promise<void> {
  const { root, outside, successor, former } = exchange;
  const found = await look(exchange, zfs);
  const isBegun = found.outside !== undefined;
  if (!isBegun && found.successor === undefined) {
    if (isThere(exchange, found.root)) return;
    throw lost(exchange);
  }
  if (!isBegun) await zfs.rename(root, outside);
  if (!isBegun || found.taken !== undefined) await zfs.rename(movedOut(exchange, successor), root);
  else if (!isThere(exchange, found.root)) throw lost(exchange);
  await moveChildren(outside, root, zfs);
  await zfs.rename(outside, former);
}

/** Puts everything back to where it was, unless it is over, or has not begun. Idempotent; rejects as ZFS does. */
export async function takeBackRoots(exchange: RootExchange, zfs: Zfs): Promise<void> {
  const { root, outside, successor } = exchange;
  const found = await look(exchange, zfs);
  if (found.outside === undefined) return;
  if (found.taken === undefined && isThere(exchange, found.root)) {
    await moveChildren(root, outside, zfs);
    await zfs.rename(root, movedOut(exchange, successor));
  }
  await zfs.rename(outside, root);
}

/** Does what of the intent is not yet done. Idempotent; rejects as ZFS does, and can then be tried again. */
export async function finishRootExchange(intent: RootExchangeStarted, zfs: Zfs): Promise<void> {
  const exchange = exchangeOf(intent);
  await handOnProperties(exchange, zfs);
  await exchangeRoots(exchange, zfs);
  // What has the place now is mounted there, should it ever be
  const [former] = await zfs.listOnly([exchange.former]);
  if (former?.properties.mountpoint !== undefined) await zfs.inheritProperty([former.name], 'mountpoint');
}

/** Takes it back. Idempotent; rejects as ZFS does. Resolves to whether all is as it was before. */
export async function undoRootExchange(intent: RootExchangeStarted, zfs: Zfs): Promise<boolean> {
  const exchange = exchangeOf(intent);
  await takeBackRoots(exchange, zfs);
  const { root, outside } = await look(exchange, zfs);
  return outside === undefined && !isThere(exchange, root);
}

function exchangeOf({ name, outside, successor, dataset, former }: RootExchangeStarted): RootExchange {
  return { root: name, outside, successor, successorId: dataset, former };
}

interface Found {
  readonly root: ListedDataset | undefined;
  readonly outside: ListedDataset | undefined;
  /** The successor, below the root, and outside with that. */
  readonly successor: ListedDataset | undefined;
  readonly taken: ListedDataset | undefined;
}

async function look(exchange: RootExchange, zfs: Zfs): Promise<Found> {
  const { root, outside, successor } = exchange;
  const taken = movedOut(exchange, successor);
  const listed = await zfs.listOnly([root, outside, successor, taken]);
  const named = (name: DatasetName) => listed.find((one) => one.name === name);
  return { root: named(root), outside: named(outside), successor: named(successor), taken: named(taken) };
}

/** Whether the successor is the root already: whatever else has the name is none of this. */
function isThere({ successorId }: RootExchange, root: ListedDataset | undefined): boolean {
  return root?.properties[ID_PROPERTY] === successorId;
}

/** Moves whatever lies right below a dataset, but for what is `taken` at its new place, with all below that. Rejects as ZFS does. */
export async function moveChildren(
  from: DatasetName,
  to: DatasetName,
  zfs: Zfs,
  taken: readonly string[] = [],
): Promise<void> {
  for (const child of await childrenOf(from, zfs)) {
    const name = leafBelow(from, child);
    if (taken.includes(name)) continue;
    await zfs.rename(child.name, absoluteName(to, name)).catch((error: unknown) => {
      if (!isPandoError(error, 'ZFS_DATASET_EXISTS') || isHidden(name)) throw error;
      // Somebody made one of that name in this very moment
      return zfs.rename(child.name, absoluteName(to, besideName(name, child)));
    });
  }
}

/** A name for what cannot have its own: of a replica one that says so to whoever plans next, and gives it its place. */
function besideName(name: RelativeName, { guid, properties }: ListedDataset): RelativeName {
  const id = properties[ID_PROPERTY];
  return id === undefined ? (`${name}-${guid}` as RelativeName) : nameInBetween(id as DatasetId);
}

/** What lies right below a dataset. Rejects as ZFS does. */
export async function childrenOf(parent: DatasetName, zfs: Zfs): Promise<ListedDataset[]> {
  const listed = await zfs.list(parent);
  return listed.filter(({ name }) => name !== parent && !leafBelow(parent, { name }).includes('/'));
}

/** The name of a dataset without that of the one above it. */
export function leafBelow(parent: DatasetName, { name }: Pick<ListedDataset, 'name'>): RelativeName {
  return name.slice(parent.length + 1) as RelativeName;
}

function movedOut({ root, outside }: RootExchange, name: DatasetName): DatasetName {
  return `${outside}${name.slice(root.length)}` as DatasetName;
}

function lost({ root, outside, successor }: RootExchange): PandoError {
  return new PandoError(
    'PLAN_CONFLICT',
    `What was to take the place of "${root}" is gone; where "${outside}" is there, give it that name back with "zfs rename ${outside} ${root}", and sync again.`,
    { root, outside, successor },
  );
}
