/** What a receiver does when its peer does not keep to the rules: a sender played by the test. */
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EMPTY_GRAPH } from '../../src/core/graph/graph.ts';
import { parseTransferId, type TransferId, uuidFrom } from '../../src/core/ids.ts';
import { plan } from '../../src/core/plan/plan.ts';
import { PLAIN_STREAM } from '../../src/core/stream-flags.ts';
import { systemTimers } from '../../src/sync/timers.ts';
import { LinkRates } from '../../src/transfer/compression/link-rates.ts';
import { MemoryCompressor } from '../../src/transfer/compression/memory-compressor.ts';
import { TransferJournal } from '../../src/transfer/journal.ts';
import { DEFAULT_TRANSFER_LIMITS, TransferQueue } from '../../src/transfer/limits.ts';
import { LinkUses } from '../../src/transfer/link-uses.ts';
import type { PullReport } from '../../src/transfer/progress.ts';
import { FINISH, type LinkMode, PREPARE } from '../../src/transfer/protocol.ts';
import { Puller } from '../../src/transfer/puller.ts';
import { TransferRecovery } from '../../src/transfer/recovery.ts';
import { REPLICA } from '../core/graph-language.ts';
import { at, dataset, IMAGES, MemoryWorld, type WorldNode } from '../main/memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;
let journal: TransferJournal;
/** What the played sender answers to each method. */
let answers: Record<string, (params: unknown) => unknown>;
let asked: string[];
let disconnect: () => void;
let opened: PassThrough[];

const mintTransferId = (): TransferId => parseTransferId(uuidFrom(1, new Uint8Array(16)));

beforeEach(async () => {
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  beta = await world.start('beta');
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.snapshot([at('alpha/images', '1')]);
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  journal = await TransferJournal.open(beta.node.history, () => undefined);
  answers = {
    [PREPARE]: () => ({ mode: 'sealed', directPort: null, tickets: ['ticket'], flags: [''] }),
    [FINISH]: () => null,
  };
  asked = [];
  opened = [];
});

afterEach(() => world.stop());

async function pull(mode: LinkMode = 'sealed'): Promise<PullReport> {
  const source = alpha.node.trees.graph(IMAGES);
  const local = EMPTY_GRAPH;
  const puller = new Puller({
    node: beta.node.id,
    zfs: beta.zfs,
    journal,
    recovery: new TransferRecovery({
      node: beta.node.id,
      zfs: beta.zfs,
      journal,
      isMirrored: () => true,
      peerWith: () => alpha.node.id,
      mintTransferId,
      report: () => undefined,
    }),
    calls: {
      call: async (_peer, method, params) => {
        asked.push(method);
        return answers[method]?.(params);
      },
      handle: () => undefined,
      onDisconnected: (listener) => {
        disconnect = () => listener(alpha.node.id);
        return () => undefined;
      },
    },
    rates: new LinkRates(),
    links: {
      apart: null,
      compressor: new MemoryCompressor(),
      uses: new LinkUses(),
      openData: async () => {
        const stream = new PassThrough();
        opened.push(stream);
        return stream;
      },
      addressOf: () => '127.0.0.1:9',
      limits: () => [],
    },
    queue: new TransferQueue(DEFAULT_TRANSFER_LIMITS),
    timers: systemTimers,
    mintTransferId,
  });
  return puller.pull({
    peer: alpha.node.id,
    tree: IMAGES,
    root: dataset('beta/copy'),
    plan: plan({ source, wanted: source, local, ...REPLICA }),
    local: () => local,
    mode,
    limit: null,
    settle: async () => undefined,
    onProgress: ({ kind }) => {
      if (kind === 'step-started') queueMicrotask(onStarted);
    },
    signal: new AbortController().signal,
  });
}

let onStarted = (): void => undefined;

function codes({ steps }: PullReport): string[] {
  return steps.map(({ outcome }) => (outcome.result === 'failed' ? outcome.error.code : outcome.result));
}

describe('a receiver', () => {
  it('refuses to leave TLS on a link that it was not told to trust, and opens no connection', async () => {
    answers[PREPARE] = () => ({ mode: 'direct', directPort: 9, tickets: ['ticket'], flags: [''] });
    expect(codes(await pull('sealed'))).toEqual(['TRANSFER_REFUSED']);
    expect(opened).toEqual([]);
    expect(asked).toEqual([PREPARE, FINISH]);
    expect(journal.unfinished()).toEqual([]);
  });

  it('refuses an answer that offers something else than what was asked for', async () => {
    answers[PREPARE] = () => ({ mode: 'sealed', directPort: null, tickets: ['one', 'two'], flags: ['', ''] });
    expect(codes(await pull())).toEqual(['TRANSFER_REFUSED']);
    answers[PREPARE] = () => ({ mode: 'carrier pigeon' });
    expect(codes(await pull())).toEqual(['PROTOCOL_FRAME_INVALID']);
    expect(opened).toEqual([]);
  });

  it('does not wait for the rest of a stream whose peer is gone', async () => {
    onStarted = () => setImmediate(() => disconnect());
    expect(codes(await pull())).toEqual(['CONNECTION_CLOSED']);
    expect(await beta.zfs.listOnly([dataset('beta/copy')])).toEqual([]);
  });

  it('refuses a stream of another snapshot than was asked for, and leaves no dataset', async () => {
    await alpha.zfs.create(dataset('alpha/other'));
    await alpha.zfs.snapshot([at('alpha/other', '1')]);
    const request = { snapshot: at('alpha/other', '1'), base: null, flags: PLAIN_STREAM, resumeToken: null };
    const { signal } = new AbortController();
    onStarted = () =>
      setImmediate(() => {
        const [stream] = opened;
        if (stream !== undefined)
          void alpha.zfs.send(request, { kind: 'stream', stream }, signal).catch(() => undefined);
      });
    expect(codes(await pull())).toEqual(['ZFS_STREAM_MISMATCH']);
    expect(await beta.zfs.listOnly([dataset('beta/copy')])).toEqual([]);
    expect(journal.unfinished()).toEqual([]);
  });

  it('refuses a stream that is none, and leaves no dataset', async () => {
    onStarted = () => setImmediate(() => opened[0]?.end('this is no stream'));
    expect(codes(await pull())).toEqual(['ZFS_STREAM_INVALID']);
    expect(await beta.zfs.listOnly([dataset('beta/copy')])).toEqual([]);
    expect(asked.at(-1)).toBe(FINISH);
  });
});
