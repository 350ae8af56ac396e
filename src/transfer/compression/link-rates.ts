/**
 * Whether compressing pays on the link to a peer: found out by doing both (`docs/internals.md`). Rates are those at which a replica grows, in bytes of the plain stream a second, so that they can be compared
 * whatever they were limited by: the link, the pools, or the processors.
 */
import type { NodeId } from '../../core/ids.ts';

/** Streams below this say more about how they begin and end than about the link, in bytes. */
const SAMPLE_BYTES_MIN = 4 * 1024 * 1024;
/** A link that is as fast as this is not slower than zstd, in bytes a second: then a plain stream costs less. */
const FAST_BYTES_PER_SECOND = 150 * 1024 * 1024;
/** Compressing has to be faster by this factor: it costs a core at either end. */
const GAIN_MIN = 1.15;
/** After this many streams the other way is tried once more: links and what is sent over them change. */
const STREAMS_PER_TRIAL = 24;
/** How much the newest stream counts against those before it. */
const NEWEST_COUNTS = 0.4;
const MS_PER_SECOND = 1000;

interface Rates {
  plain: number | null;
  compressed: number | null;
  /** Since the way that seemed worse was last tried. */
  sinceTrial: number;
}

/** One stream that came whole. */
export interface Sample {
  readonly compressed: boolean;
  /** Of the plain stream. */
  readonly bytes: number;
  readonly ms: number;
}

export class LinkRates {
  readonly #peers = new Map<NodeId, Rates>();

  /** Whether streams from this peer are to be compressed, as far as both ends can. */
  prefersCompressed(peer: NodeId): boolean {
    const { plain = null, compressed = null, sinceTrial = 0 } = this.#peers.get(peer) ?? {};
    if (plain === null || plain >= FAST_BYTES_PER_SECOND) return false;
    if (compressed === null) return true;
    const isBetter = compressed >= plain * GAIN_MIN;
    return sinceTrial >= STREAMS_PER_TRIAL ? !isBetter : isBetter;
  }

  note(peer: NodeId, { compressed, bytes, ms }: Sample): void {
    if (bytes < SAMPLE_BYTES_MIN || ms <= 0) return;
    const known = this.#peers.get(peer) ?? { plain: null, compressed: null, sinceTrial: 0 };
    const way = compressed ? 'compressed' : 'plain';
    const rate = (bytes * MS_PER_SECOND) / ms;
    const before = known[way];
    const isTrial = known.sinceTrial >= STREAMS_PER_TRIAL;
    known[way] = before === null || isTrial ? rate : before + (rate - before) * NEWEST_COUNTS;
    known.sinceTrial = isTrial ? 0 : known.sinceTrial + 1;
    this.#peers.set(peer, known);
  }

  forget(peer: NodeId): void {
    this.#peers.delete(peer);
  }
}
