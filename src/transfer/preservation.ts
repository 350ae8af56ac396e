/**
 * Keeping what only a replica has (design §9), at the cost of no data. The dataset that diverged at its snapshot `common` is moved to `.pando/diverged`, and a
 * successor that ends with `common` takes its name:
 *
 *     clone    name@common → successor
 *     promote  successor                `common` and all before it are the successor's now
 *     rename   name → aside             with all that came after, and what was written since
 *     rename   successor → name
 *
 * Each step shows in what ZFS lists, so whoever finds the intent after a crash sees how far it came, and goes on (invariant 5). The root of a mirror changes places with its successor
 * in more steps than two renames (`root-exchange.ts`). Where it is received anew, its successor is an empty stand-in, so that what lies below it has a place.
 */
import { isPandoError, PandoError } from '../core/errors.ts';
import type { PreservationStarted } from '../core/events.ts';
import {
  absoluteName,
  type DatasetName,
  divergedRoot,
  hiddenRoot,
  ID_PROPERTY,
  isHidden,
  poolOf,
  type RelativeName,
  ROOT_STAND_IN,
  relativeTo,
  type TransferId,
} from '../core/ids.ts';
import type { Hidden } from '../core/plan/steps.ts';
import { chainOf } from '../core/stream-flags.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';
import { wasWrittenTo } from './giving-up.ts';
import { ensureContainers } from './hidden-containers.ts';
import { placeholderProperties, replicaProperties } from './replica-properties.ts';
import { exchangeRoots, handOnProperties, type RootExchange, takeBackRoots } from './root-exchange.ts';

/** Says of a kept dataset where it came from: the name that it had. */
export const DIVERGED_PROPERTY = 'pando:diverged-from';
/** Length of a UUID as text (RFC 9562, section 4). */
const UUID_CHARACTERS = 36;
/** What the successor of a dataset that is being kept is called behind the id of the transfer, until it takes that one's name. */
const SUCCESSOR_SUFFIX = '-successor';

/** Where a dataset of the tree at `root` is kept. A UUIDv7 begins with its time: copies of one dataset stand in the order in which they were kept. */
export function asideOf(root: DatasetName, name: DatasetName, transfer: TransferId): DatasetName {
  return absoluteName(divergedRoot(root), `${leafOf(name)}-${transfer}` as RelativeName);
}

/** Where the successor of such a dataset is made: beside those that are kept, by a name that none of them can have, since each ends with a UUID. */
export function successorOf(root: DatasetName, transfer: TransferId): DatasetName {
  return absoluteName(divergedRoot(root), `${transfer}${SUCCESSOR_SUFFIX}` as RelativeName);
}

/** Whether a dataset lies where those are kept, and not below one of them. */
export function isAside(root: DatasetName, name: DatasetName): boolean {
  return relativeTo(divergedRoot(root), name) === leafOf(name);
}

/** Whether a dataset that lies beside those that are kept is called as a successor. */
export function isSuccessor(name: DatasetName): boolean {
  return leafOf(name).length === UUID_CHARACTERS + SUCCESSOR_SUFFIX.length && name.endsWith(SUCCESSOR_SUFFIX);
}

/** The last part of the name that a dataset had, by the one that it is kept under. */
export function formerLeafOf(aside: DatasetName): string {
  return leafOf(aside).slice(0, -(UUID_CHARACTERS + 1));
}

function leafOf(name: DatasetName): string {
  return name.slice(name.lastIndexOf('/') + 1);
}

/** What is kept aside of the tree at `root`. Rejects as ZFS does. */
export async function listKeptAside(zfs: Zfs, root: DatasetName): Promise<ListedDataset[]> {
  const listed = await listAside(zfs, root);
  return listed.filter(({ properties }) => properties[DIVERGED_PROPERTY] !== undefined);
}

/** The same with what is to be kept, is not yet, or takes the place of it. */
export function listAside(zfs: Zfs, root: DatasetName): Promise<ListedDataset[]> {
  return listBelow(zfs, divergedRoot(root));
}

/** What of the tree at `root` no graph shows. Rejects as ZFS does. */
export async function surveyHidden(zfs: Zfs, root: DatasetName): Promise<Hidden> {
  const listed = (await listBelow(zfs, hiddenRoot(root))).filter(({ name }) =>
    isHidden(relativeTo(root, name) as RelativeName),
  );
  const copies = listed.filter(({ properties }) => properties[DIVERGED_PROPERTY] !== undefined).length;
  const origins = new Set(listed.flatMap(({ origin }) => (origin?.guid == null ? [] : [origin.guid])));
  return { copies, origins };
}

