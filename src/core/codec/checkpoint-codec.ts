/**
 * A graph as a series of chunks: what a checkpoint is on disk and on the wire. Flat arrays instead of maps, since a
 * graph of a million snapshots has to open in seconds.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { PandoError } from '../errors.ts';
import { datasetId, datasetName, relativeName } from '../event-fields.ts';
import {
  type Bookmark,
  bookmarkSchema,
  type DatasetKind,
  datasetKindSchema,
  type Hold,
  holdSchema,
  originSchema,
  ownershipSchema,
  propertiesSchema,
  type Snapshot,
  snapshotSchema,
} from '../events.ts';
import { NO_BOOKMARKS, NO_HOLDS } from '../graph/draft.ts';
import { type Dataset, Graph } from '../graph/graph.ts';
import type {
  BookmarkName,
  DatasetId,
  DatasetName,
  HoldTag,
  NodeId,
  RelativeName,
  SnapshotGuid,
  SnapshotName,
} from '../ids.ts';
import { layerEventSchemas } from '../layer-events.ts';
import type { DiffId, Digest } from '../layers/digest.ts';
import { imageEntries, type TaggedImage } from '../layers/image.ts';
import type { Hash } from './hash.ts';
import { pack, unpack, unpackTrusted } from './msgpack.ts';

/** Version of the chunk format. */
const CHECKPOINT_VERSION = 3;
/** That of chunks with images, which nodes from before there were any refuse. */
const IMAGES_VERSION = 4;
/** That of chunks which tell whose owner is a guess. */
const GUESSES_VERSION = 5;
/** Snapshots, bookmarks and datasets in one chunk, so that a chunk stays well below a wire frame. */
const CHUNK_ENTRIES_MAX = 4_000;

const SNAPSHOT_FIELDS = 6;
const BOOKMARK_FIELDS = 3;
const HOLD_FIELDS = 2;

type SnapshotColumns = readonly (string | number | null)[];

type BookmarkColumns = readonly (string | number)[];
type HoldColumns = readonly string[];

type DatasetRow = readonly [
  id: DatasetId,
  kind: DatasetKind,
  guid: string,
  name: RelativeName,
  originDataset: DatasetId | null,
  originSnapshot: SnapshotGuid | null,
  owner: NodeId,
  epoch: number,
  properties: Readonly<Record<string, string>>,
  received: SnapshotGuid | null,
  snapshots: SnapshotColumns,
  bookmarks: BookmarkColumns,
  holds: HoldColumns,
  /** Whether this row carries on with the snapshots, bookmarks and holds of the dataset in the row before it. */
  continues: boolean,
];

type ImageRow = readonly [
  name: string,
  manifest: Digest | null,
  config: string,
  layers: readonly DiffId[],
  taggedAt: number,
];

type Chunk = readonly [
  version: number,
  at: number,
  root: DatasetName | null,
  rows: readonly DatasetRow[],
  images?: readonly ImageRow[],
  /** Datasets of chunks before this one. */
  guesses?: readonly DatasetId[],
];

function columnsOf(snapshots: readonly Snapshot[], start: number, end: number): SnapshotColumns {
  const columns: (string | number | null)[] = [];
  for (let index = start; index < Math.min(end, snapshots.length); index += 1) {
    const { guid, name, createtxg, creation, referenced, written } = snapshots[index] as Snapshot;
    columns.push(guid, name, createtxg, creation, referenced, written);
  }
  return columns;
}

function rowOf(dataset: Dataset, start: number, end: number): DatasetRow {
  return [
    dataset.id,
    dataset.kind,
    dataset.guid,
    dataset.name,
    dataset.origin?.dataset ?? null,
    dataset.origin?.snapshot ?? null,
    dataset.owner.node,
    dataset.owner.epoch,
    start === 0 ? dataset.properties : {},
    dataset.received,
    columnsOf(dataset.snapshots, start, end),
    dataset.bookmarks.slice(start, end).flatMap(({ guid, name, createtxg }) => [guid, name, createtxg]),
    dataset.holds.slice(start, end).flatMap(({ guid, tag }) => [guid, tag]),
    start > 0,
  ];
}

/** The rows of a dataset: one, unless it has more snapshots, bookmarks or holds than a chunk takes. */
function* rowsOf(dataset: Dataset): Generator<DatasetRow> {
  const entries = Math.max(dataset.snapshots.length, dataset.bookmarks.length, dataset.holds.length);
  let start = 0;
  do {
    const end = Math.min(entries, start + CHUNK_ENTRIES_MAX);
    yield rowOf(dataset, start, end);
    start = end;
  } while (start < entries);
}

function sizeOf(row: DatasetRow): number {
  return 1 + row[10].length / SNAPSHOT_FIELDS + row[11].length / BOOKMARK_FIELDS + row[12].length / HOLD_FIELDS;
}

/**
 * Encodes a graph, chunk by chunk: its datasets in their order, then its images. An empty graph is one chunk. `at` is the timestamp of the last event
 * that the graph covers (0 before the first).
 */
