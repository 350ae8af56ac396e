/**
 * Logs of a node that lies, with its own key: to each peer it can tell another history under one and the same incarnation, each of them well chained and
 * signed. It claims what it does not own, forges when snapshots were taken, and tells of destroys, renames and promotes that never were.
 */
import { chainHash, genesisHash, type SignedHead, type Signer, signHead } from '../../../src/core/codec/chain.ts';
import type { Hash } from '../../../src/core/codec/hash.ts';
import { pack, unpack } from '../../../src/core/codec/msgpack.ts';
import type { NodeId } from '../../../src/core/ids.ts';
import type { Events } from '../../../src/sync/messages.ts';
import type { Random } from '../random.ts';
import { altered } from './altered.ts';
import type { Habits } from './hostility.ts';

/** How many events of a history of its own are forged. */
const FORGED_EVENTS = 0.3;
/** Of the ids that it came across, so many are remembered, to be claimed elsewhere. */
const REMEMBERED_MAX = 50;
/** Forged times of snapshots lie before this one, in Unix s: some thousand years from now. */
const CREATION_MAX = 2 ** 36;

type Fields = Record<string, unknown>;

export class ForgedLogs {
  readonly #signer: Signer;
  readonly #random: Random;
  readonly #habits: Habits;
  /** Hashes along the true logs, by stream, incarnation and seq. */
  readonly #hashes = new Map<string, Hash>();
  /** Where the history stands that a peer was told instead, by peer and stream. */
  readonly #told = new Map<string, SignedHead>();
  readonly #datasets: unknown[] = [];
  readonly #guids: unknown[] = [];

  constructor(signer: Signer, random: Random, habits: Habits) {
    this.#habits = habits;
    this.#signer = signer;
    this.#random = random;
  }

  /** What the peer is told instead of these events; the same where no lie is begun. */
  instead(message: Events, peer: NodeId): Events {
    const { head, events } = message;
    const before = this.#before(message, peer);
    this.#hashes.set(place(head, head.seq), head.hash);
    if (before === null) return message;
    const forged = events.map((bytes) => (this.#random.chance(FORGED_EVENTS) ? this.#forge(bytes) : bytes));
    const { stream, incarnation, seq } = head;
    const told = signHead({ stream, incarnation, seq, hash: forged.reduce(chainHash, before) }, this.#signer);
    this.#told.set(`${peer} ${stream}`, told);
    return { ...message, head: told, events: forged };
  }

  /** The head as the peer was told it. */
  headFor(peer: NodeId, head: SignedHead): SignedHead {
    const told = this.#told.get(`${peer} ${head.stream}`);
    return told?.incarnation === head.incarnation && told.seq === head.seq ? told : head;
  }

  /** The hash that a forged batch follows on; null where the truth is told. */
  #before({ head, events }: Events, peer: NodeId): Hash | null {
    const seq = head.seq - events.length;
    const told = this.#told.get(`${peer} ${head.stream}`);
    if (told?.incarnation === head.incarnation && told.seq === seq) return told.hash;
    if (!this.#random.chance(this.#habits.lies)) return null;
    if (seq === 0 && head.incarnation === 1) return genesisHash(head.stream, 1);
    return this.#hashes.get(place(head, seq)) ?? null;
  }

  #forge(bytes: Uint8Array): Uint8Array {
    const event = unpack(bytes) as Fields;
    this.#remember(event);
    const { v, seq, at, cause, dataset } = event;
    const place = { v, seq, at, cause };
    switch (this.#random.below(8)) {
      case 0:
        return pack({ ...place, type: 'ownership.claimed', dataset, owner: this.#claim() });
      case 1:
        return pack({ ...place, type: 'dataset.destroyed', dataset, name: event.name ?? '' });
      case 2:
        return pack({ ...place, type: 'dataset.promoted', dataset });
      case 3:
        return pack({ ...place, type: 'dataset.renamed', dataset, from: '', to: `forged-${this.#random.below(3)}` });
      case 4:
        return pack({ ...event, at: Number.MAX_SAFE_INTEGER - 1 });
      case 5:
        return pack({ ...event, ...(dataset !== undefined && { dataset: this.#random.pick(this.#datasets) }) });
      default:
        return pack(event.type === 'snapshot.created' ? this.#forgeSnapshot(event) : altered(event, this.#random));
    }
  }

  #forgeSnapshot(event: Fields): Fields {
    const snapshot = event.snapshot as Fields;
    const forged = this.#random.chance(0.5)
      ? { creation: this.#random.below(CREATION_MAX) }
      : { guid: this.#random.pick(this.#guids) };
    return { ...event, snapshot: { ...snapshot, ...forged } };
  }

  #claim() {
    return { node: this.#signer.node, epoch: 1 + this.#random.below(Number.MAX_SAFE_INTEGER) };
  }

  #remember({ dataset, snapshot }: Fields): void {
    if (dataset !== undefined && this.#datasets.length < REMEMBERED_MAX) this.#datasets.push(dataset);
    const guid = (snapshot as Fields | undefined)?.guid;
    if (guid !== undefined && this.#guids.length < REMEMBERED_MAX) this.#guids.push(guid);
  }
}

function place({ stream, incarnation }: SignedHead, seq: number): string {
  return `${stream} ${incarnation} ${seq}`;
}