function listBelow(zfs: Zfs, place: DatasetName): Promise<ListedDataset[]> {
  return zfs.list(place).catch((error: unknown) => {
    if (isPandoError(error, 'ZFS_NOT_FOUND')) return [];
    throw error;
  });
}

interface Found {
  /** The dataset that diverged, as long as it has its name: whatever else has that name by now is none of this. */
  readonly original: ListedDataset | undefined;
  readonly aside: ListedDataset | undefined;
  readonly successor: ListedDataset | undefined;
  /** The root, with the successor and all else below it. */
  readonly outside: ListedDataset | undefined;
}

/** Does what of the intent is not yet done. Idempotent; rejects as ZFS does, and can then be tried again. */
export async function finishPreservation(intent: PreservationStarted, zfs: Zfs): Promise<void> {
  const { name, aside, successor, outside } = intent;
  if (outside !== null) return finishAtRoot({ ...intent, outside }, zfs);
  await ensureContainers(zfs, aside);
  const found = await look(intent, zfs);
  if (found.aside === undefined && found.original === undefined) return finishWithoutOriginal(intent, found, zfs);
  if (found.aside === undefined) {
    if (intent.lastCommon !== null) await makeSuccessor(intent, intent.lastCommon, zfs);
    await zfs.rename(name, aside);
  }
  if ((await look(intent, zfs)).successor !== undefined) await zfs.rename(successor, name);
  await markKept(intent, zfs);
}

/** Says of a dataset that it is kept, and which name it had; it is no dataset of the tree any more. Idempotent; rejects as ZFS does. */
export async function markKept({ name, aside }: Pick<PreservationStarted, 'name' | 'aside'>, zfs: Zfs): Promise<void> {
  await zfs.setProperties([aside], { [DIVERGED_PROPERTY]: name });
  await zfs.inheritProperty([aside], ID_PROPERTY);
}

/** An intent about the root of a mirror. */
type RootPreservation = PreservationStarted & { readonly outside: DatasetName };

async function finishAtRoot(intent: RootPreservation, zfs: Zfs): Promise<void> {
  const found = await look(intent, zfs);
  if (found.aside === undefined) {
    if (found.outside === undefined) await prepareRoot(intent, found, zfs);
    await exchangeRoots(exchangeOf(intent), zfs);
  }
  await markKept(intent, zfs);
  // Its successor is mounted there, should it ever be
  const [kept] = await zfs.listOnly([intent.aside]);
  if (kept?.properties.mountpoint !== undefined) await zfs.inheritProperty([intent.aside], 'mountpoint');
}

/** Until there is a successor that can take the root's place. */
async function prepareRoot(intent: RootPreservation, { original, successor }: Found, zfs: Zfs): Promise<void> {
  if (original === undefined) throw (await movedElsewhere(intent, zfs)) ?? gone(intent.name);
  await ensureContainers(zfs, intent.aside);
  if (intent.lastCommon !== null) await makeSuccessor(intent, intent.lastCommon, zfs);
  else if (successor === undefined) await zfs.create(intent.successor, placeholderProperties(ROOT_STAND_IN));
  await handOnProperties(exchangeOf(intent), zfs);
}

function exchangeOf({ name, outside, successor, dataset, lastCommon, aside }: RootPreservation): RootExchange {
  const successorId = lastCommon === null ? ROOT_STAND_IN : dataset;
  return { root: name, outside, successor, successorId, former: aside };
}

/**
 * Takes back what was begun while the dataset still has its name. Idempotent; rejects as ZFS does. Resolves to whether all is as it was before: once the dataset
 * was moved, or somebody else moved it, there is only the way on.
 */
export async function undoPreservation(intent: PreservationStarted, zfs: Zfs): Promise<boolean> {
  const { outside } = intent;
  if (outside !== null) await takeBackRoots(exchangeOf({ ...intent, outside }), zfs);
  const { original, aside, successor } = await look(intent, zfs);
  if (aside !== undefined) return false;
  // With the root its successor would be somewhere else, too
  if (successor === undefined)
    return outside === null || original !== undefined || (await movedElsewhere(intent, zfs)) === undefined;
  return original !== undefined && takeBackSuccessor(zfs, original, successor);
}