export function* encodeCheckpoint(graph: Graph, at: number): Generator<Uint8Array> {
  let rows: DatasetRow[] = [];
  let entries = 0;
  for (const dataset of graph.datasets.values()) {
    for (const row of rowsOf(dataset)) {
      const size = sizeOf(row);
      if (rows.length > 0 && entries + size > CHUNK_ENTRIES_MAX) {
        yield pack([CHECKPOINT_VERSION, at, graph.root, rows] satisfies Chunk);
        rows = [];
        entries = 0;
      }
      rows.push(row);
      entries += size;
    }
  }
  yield pack([CHECKPOINT_VERSION, at, graph.root, rows] satisfies Chunk);
  yield* encodeGuesses(graph, at);
  // One by one: the configuration of an image is as large as many datasets
  for (const { name, manifest, config, layers, taggedAt } of graph.images.values()) {
    yield pack([IMAGES_VERSION, at, graph.root, [], [[name, manifest, config, layers, taggedAt]]] satisfies Chunk);
  }
}

function* encodeGuesses(graph: Graph, at: number): Generator<Uint8Array> {
  const guesses = Array.from(graph.datasets.values()).flatMap(({ id, owner }) => (owner.isGuess === true ? [id] : []));
  for (let start = 0; start < guesses.length; start += CHUNK_ENTRIES_MAX) {
    const some = guesses.slice(start, start + CHUNK_ENTRIES_MAX);
    yield pack([GUESSES_VERSION, at, graph.root, [], [], some] satisfies Chunk);
  }
}

/** SHA-256 over the chunks in order: what the author of a stream seals. */
export function checkpointDigest(chunks: Iterable<Uint8Array>): Hash {
  const digest = createHash('sha256');
  for (const chunk of chunks) digest.update(chunk);
  return digest.digest();
}

const rowSchema = z.tuple([
  datasetId,
  datasetKindSchema,
  snapshotSchema.shape.guid,
  relativeName,
  originSchema.shape.dataset,
  originSchema.shape.snapshot.nullable(),
  ownershipSchema.shape.node,
  ownershipSchema.shape.epoch,
  propertiesSchema,
  snapshotSchema.shape.guid.nullable(),
  z.array(z.union([z.string(), z.number(), z.null()])).max(CHUNK_ENTRIES_MAX * SNAPSHOT_FIELDS),
  z.array(z.union([z.string(), z.number()])).max(CHUNK_ENTRIES_MAX * BOOKMARK_FIELDS),
  z.array(z.string()).max(CHUNK_ENTRIES_MAX * HOLD_FIELDS),
  z.boolean(),
]);
const imageFields = layerEventSchemas['image.tagged'].shape;
const imageSchema = z.tuple([
  imageFields.name,
  imageFields.manifest,
  imageFields.config,
  imageFields.layers,
  z.int().nonnegative(),
]);
const chunkFields = [z.int().nonnegative(), datasetName.nullable(), z.array(rowSchema)] as const;
const chunkSchema = z.union([
  z.tuple([z.literal(CHECKPOINT_VERSION), ...chunkFields]),
  z.tuple([z.literal(IMAGES_VERSION), ...chunkFields, z.array(imageSchema)]),
  z.tuple([
    z.literal(GUESSES_VERSION),
    ...chunkFields,
    z.array(imageSchema),
    z.array(datasetId).max(CHUNK_ENTRIES_MAX),
  ]),
]);

function checkChunk(value: unknown): Chunk {
  const chunk = chunkSchema.safeParse(value);
  if (!chunk.success) {
    throw new PandoError('CODEC_INVALID', `A checkpoint is not well formed: ${z.prettifyError(chunk.error)}.`);
  }
  for (const row of chunk.data[3]) {
    for (const snapshot of snapshotsOf(row[10], (name) => name)) snapshotSchema.parse(snapshot);
    for (const bookmark of bookmarksOf(row[11])) bookmarkSchema.parse(bookmark);
    for (const hold of holdsOf(row[12])) holdSchema.parse(hold);
  }
  return chunk.data;
}

function* snapshotsOf(columns: SnapshotColumns, intern: (name: string) => string): Generator<Snapshot> {
  for (let at = 0; at < columns.length; at += SNAPSHOT_FIELDS) {
    yield {
      guid: columns[at] as SnapshotGuid,
      name: intern(columns[at + 1] as string) as SnapshotName,
      createtxg: columns[at + 2] as number,
      creation: columns[at + 3] as number,
      referenced: columns[at + 4] as number,
      written: columns[at + 5] as number | null,
    };
  }
}

function bookmarksOf(columns: BookmarkColumns): readonly Bookmark[] {
  if (columns.length === 0) return NO_BOOKMARKS;
  return Array.from({ length: Math.ceil(columns.length / BOOKMARK_FIELDS) }, (_, index) => {
    const at = index * BOOKMARK_FIELDS;
    return {
      guid: columns[at] as SnapshotGuid,
      name: columns[at + 1] as BookmarkName,
      createtxg: columns[at + 2] as number,
    };
  });
}

