/** The ZFS of a node that means harm: it tells of snapshots that were taken at other times, and sends what was not asked for. */
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { encodeStream, StreamDecoder, type StreamRecord } from '../../../src/zfs/memory/stream-format.ts';
import type { ListedSnapshot, SendRequest, SendTarget, StreamResult, Zfs } from '../../../src/zfs/zfs.ts';
import type { Random } from '../random.ts';
import { alteredBytes } from './altered.ts';
import type { Habits } from './hostility.ts';

const GARBAGE_BYTES_MAX = 2_000;
/** Snapshots are said to have been taken at any time up to this one, in Unix s. */
const CREATION_MAX = 2 ** 33;

type Doing = (request: SendRequest, target: SendTarget, signal: AbortSignal) => Promise<StreamResult>;

export function hostileZfs(zfs: Zfs, random: Random, habits: Habits): Zfs {
  const sender = new WrongSender(zfs, random, habits);
  const forgeTimes = random.fork();
  const creations = new Map<string, number>();
  const forged = <Snapshot extends ListedSnapshot>(snapshot: Snapshot): Snapshot => {
    const { guid, creation } = snapshot;
    const said = creations.get(guid) ?? (forgeTimes.chance(habits.times) ? forgeTimes.below(CREATION_MAX) : creation);
    creations.set(guid, said);
    return { ...snapshot, creation: said };
  };
  const overrides: Partial<Zfs> = {
    send: (request, target, signal) => sender.send(request, target, signal),
    list: async (...given) =>
      (await zfs.list(...given)).map((one) => ({ ...one, snapshots: one.snapshots.map(forged) })),
    listOnly: async (...given) =>
      (await zfs.listOnly(...given)).map((one) => ({ ...one, snapshots: one.snapshots.map(forged) })),
    listSnapshots: async (...given) => (await zfs.listSnapshots(...given)).map((one) => one && forged(one)),
  };
  return new Proxy(zfs, {
    get: (target, name) => Reflect.get(overrides, name) ?? Reflect.get(target, name),
  });
}

class WrongSender {
  readonly #zfs: Zfs;
  readonly #random: Random;
  readonly #habits: Habits;
  readonly #doings: readonly Doing[] = [
    (_request, target) => this.#give(this.#random.bytes(this.#random.below(GARBAGE_BYTES_MAX)), target),
    async (request, target, signal) => {
      const whole = await this.#whole(request, signal);
      return this.#give(whole.subarray(0, this.#random.below(whole.length)), target);
    },
    async (request, target, signal) =>
      this.#give(alteredBytes(await this.#whole(request, signal), this.#random), target),
    async (request, target, signal) => this.#give(this.#forge(await this.#whole(request, signal)), target),
    async (request, target, signal) => {
      const listed = await this.#zfs.listOnly([request.snapshot.dataset]);
      const others = listed.flatMap(({ name, snapshots }) =>
        snapshots.map((one) => ({ dataset: name, snapshot: one.name })),
      );
      const snapshot = others.length > 0 ? this.#random.pick(others) : request.snapshot;
      return this.#zfs.send({ ...request, snapshot, base: null, resumeToken: null }, target, signal);
    },
    (request, target, signal) => this.#zfs.send({ ...request, base: null, resumeToken: null }, target, signal),
    (_request, _target, signal) => untilAborted(signal),
  ];

  constructor(zfs: Zfs, random: Random, habits: Habits) {
    this.#zfs = zfs;
    this.#habits = habits;
    this.#random = random;
  }

  send(request: SendRequest, target: SendTarget, signal: AbortSignal): Promise<StreamResult> {
    if (!this.#random.chance(this.#habits.streams)) return this.#zfs.send(request, target, signal);
    return this.#random.pick(this.#doings)(request, target, signal);
  }

  async #whole(request: SendRequest, signal: AbortSignal): Promise<Buffer> {
    const stream = new PassThrough();
    const [whole] = await Promise.all([buffer(stream), this.#zfs.send(request, { kind: 'stream', stream }, signal)]);
    return whole;
  }

  async #give(bytes: Uint8Array, target: SendTarget): Promise<StreamResult> {
    const end = target.kind === 'stream' ? target.stream : target.socket;
    if (this.#random.chance(0.5)) end.end(bytes);
    else end.write(bytes, () => end.destroy());
    return { bytes: bytes.length };
  }

  /** Another begin than it has, with right checksums. Files are left as they are: nobody could tell that they are others. */
  #forge(whole: Buffer): Buffer {
    const records = Array.from(new StreamDecoder().push(whole), (record): StreamRecord => {
      if (record.kind !== 'begin') return record;
      const other = `${this.#random.below(2 ** 32)}` as typeof record.toGuid;
      const forged: Partial<typeof record> = this.#random.pick([
        { toGuid: other },
        { fromGuid: record.fromGuid === null ? other : null },
        { toName: `forged-${other}` as typeof record.toName },
        { creation: this.#random.below(CREATION_MAX) },
        { clone: !record.clone },
        { flags: 'w' },
        { skipped: 1 + this.#random.below(5) },
      ]);
      return { ...record, ...forged };
    });
    return Buffer.concat([...encodeStream(records)]);
  }
}

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const give = (): void => reject(signal.reason);
    if (signal.aborted) give();
    signal.addEventListener('abort', give, { once: true });
  });
}