/**
 * Gives the dataset that diverged its snapshots back, and destroys the successor, which has nothing of its own then. False, and nothing of that is done, where the two do not belong together,
 * or somebody wrote to the successor or took a snapshot of it. Idempotent; rejects as ZFS does.
 */
export async function takeBackSuccessor(zfs: Zfs, original: ListedDataset, successor: ListedDataset): Promise<boolean> {
  const isBelow = original.origin?.reference.dataset === successor.name;
  // What a promote moves ends with the origin
  const isMoved = isBelow && successor.snapshots.at(-1)?.guid === original.origin?.guid;
  const isClone = successor.origin?.reference.dataset === original.name && successor.snapshots.length === 0;
  const isStandIn = successor.properties[ID_PROPERTY] === ROOT_STAND_IN && successor.snapshots.length === 0;
  if (!(isMoved || isClone || isStandIn) || (await wasWrittenTo(zfs, successor))) return false;
  if (isMoved) await zfs.promote(original.name);
  await zfs.destroy(successor.name);
  return true;
}

async function look({ name, aside, successor, outside, dataset }: PreservationStarted, zfs: Zfs): Promise<Found> {
  const listed = await zfs.listOnly([name, aside, successor, ...(outside === null ? [] : [outside])]);
  const named = (wanted: DatasetName) => listed.find((one) => one.name === wanted);
  const there = named(name);
  return {
    original: there?.properties[ID_PROPERTY] === dataset ? there : undefined,
    aside: named(aside),
    successor: named(successor),
    outside: outside === null ? undefined : named(outside),
  };
}

/**
 * Somebody destroyed the dataset, or gave it another name. Where it was destroyed, its successor has all that is left of it, and takes its name. Otherwise they have to
 * say which of the two it is to be.
 */
async function finishWithoutOriginal(intent: PreservationStarted, { successor }: Found, zfs: Zfs): Promise<void> {
  const { name } = intent;
  if (successor === undefined) throw gone(name);
  const elsewhere = await movedElsewhere(intent, zfs);
  if (elsewhere !== undefined) throw elsewhere;
  await zfs.rename(successor.name, name);
}

/** What to say where the dataset has another name by now; undefined where it is nowhere. */
async function movedElsewhere(intent: PreservationStarted, zfs: Zfs): Promise<PandoError | undefined> {
  const { name, dataset, successor } = intent;
  const listed = await zfs.list(poolOf(name) as DatasetName);
  const leaf = successor.slice(successor.lastIndexOf('/'));
  const elsewhere = listed.find((one) => !one.name.endsWith(leaf) && one.properties[ID_PROPERTY] === dataset);
  return elsewhere === undefined ? undefined : moved(intent, elsewhere.name);
}

/** Until the successor owns the snapshot in common, and all before it. */
async function makeSuccessor(
  intent: PreservationStarted,
  lastCommon: NonNullable<PreservationStarted['lastCommon']>,
  zfs: Zfs,
): Promise<void> {
  const { name, successor, dataset } = intent;
  const found = await look(intent, zfs);
  if (found.original === undefined) throw gone(name);
  if (found.original.origin?.reference.dataset === successor) return;
  if (found.successor === undefined) {
    const { kind, properties } = found.original;
    const marks = replicaProperties(dataset, chainOf(properties), kind);
    await zfs.clone({ dataset: name, snapshot: lastCommon }, successor, marks);
  }
  await zfs.promote(successor);
}

function gone(name: DatasetName): PandoError {
  return new PandoError(
    'ZFS_NOT_FOUND',
    `"${name}" is gone, or another dataset by now, so that what it had cannot be kept; look for it with "zfs list", and sync again.`,
    { name },
  );
}

function moved({ name, successor, outside }: PreservationStarted, elsewhere: DatasetName): PandoError {
  const rest = outside === null ? ` What it has in common with its owner is in "${successor}".` : '';
  return new PandoError(
    'PLAN_CONFLICT',
    `"${elsewhere}" was renamed while what diverged in it was being kept; give it its name "${name}" back with "zfs rename", so that this can be finished.${rest}`,
    { name, elsewhere, successor },
  );
}
