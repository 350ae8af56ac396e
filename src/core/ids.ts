import { createHash } from 'node:crypto';
import { base32nopad } from '@scure/base';
import { v7 as uuidV7, validate as uuidValidate, version as uuidVersion } from 'uuid';
import { PandoError } from './errors.ts';

declare const brand: unique symbol;
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name };

/** Fingerprint of a node's public key: 52 base32 digits and 4 check characters, in eight groups of seven. */
export type NodeId = Branded<string, 'NodeId'>;
/** UUIDv7 of a dataset; survives renames, promotes and the loss of the log (design §3). */
export type DatasetId = Branded<string, 'DatasetId'>;
/** A snapshot's ZFS guid as a decimal string: 64 bits, preserved by send and receive. */
export type SnapshotGuid = Branded<string, 'SnapshotGuid'>;
/** Name under which a tree is shared, the same on every node. */
export type TreeName = Branded<string, 'TreeName'>;
/** A dataset's name relative to the root of its tree; the root itself is the empty string. */
export type RelativeName = Branded<string, 'RelativeName'>;
/** A dataset's full name on this node, pool first. */
export type DatasetName = Branded<string, 'DatasetName'>;
/** What stands behind the `@` of a snapshot. */
export type SnapshotName = Branded<string, 'SnapshotName'>;
/** What stands behind the `#` of a bookmark. */
export type BookmarkName = Branded<string, 'BookmarkName'>;
/** `<NodeId>/<TreeName>`: what one node says about its copy of one tree. */
export type StreamId = Branded<string, 'StreamId'>;
/** Tag of a ZFS user hold. */
export type HoldTag = Branded<string, 'HoldTag'>;
/** UUIDv7 of one transfer. */
export type TransferId = Branded<string, 'TransferId'>;
/** Eight hexadecimal digits, by which people name an invitation that they made. */
export type InvitationId = Branded<string, 'InvitationId'>;
/** ZFS's own words for where a receive was cut short (`receive_resume_token`). */
export type ResumeToken = Branded<string, 'ResumeToken'>;

/** Longest full name ZFS takes, in bytes: ZFS_MAX_DATASET_NAME_LEN less its terminating NUL (zfs-naming, `sys/fs/zfs.h`). */
export const DATASET_NAME_BYTES_MAX = 255;
/** Tree names appear in stream ids, file listings and command lines; 64 characters keep them readable. */
const TREE_NAME_CHARACTERS_MAX = 64;
/** The tree name of a node's own admin stream (peers, trees, mirrors); no tree can have it, and no peer ever sees it. */
export const ADMIN_TREE = '.admin' as TreeName;
/** The tree name of the stream in which a node keeps the intents of its transfers; as private as the admin stream. */
export const TRANSFER_TREE = '.transfers' as TreeName;
/** The tree name of the stream in which a node keeps what it noticed of the owners of its mirrors; as private as the others. */
export const DEPARTURES_TREE = '.departures' as TreeName;
/** The tree name of the stream in which a node keeps what containerd knows of its snapshots; as private as the others. */
export const SNAPSHOTTER_TREE = '.snapshotter' as TreeName;
/** The ZFS user property that carries a dataset's id; only a local value counts, since children inherit it (design §3). */
export const ID_PROPERTY = 'pando:id';
/** Below a tree's root, Pando keeps hidden datasets (lineage holders, diverged copies) under this name. */
const HIDDEN_COMPONENT = '.pando';
const LINEAGE_PREFIX = `${HIDDEN_COMPONENT}/lineage/`;
const UUID_BYTES = 16;
/** The last group of a UUID: 48 of its random bits. */
const SHORT_ID_DIGITS = 12;

const BASE32_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const FINGERPRINT_BYTES = 32;
const CHECKED_BLOCK_DIGITS = 13;
const GROUP_CHARACTERS = 7;
const NODE_ID_CHARACTERS = 56;
/** Ids that are remembered as right, each some hundred bytes: more than any node has peers, few enough for whatever a peer sends. */
const NODE_IDS_REMEMBERED_MAX = 4_096;

