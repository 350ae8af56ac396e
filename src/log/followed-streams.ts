import {
  equalHashes,
  genesisHash,
  type Head,
  hashText,
  type SignedHead,
  verifyHead,
  verifySeal,
} from '../core/codec/chain.ts';
import { CheckpointReader } from '../core/codec/checkpoint-codec.ts';
import { decodeEvent } from '../core/codec/event-codec.ts';
import type { Hash } from '../core/codec/hash.ts';
import { isPandoError, PandoError } from '../core/errors.ts';
import type { Event } from '../core/events.ts';
import { fold } from '../core/graph/fold.ts';
import { EMPTY_GRAPH, type Graph } from '../core/graph/graph.ts';
import { isPrivateTree, type StreamId, splitStreamId } from '../core/ids.ts';
import { corrupt, forked, gap } from './log-errors.ts';
import type { SealedCheckpoint, SignedBatch } from './signed.ts';
import { isWrittenBy } from './stream-state.ts';
import type { StreamTable } from './stream-table.ts';
import { checkCheckpoint, checkSuccession, expectHash, hashesAfter } from './succession.ts';

/**
 * Datasets and snapshots that are kept of one peer, over all its streams: four trees of a million snapshots, which take 370 MB each. What a peer
 * sends must not grow without bound in memory (invariant 8).
 */
const PEER_ENTRIES_MAX = 4_000_000;
/** Largest checkpoint that is taken from a peer, in bytes: so much that long names and properties of all those entries fit. */
export const CHECKPOINT_BYTES_MAX = 1024 ** 3;

/** The streams of other nodes: takes over what their authors signed, after checking all of it (invariant 7). */
export class FollowedStreams {
  readonly #table: StreamTable;
  readonly #peerEntriesMax: number;

  constructor(table: StreamTable, peerEntriesMax = PEER_ENTRIES_MAX) {
    this.#table = table;
    this.#peerEntriesMax = peerEntriesMax;
  }

  async ingest(batch: SignedBatch): Promise<readonly Event[]> {
    const { head } = batch;
    const { stream } = head;
    this.#checkForeign(stream);
    verifyHead(head, this.#table.isSigned);
    return this.#table.inTurn(stream, async () => {
      const before = this.#table.sound(stream) ?? null;
      const from = before?.head ?? firstHead(stream);
      const bytes = await this.#newIn(batch, from);
      if (bytes.length === 0) return [];
      const events = bytes.map((each, index) => decodeNumbered(stream, each, from.seq + 1 + index));
      const graph = fold(before?.graph ?? EMPTY_GRAPH, events);
      if (graph.entryCount > this.#roomFor(stream)) throw this.#tooMany(stream);
      await this.#table.append(before, { head, events, bytes, graph });
      return events;
    });
  }

  async ingestCheckpoint({ head, seal, chunks }: SealedCheckpoint): Promise<void> {
    const { stream } = head;
    this.#checkForeign(stream);
    verifyHead(head, this.#table.isSigned);
    verifySeal(seal, splitStreamId(stream).node, this.#table.isSigned);
    checkCheckpoint(head, seal.head);
    this.#checkForward(head);
    // Read outside of the stream's turn: a peer that is slow to send must not keep others from going on.
    const room = this.#roomFor(stream);
    const { graph, at } = await receiveGraph(chunks, seal, (entries) => {
      if (entries > room) throw this.#tooMany(stream);
    });
    await this.#table.inTurn(stream, () => {
      this.#checkForward(head);
      return this.#table.reset(head, { graph, at }, seal);
    });
  }

  async forget(stream: StreamId): Promise<void> {
    this.#checkForeign(stream);
    return this.#table.inTurn(stream, () => this.#table.forget(stream));
  }

