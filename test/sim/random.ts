/** Chance that can be had again: everything random in a simulation comes from its seed by way of these. */

const UINT32_VALUES = 2 ** 32;

/** SplitMix32 (Steele, Lea, Flood, 2014, in its 32-bit form): spreads a seed over the state of the generator. */
function* spread(seed: number): Generator<number, never> {
  for (let state = seed | 0; ; ) {
    state = (state + 0x9e3779b9) | 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    yield mixed ^ (mixed >>> 15);
  }
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

/** xoshiro128** (Blackman and Vigna, 2018). */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    const state = spread(seed);
    this.#a = state.next().value;
    this.#b = state.next().value;
    this.#c = state.next().value;
    this.#d = state.next().value;
  }

  /** A generator of its own, so that whoever draws from it does not change what others get. */
  fork(): Random {
    return new Random(this.#next());
  }

  /** From 0 to below 1. */
  readonly fraction = (): number => (this.#next() >>> 0) / UINT32_VALUES;

  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    return Math.floor(this.fraction() * limit);
  }

  /** From `low` to below `high`. */
  between(low: number, high: number): number {
    return low + this.fraction() * (high - low);
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  /** One of the items. Throws when there are none. */
  pick<Item>(items: readonly Item[]): Item {
    if (items.length === 0) throw new Error('There is nothing to pick from.');
    return items[this.below(items.length)] as Item;
  }

  /** A wait in ms: often about `usual`, now and then many times as long, as on real disks and networks. */
  wait(usual: number): number {
    return usual * -Math.log(1 - this.fraction()) * (this.chance(0.01) ? 50 : 1);
  }

  readonly bytes = (count: number): Uint8Array => Uint8Array.from({ length: count }, () => this.#next() & 0xff);

  /** 64 random bits. */
  readonly bits64 = (): bigint => (BigInt(this.#next() >>> 0) << 32n) | BigInt(this.#next() >>> 0);

  #next(): number {
    const result = Math.imul(rotateLeft(Math.imul(this.#b, 5), 7), 9);
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = rotateLeft(this.#d, 11);
    return result;
  }
}