/**
 * Luhn check character over base32 digits (ISO/IEC 7812-1 annex B, generalised to modulus 32): catches every
 * single wrong character and most swaps of neighbours.
 */
function luhnCheckCharacter(digits: string): string {
  let factor = 2;
  let sum = 0;
  for (let index = digits.length - 1; index >= 0; index -= 1) {
    const addend = factor * BASE32_ALPHABET.indexOf(digits.charAt(index));
    sum += Math.floor(addend / 32) + (addend % 32);
    factor = factor === 2 ? 1 : 2;
  }
  return BASE32_ALPHABET.charAt((32 - (sum % 32)) % 32);
}

function groupsOf(text: string, size: number): string[] {
  const groups: string[] = [];
  for (let start = 0; start < text.length; start += size) groups.push(text.slice(start, start + size));
  return groups;
}

/** The NodeId of a SHA-256 fingerprint (32 bytes). Throws `ID_INVALID` for another length. */
export function nodeIdOfFingerprint(fingerprint: Uint8Array): NodeId {
  if (fingerprint.length !== FINGERPRINT_BYTES) {
    throw new PandoError('ID_INVALID', `A key fingerprint has ${FINGERPRINT_BYTES} bytes, not ${fingerprint.length}.`);
  }
  const checked = groupsOf(base32nopad.encode(fingerprint), CHECKED_BLOCK_DIGITS)
    .map((block) => block + luhnCheckCharacter(block))
    .join('');
  return groupsOf(checked, GROUP_CHARACTERS).join('-') as NodeId;
}

/** Ids as they are written, whose check characters were right: every head of every stream names its node. */
const checkedNodeIds = new Set<string>();

/**
 * Reads a NodeId as a person typed it: any case, with or without dashes and spaces.
 * Throws `ID_INVALID` when the length, a character or a check character is wrong.
 */
export function parseNodeId(text: string): NodeId {
  if (checkedNodeIds.has(text)) return text as NodeId;
  const node = checkedNodeId(text);
  if (checkedNodeIds.size >= NODE_IDS_REMEMBERED_MAX) checkedNodeIds.clear();
  checkedNodeIds.add(node);
  return node;
}

function checkedNodeId(text: string): NodeId {
  const characters = text.toUpperCase().replace(/[\s-]/g, '');
  const refuse = (why: string): never => {
    throw new PandoError('ID_INVALID', `"${text}" is not a node id: ${why}. Copy it from "pando id" on that node.`);
  };
  if (characters.length !== NODE_ID_CHARACTERS) {
    return refuse(`it has ${characters.length} characters instead of ${NODE_ID_CHARACTERS}`);
  }
  if (!/^[A-Z2-7]+$/.test(characters)) return refuse('only the letters A to Z and the digits 2 to 7 occur in one');
  groupsOf(characters, CHECKED_BLOCK_DIGITS + 1).forEach((block, index) => {
    if (luhnCheckCharacter(block.slice(0, -1)) !== block.slice(-1)) {
      refuse(`there is a typing error in "${groupsOf(block, GROUP_CHARACTERS).join('-')}" (part ${index + 1} of 4)`);
    }
  });
  return groupsOf(characters, GROUP_CHARACTERS).join('-') as NodeId;
}

/** The first group of a NodeId, enough for people to tell the nodes of a team apart. Never an identity. */
export function shortNodeId(node: NodeId): string {
  return node.slice(0, GROUP_CHARACTERS);
}

/** A UUIDv7 (RFC 9562 §5.7) from a Unix time in ms and 16 random bytes; pure, so the caller brings both. */
export function uuidFrom(unixMs: number, random: Uint8Array): string {
  return uuidV7({ msecs: unixMs, random });
}