function holdsOf(columns: HoldColumns): readonly Hold[] {
  if (columns.length === 0) return NO_HOLDS;
  return Array.from({ length: Math.ceil(columns.length / HOLD_FIELDS) }, (_, index) => ({
    guid: columns[index * HOLD_FIELDS] as SnapshotGuid,
    tag: columns[index * HOLD_FIELDS + 1] as HoldTag,
  }));
}

/**
 * Puts a graph together from its chunks as they arrive. With `trusted` false, each chunk is validated first
 * (`CODEC_INVALID`); chunks that this node wrote and whose digest was checked can do without.
 */
export class CheckpointReader {
  readonly #trusted: boolean;
  readonly #digest = createHash('sha256');
  readonly #datasets = new Map<DatasetId, Dataset>();
  readonly #images = new Map<TaggedImage['name'], TaggedImage>();
  /** Snapshot names repeat across datasets; kept once each, a big graph takes a third less memory. */
  readonly #names = new Map<string, string>();
  #at = 0;
  #root: DatasetName | null = null;
  #entries = 0;

  constructor(options: { readonly trusted: boolean }) {
    this.#trusted = options.trusted;
  }

  add(bytes: Uint8Array): void {
    this.#digest.update(bytes);
    const chunk = this.#trusted ? (unpackTrusted(bytes) as Chunk) : this.#validated(bytes);
    this.#at = chunk[1];
    this.#root = chunk[2];
    for (const row of chunk[3]) this.#addRow(row);
    for (const row of chunk[4] ?? []) this.#addImage(row);
    for (const id of chunk[5] ?? []) this.#addGuess(id);
  }

  /** Timestamp of the last event that the graph covers; every chunk tells it, so that the first is enough to know. */
  get at(): number {
    return this.#at;
  }

  /** What it weighs so far: see `Graph.entryCount`. */
  get entries(): number {
    return this.#entries;
  }

  /** The graph, and the digest of the chunks that made it. */
  finish(): { readonly graph: Graph; readonly digest: Hash } {
    return { graph: new Graph(this.#root, this.#datasets, this.#images), digest: this.#digest.digest() };
  }

  #validated(bytes: Uint8Array): Chunk {
    try {
      return checkChunk(unpack(bytes));
    } catch (error) {
      if (!(error instanceof z.ZodError)) throw error;
      throw new PandoError('CODEC_INVALID', `A checkpoint is not well formed: ${z.prettifyError(error)}.`);
    }
  }

  #addImage([name, manifest, config, layers, taggedAt]: ImageRow): void {
    if (this.#images.has(name)) throw new PandoError('CODEC_INVALID', `A checkpoint holds image "${name}" twice.`);
    const image: TaggedImage = { name, manifest, config, layers, taggedAt };
    this.#entries += imageEntries(image);
    this.#images.set(name, image);
  }

  #addGuess(id: DatasetId): void {
    const known = this.#datasets.get(id);
    if (known === undefined) throw new PandoError('CODEC_INVALID', `A checkpoint guesses who owns unknown ${id}.`);
    this.#datasets.set(id, { ...known, owner: { ...known.owner, isGuess: true } });
  }

  #addRow(row: DatasetRow): void {
    const [id, kind, guid, name, originDataset, originSnapshot, node, epoch, properties, received, ...rest] = row;
    const [columns, bookmarkColumns, holdColumns, continues] = rest;
    const bookmarks = bookmarksOf(bookmarkColumns);
    const holds = holdsOf(holdColumns);
    const snapshots = Array.from(snapshotsOf(columns, (text) => this.#intern(text)));
    const known = this.#datasets.get(id);
    this.#entries += snapshots.length + bookmarks.length + holds.length + (continues ? 0 : 1);
    if (continues) {
      if (known === undefined) throw new PandoError('CODEC_INVALID', `A checkpoint carries on with unknown ${id}.`);
      (known.snapshots as Snapshot[]).push(...snapshots);
      this.#carryOn(known, bookmarks, holds);
      return;
    }
    if (known !== undefined) throw new PandoError('CODEC_INVALID', `A checkpoint holds dataset ${id} twice.`);
    const origin = originSnapshot === null ? null : { dataset: originDataset, snapshot: originSnapshot };
    const owner = { node: this.#intern(node) as NodeId, epoch };
    this.#datasets.set(id, { id, kind, guid, name, origin, owner, properties, snapshots, bookmarks, holds, received });
  }

  #carryOn(known: Dataset, bookmarks: readonly Bookmark[], holds: readonly Hold[]): void {
    if (bookmarks.length === 0 && holds.length === 0) return;
    const more = { bookmarks: [...known.bookmarks, ...bookmarks], holds: [...known.holds, ...holds] };
    this.#datasets.set(known.id, { ...known, ...more });
  }

  #intern(text: string): string {
    const known = this.#names.get(text);
    if (known !== undefined) return known;
    this.#names.set(text, text);
    return text;
  }
}
