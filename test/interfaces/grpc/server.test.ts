/** containerd's snapshots service, asked over its socket. */
import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ERROR_CODES, PandoError } from '../../../src/core/errors.ts';
import { SNAPSHOT_REF_LABEL, type SnapshotInfo } from '../../../src/core/snapshots/snapshot.ts';
import type { SnapshotService } from '../../../src/features/snapshots/snapshot-service.ts';
import { timestampMessage } from '../../../src/interfaces/grpc/conversion.ts';
import { type GrpcServer, startGrpcServer } from '../../../src/interfaces/grpc/server.ts';
import { ERROR_STATUS } from '../../../src/interfaces/grpc/status.ts';
import { codeOf } from '../../main/memory-world.ts';
import { MemorySnapshots, USAGE } from '../memory-snapshots.ts';
import { failureOf, SnapshotsClient } from './snapshots-client.ts';

const CHAIN = 'sha256:9f1b';

let directory: string;
let socket: string;
let snapshots: SnapshotService & { cleanups: number };
let server: GrpcServer;
let client: SnapshotsClient;
let reports: unknown[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'pando-grpc-'));
  socket = join(directory, 'snapshots.sock');
  snapshots = new MemorySnapshots([CHAIN]);
  reports = [];
  server = await startGrpcServer({ socket, snapshots, report: (error) => reports.push(error) });
  client = new SnapshotsClient(socket);
});
afterEach(async () => {
  client.close();
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

function info(key: string, some: Partial<SnapshotInfo> = {}): SnapshotInfo {
  return { kind: 'committed', key, parent: null, labels: {}, createdAt: 0n, updatedAt: 0n, ...some };
}

describe('the socket', () => {
  test('can be opened by its owner only, and is gone after the server has closed', async () => {
    expect((await stat(socket)).mode & 0o777).toBe(0o600);
    await server.close();
    await expect(stat(socket)).rejects.toMatchObject({ code: 'ENOENT' });
    expect((await failureOf(client.usage('x'))).code).toBe(status.UNAVAILABLE);
  });

  test('of a server that runs is left alone', async () => {
    expect(await codeOf(startGrpcServer({ socket, snapshots, report: () => undefined }))).toBe('DAEMON_RUNNING');
    expect(await client.keys()).toEqual([]);
  });

  test('bears who speaks something else, or hangs up in the middle', async () => {
    for (const words of ['GET / HTTP/1.1\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff', '']) {
      const other = connect(socket);
      other.on('error', () => undefined);
      await once(other, 'connect');
      await new Promise((resolve) => other.write(words, 'latin1', resolve));
      other.destroy();
    }
    expect(await client.keys()).toEqual([]);
    expect(reports).toEqual([]);
  });

  test('whose path is longer than an address can be is refused by name', async () => {
    const long = join(directory, 'x'.repeat(108));
    expect(await codeOf(startGrpcServer({ socket: long, snapshots, report: () => undefined }))).toBe('CONFIG_INVALID');
  });
});

describe('the methods', () => {
  test('Prepare, Commit, View, Mounts, Stat, Usage, List, Remove and Cleanup take a snapshot through its life', async () => {
    const prepared = await client.mounts('Prepare', { key: 'default/1/extract', labels: { a: '1' } });
    expect(prepared).toEqual({
      mounts: [{ type: 'zfs', source: 'pool/default/1/extract', target: '', options: ['rw', 'noatime'] }],
    });
    await client.call('Commit', { name: 'layer', key: 'default/1/extract', labels: { b: '2' } });
    expect(await client.mounts('View', { key: 'look', parent: 'layer' })).toMatchObject({
      mounts: [{ options: ['ro'] }],
    });
    expect(await client.mounts('Mounts', { key: 'look' })).toMatchObject({ mounts: [{ source: 'pool/look' }] });
    expect(await client.info('Stat', { key: 'layer' })).toEqual({
      name: 'layer',
      parent: '',
      kind: 'COMMITTED',
      createdAt: { seconds: '1700000000', nanos: 123_456_790 },
      updatedAt: { seconds: '1700000000', nanos: 123_456_790 },
      labels: { b: '2' },
    });
    expect(await client.info('Stat', { key: 'look' })).toMatchObject({ kind: 'VIEW', parent: 'layer' });
    expect(await client.usage('layer')).toEqual({ size: String(USAGE.bytes), inodes: String(USAGE.inodes) });
    expect(await client.keys()).toEqual(['layer', 'look']);
    expect(await failureOf(client.call('Remove', { key: 'layer' }))).toMatchObject({
      code: status.FAILED_PRECONDITION,
    });
    await client.call('Remove', { key: 'look' });
    await client.call('Remove', { key: 'layer' });
    expect(await client.keys()).toEqual([]);
    await client.call('Cleanup', { snapshotter: 'pando' });
    expect(snapshots.cleanups).toBe(1);
  });

  test('Prepare of a layer that is here says that it exists, and then it does', async () => {
    const request = { key: 'default/1/extract', parent: '', labels: { [SNAPSHOT_REF_LABEL]: CHAIN } };
    expect((await failureOf(client.mounts('Prepare', request))).code).toBe(status.ALREADY_EXISTS);
    expect(await client.info('Stat', { key: CHAIN })).toMatchObject({ kind: 'COMMITTED' });
  });

  test.each([
    ['Prepare', {}],
    ['View', {}],
    ['Mounts', {}],
    ['Remove', {}],
    ['Stat', {}],
    ['Usage', {}],
    ['Commit', { key: 'a' }],
    ['Commit', { name: 'a' }],
    ['Update', {}],
    ['Update', { info: { labels: { a: 'b' } } }],
  ])('%s of %j, which names no snapshot, is INVALID_ARGUMENT', async (method, request) => {
    const { code, details } = await failureOf(client.call(method, request));
    expect(code).toBe(status.INVALID_ARGUMENT);
    expect(details).toContain('is empty');
  });

  describe('Update', () => {
    beforeEach(() => client.mounts('Prepare', { key: 'one', labels: { a: '1', 'x/y.z': '2' } }));

    test('without a mask replaces all labels', async () => {
      expect(await client.info('Update', { info: { name: 'one', labels: { c: '3' } } })).toMatchObject({
        labels: { c: '3' },
      });
      const updated = await client.info('Stat', { key: 'one' });
      expect(updated).toMatchObject({
        labels: { c: '3' },
        updatedAt: { nanos: 123_456_790 },
        createdAt: { nanos: 123_456_789 },
      });
    });

    test('with a mask changes what it names', async () => {
      const update = (labels: object, ...paths: string[]) =>
        client.info('Update', { info: { name: 'one', labels }, updateMask: { paths } });
      expect((await update({ a: '7', b: '8' }, 'labels.a')).labels).toEqual({ a: '7', 'x/y.z': '2' });
      expect((await update({}, 'labels.x/y.z')).labels).toEqual({ a: '7' });
      expect((await update({ only: 'this' }, 'labels')).labels).toEqual({ only: 'this' });
    });

    test('of what cannot change is INVALID_ARGUMENT', async () => {
      const refused = client.info('Update', { info: { name: 'one', parent: 'x' }, updateMask: { paths: ['parent'] } });
      expect((await failureOf(refused)).code).toBe(status.INVALID_ARGUMENT);
    });
  });

  test('labels and keys come back as they were, whatever is in them', async () => {
    const texts = [
      'größe',
      '牛\u{1F404}',
      'a"b\\c',
      'line\nbreak\t\u0001',
      ' ',
      'constructor',
      '__proto__',
      'toString',
      'x'.repeat(2000),
      '',
    ];
    for (const [index, text] of texts.entries()) {
      const key = `${index} ${text}`;
      await client.mounts('Prepare', { key, labels: { [text]: `=${text}` } });
      const { name, labels } = await client.info('Stat', { key });
      expect({ name, labels: Object.entries(labels) }).toEqual({ name: key, labels: [[text, `=${text}`]] });
    }
  });

  test('a label that is longer than containerd allows is INVALID_ARGUMENT', async () => {
    const refused = client.mounts('Prepare', { key: 'one', labels: { a: 'x'.repeat(4096) } });
    expect((await failureOf(refused)).code).toBe(status.INVALID_ARGUMENT);
  });

  test('a request that is larger than any that means something is RESOURCE_EXHAUSTED', async () => {
    const refused = client.mounts('Prepare', { key: 'x'.repeat(5 * 1024 * 1024) });
    expect((await failureOf(refused)).code).toBe(status.RESOURCE_EXHAUSTED);
  });
});

describe('a list', () => {
  test('of 1,000 snapshots comes in batches of 100, in order', async () => {
    const keys = Array.from({ length: 1_000 }, (_, index) => `snapshot-${String(index).padStart(4, '0')}`);
    for (const key of keys) await snapshots.view(key, null, {});
    const batches = await client.batches();
    expect(batches.map(({ length }) => length)).toEqual(Array.from({ length: 10 }, () => 100));
    expect(batches.flat().map(({ name }) => name)).toEqual(keys);
  });

  test('of snapshots with large labels comes in messages that clients take', async () => {
    const labels = Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`l${index}`, 'x'.repeat(4000)]));
    for (let index = 0; index < 20; index += 1) await snapshots.view(`s${index}`, null, labels);
    const batches = await client.batches();
    expect(batches.flat()).toHaveLength(20);
    expect(batches.length).toBeGreaterThanOrEqual(16);
  });

  test('has what any filter matches', async () => {
    await snapshots.prepare('a', null, {});
    await snapshots.commit('base', 'a', { 'containerd.io/snapshot.ref': 'sha256:0a' });
    await snapshots.prepare('web', 'base', { tier: '1' });
    await snapshots.view('look', 'base', {});
    expect(await client.keys('kind==active', 'labels."containerd.io/snapshot.ref"==sha256:0a')).toEqual([
      'base',
      'web',
    ]);
    expect(await client.keys('parent==base,name~=^l')).toEqual(['look']);
    expect(await client.keys('')).toEqual(['base', 'look', 'web']);
    expect(await client.keys('name==nothing')).toEqual([]);
  });

  test('with a filter that cannot be read is INVALID_ARGUMENT, with the place', async () => {
    expect(await failureOf(client.keys('name=='))).toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringContaining('at its end'),
    });
  });

  describe('that nobody reads to its end', () => {
    let told: number;

    beforeEach(() => {
      told = 0;
      const many = Array.from({ length: 20_000 }, (_, index) => info(`${index}`.padStart(2_000, '0')));
      const counted = many.map((one) => ({
        ...one,
        get key() {
          told += 1;
          return one.key;
        },
      }));
      snapshots.list = async () => counted;
    });

    async function listBegun() {
      const stream = client.listing();
      const [first] = (await once(stream, 'data')) as [{ info: unknown[] }];
      stream.pause();
      return { stream, first };
    }

    test('waits for its reader', async () => {
      const { stream, first } = await listBegun();
      expect(first.info).toHaveLength(100);
      // Other calls are answered meanwhile.
      for (let turn = 0; turn < 20; turn += 1) await client.call('Cleanup', {});
      expect(told).toBeLessThan(20_000);
      let rest = 0;
      for await (const { info: batch } of stream as AsyncIterable<{ info: unknown[] }>) rest += batch.length;
      expect(100 + rest).toBe(20_000);
    });

    test('ends when its reader goes away', async () => {
      const { stream } = await listBegun();
      const failed = once(stream, 'error');
      stream.cancel();
      expect((await failed)[0]).toMatchObject({ code: status.CANCELLED });
      await client.call('Cleanup', {});
      expect(told).toBeLessThan(20_000);
      expect(reports).toEqual([]);
    });

    test('ends when the server is closed, and keeps it from closing no longer', async () => {
      const { stream } = await listBegun();
      const failed = once(stream, 'error');
      await server.close();
      stream.resume();
      expect((await failed)[0]).toMatchObject({ code: expect.any(Number) });
    });
  });
});