function parseUuid(text: string, what: string): string {
  if (!uuidValidate(text) || uuidVersion(text) !== 7) {
    throw new PandoError('ID_INVALID', `"${text}" is not a ${what} (a UUIDv7).`);
  }
  return text.toLowerCase();
}

/** Throws `ID_INVALID` unless `text` is a UUIDv7. */
export function parseDatasetId(text: string): DatasetId {
  return parseUuid(text, 'dataset id') as DatasetId;
}

/** The random end of an id: makes a name that Pando gives a dataset unmistakable, and short. */
export function shortDatasetId(id: DatasetId): string {
  return id.slice(-SHORT_ID_DIGITS);
}

/** A name that nothing has, for a dataset on its way from one name to another: where two change places, ZFS needs one in between. `tried` of them are taken already. */
export function nameInBetween(id: DatasetId, tried = 0): RelativeName {
  return `renaming-${'again-'.repeat(tried)}${shortDatasetId(id)}` as RelativeName;
}

/** Whether that is one: what it will be called in the end, nobody can tell by it. */
export function isNameInBetween(name: RelativeName, id: DatasetId): boolean {
  const label = shortDatasetId(id);
  return name.endsWith(`-${label}`) && /^renaming-(again-)*$/.test(name.slice(0, -label.length));
}

/** Throws `ID_INVALID` unless `text` is a UUIDv7. */
export function parseTransferId(text: string): TransferId {
  return parseUuid(text, 'transfer id') as TransferId;
}

/** Throws `ID_INVALID` unless `text` is eight hexadecimal digits, in any case. */
export function parseInvitationId(text: string): InvitationId {
  if (/^[0-9a-f]{8}$/i.test(text)) return text.toLowerCase() as InvitationId;
  throw new PandoError('ID_INVALID', `"${text}" is not the id of an invitation; "pando peer invitations" lists them.`);
}

const GUID_MAX = 2n ** 64n - 1n;

/** Throws `ID_INVALID` unless `text` is a decimal number of at most 64 bits without leading zeros. */
export function parseSnapshotGuid(text: string): SnapshotGuid {
  if (!/^(0|[1-9][0-9]{0,19})$/.test(text) || BigInt(text) > GUID_MAX) {
    throw new PandoError('ID_INVALID', `"${text}" is not a ZFS guid (a decimal number of at most 64 bits).`);
  }
  return text as SnapshotGuid;
}

/** What a ZFS name component may hold (zfs-naming: `valid_char` in `zfs_namecheck.c`). */
const COMPONENT_PATTERN = /^[A-Za-z0-9_.: -]+$/;

function componentProblem(component: string): string | undefined {
  if (component === '') return 'it has an empty part (a slash at an end, or two in a row)';
  if (component === '.' || component === '..') return `"${component}" is not allowed as a part of a name`;
  if (!COMPONENT_PATTERN.test(component)) {
    return 'only letters, digits, space and the characters _ . : - may occur in its parts';
  }
  return undefined;
}

function refuseName(what: string, text: string, why: string): never {
  const shown = JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
  throw new PandoError('NAME_INVALID', `${shown} is not a valid ${what}: ${why}.`, { name: text.slice(0, 400) });
}

function checkPath(what: string, text: string): void {
  if (Buffer.byteLength(text) > DATASET_NAME_BYTES_MAX) {
    refuseName(what, text, `it is longer than ${DATASET_NAME_BYTES_MAX} bytes`);
  }
  for (const component of text.split('/')) {
    const problem = componentProblem(component);
    if (problem !== undefined) refuseName(what, text, problem);
  }
}

/** Throws `NAME_INVALID` unless `text` names a dataset: components of ZFS's alphabet, no `.` or `..`, at most 255 bytes. */
export function parseDatasetName(text: string): DatasetName {
  checkPath('dataset name', text);
  if (!/^[A-Za-z]/.test(text)) refuseName('dataset name', text, 'a pool name begins with a letter');
  return text as DatasetName;
}

