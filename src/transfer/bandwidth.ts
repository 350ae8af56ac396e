/**
 * How fast streams may be: overall, with one peer, and for one sync, each direction on its own. A limit can change while streams run. Only sealed links can be slowed, since nobody
 * but the kernel sees the bytes of a direct one: where there is a limit, links are sealed.
 */
import { pipeline, type Readable, Transform, Writable } from 'node:stream';
import type { BandwidthLimits } from '../core/admin.ts';
import type { NodeId } from '../core/ids.ts';
import type { Timers } from '../sync/timers.ts';

const MS_PER_SECOND = 1000;
/** What was not used of the last moment may be made up for, in ms: timers are late by some. */
const BURST_MS = 50;

/** One limit that several streams share. */
export class RateLimit {
  readonly #timers: Timers;
  readonly #waiting = new Set<() => void>();
  #bytesPerSecond: number | null;
  /** When all that was taken will have passed. */
  #freeAt = 0;

  /** Null for no limit. */
  constructor(timers: Timers, bytesPerSecond: number | null = null) {
    this.#timers = timers;
    this.#bytesPerSecond = bytesPerSecond;
  }

  get bytesPerSecond(): number | null {
    return this.#bytesPerSecond;
  }

  /** What waits goes on at once, and what comes next goes by the new limit. */
  set(bytesPerSecond: number | null): void {
    if (bytesPerSecond === this.#bytesPerSecond) return;
    this.#bytesPerSecond = bytesPerSecond;
    this.#freeAt = 0;
    for (const go of this.#waiting) go();
  }

  /** Resolves once so many bytes may pass; undefined where they may at once. */
  take(bytes: number): Promise<void> | undefined {
    if (this.#bytesPerSecond === null) return undefined;
    const now = this.#timers.now();
    this.#freeAt = Math.max(this.#freeAt, now - BURST_MS) + (bytes * MS_PER_SECOND) / this.#bytesPerSecond;
    const wait = this.#freeAt - now;
    return wait <= 0 ? undefined : this.#after(wait);
  }

  #after(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const go = (): void => {
        cancel();
        this.#waiting.delete(go);
        resolve();
      };
      const cancel = this.#timers.after(ms, go);
      this.#waiting.add(go);
    });
  }
}

type Direction = 'in' | 'out';

/** The limits of a node, as its settings have them. */
export class Bandwidth {
  readonly #timers: Timers;
  readonly #limits = new Map<string, RateLimit>();
  #settings: BandwidthLimits = { overall: null, peers: new Map() };

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  apply(settings: BandwidthLimits): void {
    this.#settings = settings;
    for (const [key, limit] of this.#limits) {
      const [, peer] = key.split(' ');
      limit.set(peer === undefined ? settings.overall : (settings.peers.get(peer as NodeId) ?? null));
    }
  }

  /** Whether streams with this peer are limited now. */
  isLimited(peer: NodeId): boolean {
    return this.#settings.overall !== null || this.#settings.peers.has(peer);
  }

  /** What streams with this peer go by, one way. */
  limits(peer: NodeId, direction: Direction): readonly RateLimit[] {
    return [
      this.#limit(direction, this.#settings.overall),
      this.#limit(`${direction} ${peer}`, this.#settings.peers.get(peer) ?? null),
    ];
  }

  #limit(key: string, bytesPerSecond: number | null): RateLimit {
    const known = this.#limits.get(key);
    if (known !== undefined) return known;
    const limit = new RateLimit(this.#timers, bytesPerSecond);
    this.#limits.set(key, limit);
    return limit;
  }
}

/** Resolves once all limits let so many bytes pass; undefined where they do at once. */
export function passed(limits: readonly RateLimit[], bytes: number): Promise<unknown> | undefined {
  const waits = limits.map((limit) => limit.take(bytes)).filter((wait) => wait !== undefined);
  return waits.length === 0 ? undefined : Promise.all(waits);
}

/** What comes from a connection, no faster than the limits allow. Fails as the connection does. */
export function throttledFrom(connection: Readable, limits: readonly RateLimit[]): Readable {
  const throttle = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      const wait = passed(limits, chunk.length);
      if (wait === undefined) done(null, chunk);
      else void wait.then(() => done(null, chunk));
    },
  });
  // Whoever reads from it hears of what went wrong
  return pipeline(connection, throttle, () => undefined);
}

/** Takes a stream for a connection, no faster than the limits allow. It is finished once the connection has all of it, and then ends that; it ends with it, too. */
export function throttledInto(connection: Writable, limits: readonly RateLimit[]): Writable {
  const throttle = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      const write = (): void => {
        if (connection.write(chunk)) done();
        else connection.once('drain', done);
      };
      const wait = passed(limits, chunk.length);
      if (wait === undefined) write();
      else void wait.then(write);
    },
    final: (done) => void connection.end(done),
    destroy: (error, done) => {
      connection.destroy();
      done(error);
    },
  });
  // One that is closed already would never say so
  if (connection.destroyed) throttle.destroy();
  connection.once('close', () => throttle.destroy());
  return throttle;
}