describe('closing', () => {
  test('finishes what was begun, and tells the client', async () => {
    let finish: () => void = () => undefined;
    const begun = new Promise<void>((began) => {
      snapshots.remove = async () => {
        began();
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
      };
    });
    const removed = client.call('Remove', { key: 'x' });
    await begun;
    const closed = server.close();
    finish();
    await removed;
    await closed;
  });

  test('is not kept up by a client that says nothing', async () => {
    const silent = connect(socket);
    await once(silent, 'connect');
    const ended = once(silent, 'close');
    silent.resume();
    await server.close();
    await ended;
  });
});

describe('a failure', () => {
  test.each(ERROR_CODES.map((code) => [code, ERROR_STATUS[code]] as const))(
    '%s has the status %i',
    async (code, expected) => {
      snapshots.stat = async () => {
        throw new PandoError(code, 'This is "größer" than\nthat.');
      };
      const failure = await failureOf(client.info('Stat', { key: 'x' }));
      expect(failure).toEqual({ code: expected, details: 'This is "größer" than\nthat.' });
      expect(expected).not.toBe(status.OK);
      expect(reports).toHaveLength(code === 'INTERNAL' ? 1 : 0);
    },
  );

  test('is what containerd knows it by', () => {
    expect(ERROR_STATUS).toMatchObject({
      SNAPSHOT_EXISTS: status.ALREADY_EXISTS,
      SNAPSHOT_UNKNOWN: status.NOT_FOUND,
      SNAPSHOT_STATE: status.FAILED_PRECONDITION,
      ARGUMENT_INVALID: status.INVALID_ARGUMENT,
      NAME_INVALID: status.INVALID_ARGUMENT,
      CALL_CANCELLED: status.CANCELLED,
      ZFS_POOL_UNAVAILABLE: status.UNAVAILABLE,
      PEER_UNREACHABLE: status.UNAVAILABLE,
    });
    const codes = Object.entries(ERROR_STATUS);
    const exists = codes.filter(([, code]) => code === status.ALREADY_EXISTS || code === status.NOT_FOUND);
    expect(exists.map(([code]) => code)).toEqual(['SNAPSHOT_EXISTS', 'SNAPSHOT_UNKNOWN']);
  });

  test('that nobody foresaw is INTERNAL, reported, and told without its stack', async () => {
    const bug = new TypeError('x is not a function');
    snapshots.stat = async () => {
      throw bug;
    };
    const failure = await failureOf(client.info('Stat', { key: 'x' }));
    expect(failure).toEqual({ code: status.INTERNAL, details: 'x is not a function' });
    expect(reports).toEqual([bug]);
  });

  test('with a text that fits no header is cut', async () => {
    const { code, details } = await failureOf(client.info('Stat', { key: '牛'.repeat(100_000) }));
    expect(code).toBe(status.NOT_FOUND);
    expect(details).toMatch(/^There is no snapshot "牛+…$/);
  });
});

test('a timestamp is exact to the nanosecond, before 1970 too', () => {
  expect(timestampMessage(1_700_000_000_000_000_001n)).toEqual({ seconds: 1_700_000_000, nanos: 1 });
  expect(timestampMessage(-1n)).toEqual({ seconds: -1, nanos: 999_999_999 });
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 62n), max: 2n ** 62n }), (time) => {
      const { seconds, nanos } = timestampMessage(time);
      expect(BigInt(seconds) * 1_000_000_000n + BigInt(nanos)).toBe(time);
      expect(nanos >= 0 && nanos < 1_000_000_000).toBe(true);
    }),
  );
});
