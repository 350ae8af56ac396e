import { mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ERROR_CODES } from '../../../src/core/errors.ts';
import type { Event } from '../../../src/core/events.ts';
import { requireDataset } from '../../../src/core/graph/graph.ts';
import { HttpClient } from '../../../src/interfaces/http/client.ts';
import { ERROR_STATUS } from '../../../src/interfaces/http/error-status.ts';
import { startHttpServer } from '../../../src/interfaces/http/server.ts';
import { codeOf, dataset, gate, IMAGES, ROOT, syncImages } from '../../main/memory-world.ts';
import { ServedWorld, servicesOf } from '../served-world.ts';

let world: ServedWorld;
let directory: string;
beforeEach(async () => {
  world = await ServedWorld.create();
  directory = await mkdtemp(join(tmpdir(), 'pando-socket-'));
});
afterEach(async () => {
  await world.stop();
  await rm(directory, { recursive: true, force: true });
});

const noReport = () => undefined;

describe('the socket', () => {
  test('can be opened by its owner only', async () => {
    const { socket } = await world.start('build');
    expect((await stat(socket)).mode & 0o777).toBe(0o600);
  });

  test('is gone after the server has closed, and nobody answers', async () => {
    const { socket, server, client } = await world.start('build');
    await server.close();
    await expect(stat(socket)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await codeOf(client.identity())).toBe('DAEMON_UNREACHABLE');
  });

  test('of a daemon that was killed is replaced', async () => {
    const node = await world.start('build');
    const socket = join(directory, 'stale.sock');
    const dead = createServer();
    await new Promise<void>((resolve) => dead.listen(socket, resolve));
    // A clean close removes the file by its name; a killed daemon leaves it.
    await rename(socket, `${socket}.kept`);
    await new Promise<void>((resolve) => dead.close(() => resolve()));
    await rename(`${socket}.kept`, socket);
    const server = await startHttpServer({ socket, services: servicesOf(node), report: noReport });
    try {
      expect((await new HttpClient(socket).identity()).node).toBe(node.node.id);
    } finally {
      await server.close();
    }
  });

  test('of a daemon that runs is left alone', async () => {
    const node = await world.start('build');
    const again = startHttpServer({ socket: node.socket, services: servicesOf(node), report: noReport });
    expect(await codeOf(again)).toBe('DAEMON_RUNNING');
    expect((await node.client.identity()).node).toBe(node.node.id);
  });

  test('whose path is longer than an address can be is refused by name', async () => {
    const node = await world.start('build');
    const socket = join(directory, 'x'.repeat(108));
    expect(await codeOf(startHttpServer({ socket, services: servicesOf(node), report: noReport }))).toBe(
      'CONFIG_INVALID',
    );
  });

  test('that cannot be made is refused by name', async () => {
    const node = await world.start('build');
    const file = join(directory, 'file');
    await writeFile(file, '');
    const socket = join(file, 'pando.sock');
    expect(await codeOf(startHttpServer({ socket, services: servicesOf(node), report: noReport }))).toBe(
      'DATA_DIRECTORY_UNWRITABLE',
    );
  });
});

async function raw(socket: string, method: 'GET' | 'POST', path: string, body?: string, type = 'application/json') {
  const dispatcher = new Agent({ connect: { socketPath: socket } });
  try {
    const answer = await request(`http://pando${path}`, {
      dispatcher,
      method,
      ...(body === undefined ? {} : { body, headers: { 'content-type': type } }),
    });
    return { status: answer.statusCode, body: (await answer.body.json()) as Record<string, unknown> };
  } finally {
    await dispatcher.close();
  }
}

