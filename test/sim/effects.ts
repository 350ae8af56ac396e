/**
 * What a node does to its ZFS and its log takes effect when the scheduler says so, and not at all when the node is gone before. A node that is gone
 * after an effect never learns of it. Between them this is a crash between any two effects.
 */
import { PassThrough, pipeline, Transform } from 'node:stream';
import type { Log } from '../../src/log/log.ts';
import type { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import type { ReceiveRequest, ReceiveSource, StreamResult, Zfs } from '../../src/zfs/zfs.ts';
import type { Life } from './life.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

/** Usual time of a command on a ZFS, of a write to a log, and between two pieces of a stream, in ms. */
const COMMAND_MS = 4;
const WRITE_MS = 1;
const PIECE_MS = 10;
/** How often a stream comes in pieces with time between them, rather than at once. */
const SLOW_STREAMS = 0.3;

/** Writes of a log; everything else only reads, from memory mostly. */
const LOG_WRITES: ReadonlySet<string> = new Set(['append', 'reset', 'compact', 'remove']);

export interface EffectsOptions {
  readonly name: string;
  readonly life: Life;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly trace: Trace;
  /** Told before and after each command that could destroy something. */
  readonly watch: (command: string, given: readonly unknown[], act: () => Promise<unknown>) => Promise<unknown>;
}

export class Effects {
  readonly #options: EffectsOptions;

  constructor(options: EffectsOptions) {
    this.#options = options;
  }

  zfs(zfs: MemoryZfs): Zfs {
    const overrides = {
      receive: (request: ReceiveRequest, source: ReceiveSource, signal: AbortSignal) =>
        this.#receive(zfs, request, source, signal),
    };
    return this.#over<Zfs>(zfs, { ms: COMMAND_MS, overrides, takesEffect: () => true });
  }

  log(log: Log): Log {
    return this.#over<Log>(log, { ms: WRITE_MS, overrides: {}, takesEffect: (name) => LOG_WRITES.has(name) });
  }

  #over<Port extends object>(
    port: Port,
    {
      ms,
      overrides,
      takesEffect,
    }: {
      readonly ms: number;
      readonly overrides: Partial<Port>;
      readonly takesEffect: (name: string) => boolean;
    },
  ): Port {
    const methods = new Map<string | symbol, unknown>();
    const methodOf = (name: string | symbol): unknown => {
      const override: unknown = Reflect.get(overrides, name);
      const value: unknown = override ?? Reflect.get(port, name);
      if (typeof value !== 'function') return value;
      if (typeof name === 'symbol' || !takesEffect(name)) return value.bind(port);
      return (...given: unknown[]) => {
        const act = (): Promise<unknown> => Reflect.apply(value, port, given);
        return this.#effect(name, ms, () => this.#options.watch(name, given, act));
      };
    };
    return new Proxy(port, {
      get: (_target, name) => {
        if (!methods.has(name)) methods.set(name, methodOf(name));
        return methods.get(name);
      },
    });
  }

  #effect(name: string, ms: number, act: () => Promise<unknown>): Promise<unknown> {
    const { scheduler, random, life, trace, name: who } = this.#options;
    return new Promise((resolve, reject) => {
      scheduler.after(random.wait(ms), () => {
        if (life.isOver) return;
        trace.note(scheduler.now(), who, name);
        act().then(
          (value) => {
            if (!life.isOver) resolve(value);
          },
          (error: unknown) => {
            trace.remark(scheduler.now(), who, () => `${name}: ${error}`);
            if (!life.isOver) reject(error);
          },
        );
      });
    });
  }

  #receive(zfs: MemoryZfs, request: ReceiveRequest, source: ReceiveSource, signal: AbortSignal): Promise<StreamResult> {
    const isSlow = source.kind === 'stream' && this.#options.random.chance(SLOW_STREAMS);
    if (!isSlow) return zfs.receive(request, source, signal);
    const { scheduler, random } = this.#options;
    const slow = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        scheduler.after(random.wait(PIECE_MS), () => done(null, chunk));
      },
    });
    const stream = pipeline(source.stream, slow, new PassThrough(), () => undefined);
    return zfs.receive(request, { kind: 'stream', stream }, signal);
  }
}