  /**
   * The events of a batch that lie behind `from`: several peers may bring one stream. All of it must be what the author signed, and the part that is
   * known must say the same, as far as that is kept.
   */
  async #newIn({ head, events }: SignedBatch, from: Head): Promise<readonly Uint8Array[]> {
    const { stream, seq } = head;
    if (head.incarnation !== from.incarnation) {
      throw forked(
        stream,
        `incarnation ${head.incarnation} does not follow on ${from.incarnation} without a checkpoint`,
      );
    }
    const first = seq - events.length + 1;
    if (first < 1 || first > from.seq + 1) throw gap(stream, from.seq + 1, first);
    const start = first === from.seq + 1 ? from.hash : await this.#hashAt(stream, first - 1);
    const fresh = events.slice(from.seq + 1 - first);
    if (start === null) {
      if (seq === from.seq && !equalHashes(head.hash, from.hash)) throw otherwise(stream, seq);
      if (fresh.length > 0) expectHash(head, hashesAfter(from.hash, fresh).at(-1) as Hash);
      return fresh;
    }
    const hashes = [start, ...hashesAfter(start, events)];
    expectHash(head, hashes.at(-1) as Hash);
    const both = Math.min(from.seq, seq);
    const known = both === from.seq ? from.hash : await this.#hashAt(stream, both);
    if (known !== null && !equalHashes(known, hashes[both - first + 1] as Hash)) {
      throw otherwise(stream, both);
    }
    return fresh;
  }

  /** Hash of the chain up to and including an event, or null where that is not kept any more. */
  async #hashAt(stream: StreamId, seq: number): Promise<Hash | null> {
    try {
      return await this.#table.hashAt(stream, seq);
    } catch (error) {
      if (isPandoError(error, 'LOG_COMPACTED')) return null;
      throw error;
    }
  }

  #checkForeign(stream: StreamId): void {
    if (isWrittenBy(stream, this.#table.signer.node)) {
      throw forked(stream, 'it is written by this node, and by nobody else');
    }
    if (isPrivateTree(splitStreamId(stream).tree)) {
      throw new PandoError('ARGUMENT_INVALID', `Stream ${stream} is about another node itself and is not shared.`, {
        stream,
      });
    }
  }

  /** How many datasets and snapshots a stream may have beside the other streams of its author: never fewer than it has. */
  #roomFor(stream: StreamId): number {
    const author = stream.slice(0, stream.indexOf('/') + 1);
    let room = this.#peerEntriesMax;
    let own = 0;
    for (const [other, state] of this.#table.all()) {
      if (state.kind !== 'sound' || !other.startsWith(author)) continue;
      if (other === stream) own = state.graph.entryCount;
      else room -= state.graph.entryCount;
    }
    return Math.max(room, own);
  }

  #tooMany(stream: StreamId): PandoError {
    const { node, tree } = splitStreamId(stream);
    const limit = this.#peerEntriesMax;
    return new PandoError(
      'CODEC_INVALID',
      `With tree "${tree}", peer ${node} shares more than the ${limit} datasets and snapshots that are kept of one peer; ` +
        'have it share less, or remove it as a peer.',
      { stream, limit },
    );
  }

  #checkForward(head: SignedHead): void {
    const known = this.#table.sound(head.stream);
    if (known !== undefined) checkSuccession(known.head, head);
  }
}

/** Where a stream begins. Only the first incarnation begins with nothing; later ones begin with a checkpoint. */
function firstHead(stream: StreamId): Head {
  return { stream, incarnation: 1, seq: 0, hash: genesisHash(stream, 1) };
}

function otherwise(stream: StreamId, seq: number): PandoError {
  return forked(stream, `event ${seq} is known with another hash`);
}

function decodeNumbered(stream: StreamId, bytes: Uint8Array, seq: number): Event {
  const event = decodeEvent(bytes);
  if (event.seq !== seq) throw gap(stream, seq, event.seq);
  return event;
}

/**
 * Puts a graph together as it arrives. Rejects with `LOG_CORRUPT` unless it is what was sealed, `CODEC_INVALID` when it is none. `checkEntries`
 * throws when there are too many of them.
 */
async function receiveGraph(
  chunks: AsyncIterable<Uint8Array>,
  { head: { stream, seq }, digest }: SealedCheckpoint['seal'],
  checkEntries: (entries: number) => void,
): Promise<{ graph: Graph; at: number }> {
  const reader = new CheckpointReader({ trusted: false });
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > CHECKPOINT_BYTES_MAX) {
      throw new PandoError(
        'CODEC_INVALID',
        `The checkpoint of ${stream} is larger than ${CHECKPOINT_BYTES_MAX} bytes.`,
      );
    }
    reader.add(chunk);
    checkEntries(reader.entries);
  }
  const received = reader.finish();
  if (!equalHashes(received.digest, digest)) {
    throw corrupt({ stream, seq, expected: hashText(digest), found: hashText(received.digest) });
  }
  return { graph: received.graph, at: reader.at };
}