describe('a request', () => {
  test.each([
    ['a body that is no JSON', '/v1/trees', '{'],
    ['a body that is missing', '/v1/trees', undefined],
    ['a body with an unknown key', '/v1/trees', '{"tree":"a","root":"b","x":1}'],
    ['a body of the wrong types', '/v1/snapshot', '{"snapshot":7}'],
    ['a name that cannot be', '/v1/trees', '{"tree":"a b","root":"tank/a"}'],
    ['an id with a typing error', '/v1/peers', '{"name":"a","node":"ABC"}'],
  ])('with %s is answered with 400 and an error object', async (_, path, body) => {
    const { socket, reports } = await world.start('build');
    const answer = await raw(socket, 'POST', path, body);
    expect(answer.status).toBe(400);
    expect(Object.keys(answer.body).sort()).toEqual(['code', 'evidence', 'message']);
    expect(answer.body.code).toMatch(/_INVALID$/);
    expect(reports).toEqual([]);
  });

  test('of an unknown path is answered with 404 and an error object', async () => {
    const { socket } = await world.start('build');
    const answer = await raw(socket, 'GET', '/v1/nothing');
    expect(answer).toMatchObject({ status: 404, body: { code: 'ARGUMENT_INVALID' } });
  });

  test('that fails is answered with the status of its code', async () => {
    const { socket } = await world.start('build');
    expect(await raw(socket, 'GET', '/v1/mirrors/none/plan')).toMatchObject({
      status: ERROR_STATUS.MIRROR_UNKNOWN,
      body: { code: 'MIRROR_UNKNOWN', evidence: { tree: 'none' } },
    });
  });

  test('with a huge body is refused', async () => {
    const { socket } = await world.start('build');
    const answer = await raw(socket, 'POST', '/v1/trees', JSON.stringify({ tree: 'x'.repeat(2_000_000), root: 'a' }));
    expect(answer).toMatchObject({ status: 400, body: { code: 'ARGUMENT_INVALID' } });
  });
});

test('every error code has a status of an error', () => {
  for (const code of ERROR_CODES) expect(ERROR_STATUS[code], code).toBeGreaterThanOrEqual(400);
});

describe('a client', () => {
  test('gets the errors of the node with code and evidence', async () => {
    const { client } = await world.start('build');
    await expect(client.addTree({ tree: 'images', root: 'build/none' })).rejects.toMatchObject({
      code: 'TREE_ROOT_MISSING',
      evidence: { root: 'build/none' },
    });
  });

  test('finds errors inside of answers as errors', async () => {
    const { build, backup } = await world.startPair();
    await backup.client.addMirror({ tree: 'images', from: 'build', root: 'backup/images' });
    const [mirror] = (await backup.client.status()).mirrors;
    expect(mirror?.error).toBeInstanceOf(Error);
    expect(mirror?.error?.code).toBe('TREE_UNKNOWN');
    expect((await build.client.status()).mirrors).toEqual([]);
  });

  test('says where it looked when no node runs', async () => {
    const socket = join(directory, 'none.sock');
    await expect(new HttpClient(socket).status()).rejects.toMatchObject({
      code: 'DAEMON_UNREACHABLE',
      message: `No pando is running (no socket at ${socket}); start it with "pando serve".`,
    });
  });

  test('says so when something else answers', async () => {
    const socket = join(directory, 'other.sock');
    const other = createServer((connection) => {
      connection.on('error', () => undefined);
      connection.once('data', () => connection.end('HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello'));
    });
    await new Promise<void>((resolve) => other.listen(socket, resolve));
    try {
      expect(await codeOf(new HttpClient(socket).status())).toBe('DAEMON_UNREACHABLE');
    } finally {
      await new Promise((resolve) => other.close(resolve));
    }
  });

  test('does not take a stream that was cut short for a result', async () => {
    const socket = join(directory, 'cut.sock');
    const other = createServer((connection) => {
      connection.on('error', () => undefined);
      connection.once('data', () =>
        connection.end('HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{"type":"plan","plan":{"steps":[]}}\n{"type":"res'),
      );
    });
    await new Promise<void>((resolve) => other.listen(socket, resolve));
    const quiet = { refresh: false, signal: new AbortController().signal, onPlan: noReport, onProgress: noReport };
    try {
      expect(await codeOf(new HttpClient(socket).sync('images', quiet))).toBe('DAEMON_UNREACHABLE');
    } finally {
      await new Promise((resolve) => other.close(resolve));
    }
  });
});