/** Like {@link parseDatasetName} for a name below a tree's root; the empty string is the root. Throws `NAME_INVALID`. */
export function parseRelativeName(text: string): RelativeName {
  if (text !== '') checkPath('dataset name', text);
  return text as RelativeName;
}

/** Throws `NAME_INVALID` unless `text` can stand behind the `@` of a snapshot. */
export function parseSnapshotName(text: string): SnapshotName {
  if (Buffer.byteLength(text) > DATASET_NAME_BYTES_MAX) {
    refuseName('snapshot name', text, `it is longer than ${DATASET_NAME_BYTES_MAX} bytes`);
  }
  const problem = componentProblem(text);
  if (problem !== undefined) refuseName('snapshot name', text, problem);
  return text as SnapshotName;
}

/** Throws `NAME_INVALID` unless `text` can stand behind the `#` of a bookmark. */
export function parseBookmarkName(text: string): BookmarkName {
  // The same rule as behind an @ (`entity_namecheck` in zfs_namecheck.c)
  return parseSnapshotName(text) as string as BookmarkName;
}

/** Throws `NAME_INVALID` unless `text` is 1 to 64 letters, digits, `_ . -`, beginning with a letter or digit. */
export function parseTreeName(text: string): TreeName {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(text) || text.length > TREE_NAME_CHARACTERS_MAX) {
    refuseName(
      'tree name',
      text,
      `a tree name has 1 to ${TREE_NAME_CHARACTERS_MAX} letters, digits, "_", "." or "-" and begins with a letter or digit`,
    );
  }
  return text as TreeName;
}

/** The stream in which `node` tells about its copy of `tree`. */
export function streamIdOf(node: NodeId, tree: TreeName): StreamId {
  return `${node}/${tree}` as StreamId;
}

const PRIVATE_TREES: ReadonlySet<string> = new Set([ADMIN_TREE, TRANSFER_TREE, DEPARTURES_TREE, SNAPSHOTTER_TREE]);

/** Whether a stream of that tree name is the node's own business: it is never offered to a peer, nor taken from one. */
export function isPrivateTree(name: string): name is TreeName {
  return PRIVATE_TREES.has(name);
}

/** Splits a stream id into its node and tree. Throws `ID_INVALID` or `NAME_INVALID`. */
export function parseStreamId(text: string): { stream: StreamId; node: NodeId; tree: TreeName } {
  const slash = text.indexOf('/');
  if (slash < 0) throw new PandoError('ID_INVALID', `"${text}" is not a stream id (NODE/TREE).`);
  const node = parseNodeId(text.slice(0, slash));
  const name = text.slice(slash + 1);
  const tree = isPrivateTree(name) ? name : parseTreeName(name);
  return { stream: streamIdOf(node, tree), node, tree };
}

/** The node and the tree of a stream. What has that type was checked where it came in; this is asked for each change and each stream. */
export function splitStreamId(stream: StreamId): { node: NodeId; tree: TreeName } {
  const slash = stream.indexOf('/');
  return { node: stream.slice(0, slash) as NodeId, tree: stream.slice(slash + 1) as TreeName };
}

/** The hold tag of one transfer: unique per node and transfer, since ZFS keeps one hold per tag and snapshot. */
export function holdTagOf(node: NodeId, transfer: TransferId): HoldTag {
  return `pando:${node}:${transfer}` as HoldTag;
}

/** The bookmark that stands for the newest snapshot which a peer has of a dataset. With the guid in it no two of one dataset, or of those that a promote brings together, are called alike. */
export function cursorName(peer: NodeId, newest: SnapshotGuid): BookmarkName {
  return `pando:${peer}:${newest}` as BookmarkName;
}

/** The peer that a cursor is for; undefined for a bookmark of somebody else's. */
export function parseCursorName(name: BookmarkName): NodeId | undefined {
  return /^pando:([A-Z2-7-]+):[0-9]+$/.exec(name)?.[1] as NodeId | undefined;
}