describe('a stream of lines', () => {
  async function withTree() {
    const node = await world.start('build');
    await node.zfs.create(dataset('build/images'));
    await node.client.addTree({ tree: 'images', root: 'build/images' });
    return node;
  }

  async function firstSnapshotOf(events: AsyncIterable<Event>): Promise<string> {
    for await (const event of events) if (event.type === 'snapshot.created') return event.snapshot.name;
    throw new Error('ended without a snapshot');
  }

  test('brings what happens while a log is followed', async () => {
    const { client } = await withTree();
    const { signal } = new AbortController();
    const found = firstSnapshotOf(client.log({ tree: 'images', follow: true, signal }));
    await client.snapshot({ snapshot: 'images@one' });
    expect(await found).toBe('one');
  });

  test('of a node without settings brings the first one that is made', async () => {
    const { client, zfs } = await world.start('build');
    await zfs.create(dataset('build/images'));
    const { signal } = new AbortController();
    const events = client.log({ follow: true, signal });
    const first = events.next();
    await client.addTree({ tree: 'images', root: 'build/images' });
    expect((await first).value).toMatchObject({ seq: 1, type: 'local-tree.added' });
    await events.return(undefined);
  });

  test('is over when its reader aborts it', async () => {
    const { client } = await withTree();
    const reading = new AbortController();
    const events = client.log({ tree: 'images', follow: true, signal: reading.signal });
    await events.next();
    const rest = codeOf(
      (async () => {
        for await (const _ of events);
      })(),
    );
    reading.abort();
    expect(await rest).toBe('CALL_CANCELLED');
  });

  test('is ended with an error when the node stops', async () => {
    const { client, server } = await withTree();
    const events = client.log({ tree: 'images', follow: true, signal: new AbortController().signal });
    await events.next();
    const rest = codeOf(
      (async () => {
        for await (const _ of events);
      })(),
    );
    await server.close();
    expect(await rest).toBe('DAEMON_UNREACHABLE');
  });

  test('brings every event of a log that is longer than a buffer', async () => {
    const { client, node } = await withTree();
    const graph = node.trees.graph(IMAGES);
    const many = Array.from({ length: 5000 }, (_, index) => ({
      type: 'dataset.properties-changed' as const,
      dataset: requireDataset(graph, ROOT).id,
      changed: { 'user:note': `${index} ${'x'.repeat(100)}` },
    }));
    await node.history.record(IMAGES, 'command', many);
    const seqs: number[] = [];
    for await (const { seq } of client.log({ tree: 'images', follow: false, signal: new AbortController().signal })) {
      seqs.push(seq);
    }
    expect(seqs).toEqual(Array.from({ length: 5002 }, (_, index) => index + 1));
  });
});

test('the server closes at once though a sync waits for another that does not end', async () => {
  const [reached, go] = [gate(), gate()];
  const { build, backup } = await world.startPair({
    onCommand: async (command) => {
      if (!command.includes('receive')) return;
      reached.open();
      await go.opened;
    },
  });
  await build.zfs.create(dataset('build/images'));
  await build.client.addTree({ tree: 'images', root: 'build/images' });
  await build.client.snapshot({ snapshot: 'images@one' });
  await backup.client.addMirror({ tree: 'images', from: 'build', root: 'backup/images' });
  const running = syncImages(backup);
  await reached.opened;
  const waiting = codeOf(
    backup.client.sync('images', {
      refresh: false,
      signal: new AbortController().signal,
      onPlan: noReport,
      onProgress: noReport,
    }),
  );
  // Answered by the time the sync waits: it was asked for before.
  await backup.client.identity();
  await backup.server.close();
  expect(await waiting).toBe('DAEMON_UNREACHABLE');
  go.open();
  expect((await running).steps.map(({ outcome }) => outcome.result)).toEqual(['done']);
});

test('a client that goes away cancels its sync, and leaves nothing half done', async () => {
  const { build, backup } = await world.startPair();
  await build.zfs.create(dataset('build/images'));
  await build.client.addTree({ tree: 'images', root: 'build/images' });
  await build.client.snapshot({ snapshot: 'images@one' });
  await backup.client.addMirror({ tree: 'images', from: 'build', root: 'backup/images' });
  const cancelling = new AbortController();
  const sync = backup.client.sync('images', {
    refresh: false,
    signal: cancelling.signal,
    onPlan: () => cancelling.abort(),
    onProgress: noReport,
  });
  expect(await codeOf(sync)).toBe('CALL_CANCELLED');
  const quiet = { refresh: false, signal: new AbortController().signal, onPlan: noReport, onProgress: noReport };
  // Waits for its turn behind the cancelled one, then finds a sound state to go on from.
  await backup.client.sync('images', quiet);
  expect((await backup.client.verify('images', quiet.signal)).ok).toBe(true);
});