/** Whether Pando placed a hold, here or on another node: those are none of anybody's business. */
export function isHoldOfPando(tag: HoldTag): boolean {
  return tag.startsWith('pando:');
}

/** The transfer that a hold of this node belongs to, by its tag; undefined for everybody else's holds. */
export function transferOfTag(tag: HoldTag, node: NodeId): TransferId | undefined {
  const prefix = `pando:${node}:`;
  return tag.startsWith(prefix) ? (tag.slice(prefix.length) as TransferId) : undefined;
}

/** The full name on a node that keeps the tree at `root`. Throws `NAME_INVALID` when the whole gets too long. */
export function absoluteName(root: DatasetName, relative: RelativeName): DatasetName {
  return relative === '' ? root : parseDatasetName(`${root}/${relative}`);
}

/** The name relative to `root`, or undefined when `name` is neither `root` nor below it. */
export function relativeTo(root: DatasetName, name: DatasetName): RelativeName | undefined {
  if (name === root) return '' as RelativeName;
  return name.startsWith(`${root}/`) ? (name.slice(root.length + 1) as RelativeName) : undefined;
}

/** The dataset of the tree right above, or undefined for its root. Above lineage holders that is the root: what lies between is hidden. */
export function parentOf(name: RelativeName): RelativeName | undefined {
  if (name === '') return undefined;
  if (isLineage(name)) return '' as RelativeName;
  const slash = name.lastIndexOf('/');
  return (slash < 0 ? '' : name.slice(0, slash)) as RelativeName;
}

/** The pool that a dataset lives in. */
export function poolOf(name: DatasetName): string {
  const slash = name.indexOf('/');
  return slash < 0 ? name : name.slice(0, slash);
}

/** The part of a tree that Pando keeps for itself (see {@link isHidden}). */
export function hiddenRoot(root: DatasetName): DatasetName {
  return `${root}/${HIDDEN_COMPONENT}` as DatasetName;
}

/** Where a node keeps what diverged from its owner, hidden below the root of the tree (design §9). */
export function divergedRoot(root: DatasetName): DatasetName {
  return `${root}/${HIDDEN_COMPONENT}/diverged` as DatasetName;
}

/** Where a node reads what snapshots hold, from clones that are there no longer than that takes. */
export function readingRoot(root: DatasetName): DatasetName {
  return `${root}/${HIDDEN_COMPONENT}/reading` as DatasetName;
}

/**
 * Whether the name lies in the part of a tree that Pando keeps for itself (`.pando` below the root), where no graph shows it. Lineage holders lie there too, but
 * are datasets of the tree: clones hang off them.
 */
export function isHidden(name: RelativeName): boolean {
  return name === HIDDEN_COMPONENT || (name.startsWith(`${HIDDEN_COMPONENT}/`) && !isLineage(name));
}

/** Name of the dataset that holds a snapshot which clones of the tree need as their origin and the tree itself has not (design §7). */
export function lineageName(snapshot: SnapshotGuid): RelativeName {
  return `${LINEAGE_PREFIX}${snapshot}` as RelativeName;
}

/** Whether a dataset of that name is a lineage holder. */
export function isLineage(name: RelativeName): boolean {
  return name.startsWith(LINEAGE_PREFIX) && /^[0-9]+$/.test(name.slice(LINEAGE_PREFIX.length));
}

/**
 * The id of the dataset that stands in for a root which is a clone of something below itself, and can therefore only be received beside: the same on every node, since
 * it is nobody's.
 */
export const ROOT_STAND_IN: DatasetId = idFromName(`${HIDDEN_COMPONENT}/root`);

/** The id of a lineage holder: the same on every node, so that it is the same dataset wherever it was received from. */
export function lineageId(snapshot: SnapshotGuid): DatasetId {
  return idFromName(lineageName(snapshot));
}

function idFromName(name: string): DatasetId {
  const digest = createHash('sha256').update(name).digest();
  return parseDatasetId(uuidFrom(0, digest.subarray(0, UUID_BYTES)));
}
