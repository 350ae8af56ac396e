/** Large streams between nodes go through processes of their own: what comes, what is refused, and what is left of them. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type AvailableZfs, ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import { isPandoError } from '../../src/core/errors.ts';
import type { TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { SyncReport } from '../../src/features/mirrors/mirror-syncs.ts';
import { createIdentity, type Identity } from '../../src/sync/identity.ts';
import { type SealedStreamOptions, Sealing } from '../../src/sync/sealing/sealing.ts';
import { CliZfs } from '../../src/zfs/cli/cli-zfs.ts';
import { below, introduceReal, type RealNode, startRealNode, syncTree } from './real-node.ts';

const IMAGES = 'images' as TreeName;
/** Above what is worth a process. */
const LARGE_BYTES = 48 * 1024 * 1024;
const PROGRAM = fileURLToPath(new URL('../../dist/src/sync/sealing/program.js', import.meta.url));

/** Processes below this one that seal a stream. */
async function sealingProcesses(): Promise<string[]> {
  const { stdout } = await execa('ps', ['--ppid', String(process.pid), '-o', 'args='], { reject: false });
  return stdout.split('\n').filter((line) => line.includes(PROGRAM));
}

describe('a large stream between nodes that do not trust their link', () => {
  let zfs: AvailableZfs;
  let alpha: RealNode;
  let beta: RealNode;

  beforeAll(async () => {
    zfs = await ensureZfs();
  });

  afterAll(() => zfs.stop());

  beforeEach(async () => {
    alpha = await startRealNode('alpha');
    beta = await startRealNode('beta');
    await execa('zfs', ['create', below(alpha.pool, 'images')]);
    await writeFile(join(alpha.pool.mountpoint, 'images', 'large'), randomBytes(LARGE_BYTES));
    await execa('zfs', ['snapshot', `${below(alpha.pool, 'images')}@1`]);
    await alpha.node.trees.add({ tree: IMAGES, root: below(alpha.pool, 'images') });
    await introduceReal(alpha, beta, false);
    await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: below(beta.pool, 'copy'), ...EVERYTHING });
  });

  afterEach(async () => {
    await beta.remove();
    await alpha.remove();
    await expect.poll(sealingProcesses).toEqual([]);
  });

  function resultsOf({ steps }: SyncReport): string[] {
    return steps.map(({ step, outcome }) => {
      return `${step.kind} ${outcome.result}${outcome.result === 'failed' ? ` ${outcome.error.code}` : ''}`;
    });
  }

  /** Syncs, and calls `then` once with the first bytes that were reported. */
  function syncAndThen(then: () => unknown): Promise<SyncReport> {
    let isTold = false;
    return syncTree(beta, IMAGES, {
      onProgress: (progress) => {
        if (progress.kind !== 'step-progress' || progress.bytes === 0 || isTold) return;
        isTold = true;
        void then();
      },
    });
  }

  it('goes through a process at either end, which are gone behind it, and is counted to the byte', async () => {
    const report = await syncTree(beta, IMAGES);
    expect(resultsOf(report)).toEqual(['receive-full done']);
    expect(report.bytes).toBeGreaterThan(LARGE_BYTES);
    expect(alpha.sealing.started).toBe(1);
    expect(beta.sealing.started).toBe(1);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  });

  it('goes through the node itself where it is to be slow, and slows down where that is said while it runs', async () => {
    await beta.node.limits.set(null, 64 * LARGE_BYTES);
    expect(resultsOf(await syncTree(beta, IMAGES))).toEqual(['receive-full done']);
    expect(beta.sealing.started).toBe(0);
    await beta.node.limits.set(null, null);
    // Or else it would be tried whether compressing helps
    beta.node.linkRates.forget(alpha.node.id);
    await writeFile(join(alpha.pool.mountpoint, 'images', 'more'), randomBytes(LARGE_BYTES));
    await execa('zfs', ['snapshot', `${below(alpha.pool, 'images')}@2`]);
    const abort = new AbortController();
    let bytes = 0;
    const syncing = syncTree(beta, IMAGES, {
      signal: abort.signal,
      onProgress: (progress) => {
        if (progress.kind !== 'step-progress') return;
        if (bytes === 0) void beta.node.limits.set(null, 1024);
        bytes = Math.max(bytes, progress.bytes);
      },
    });
    await expect.poll(() => bytes).toBeGreaterThan(0);
    abort.abort();
    const results = resultsOf(await syncing);
    // Whether it was through before it was to be slow is the machine's business
    expect(['receive-incremental failed ZFS_ABORTED', 'receive-incremental done']).toContain(results[0]);
    expect(beta.sealing.started).toBe(1);
  });

  it('ends at once when it is cancelled, and leaves nothing', async () => {
    const abort = new AbortController();
    const report = await syncTree(beta, IMAGES, {
      signal: abort.signal,
      onProgress: ({ kind }) => {
        if (kind === 'step-started') setImmediate(() => abort.abort());
      },
    }).catch((error: unknown) => {
      if (!isPandoError(error, 'TRANSFER_CANCELLED')) throw error;
    });
    for (const { outcome } of report?.steps ?? []) expect(outcome.result).not.toBe('done');
    await expect.poll(sealingProcesses).toEqual([]);
  });

  /** Null where the copy is not there. */
  async function snapshotsOfCopy(): Promise<readonly string[] | null> {
    const [copy] = await new CliZfs().listOnly([below(beta.pool, 'copy')]);
    return copy === undefined ? null : copy.snapshots.map(({ name }) => name);
  }

  /** Both nodes may dial at the same time, and one of the connections gives way to the other. */
  async function syncOnceConnected(): Promise<SyncReport> {
    for (;;) {
      try {
        return await syncTree(beta, IMAGES);
      } catch (error) {
        if (!isPandoError(error, 'CONNECTION_CLOSED')) throw error;
      }
    }
  }

  it('breaks off when its grant is taken back, and comes whole once it is given again', async () => {
    const cut = await syncAndThen(() => alpha.node.grants.revoke(beta.node.id, '*')).catch(() => undefined);
    const isThrough = cut?.steps.every(({ outcome }) => outcome.result === 'done') === true;
    if (!isThrough) {
      await expect.poll(sealingProcesses).toEqual([]);
      // zfs-fuse can have had all of it when the connection that was to say so went away, and ends what it has begun
      await expect.poll(snapshotsOfCopy).not.toEqual([]);
      const left = (await snapshotsOfCopy()) === null ? ['receive-full done'] : [];
      await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'reader' });
      await beta.node.hub.reach(alpha.node.id);
      expect(resultsOf(await syncOnceConnected())).toEqual(left);
    }
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'reader' });
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  });
});

describe('a process that seals a stream', () => {
  const alpha = createIdentity();
  const beta = createIdentity();
  const open: { destroy(): unknown }[] = [];
  let server: Server;

  beforeEach(async () => {
    server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });

  afterEach(async () => {
    for (const one of open.splice(0)) one.destroy();
    server.close();
    await expect.poll(sealingProcesses).toEqual([]);
  });

  function sealing(identity: Identity): Sealing {
    return new Sealing({ identity, program: PROGRAM });
  }

  async function sockets(): Promise<readonly [Socket, Socket]> {
    const address = server.address();
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const near = connect(typeof address === 'object' && address !== null ? address.port : 0, '127.0.0.1');
    near.pause();
    const [far] = await accepted;
    open.push(near, far);
    return [near, far];
  }

  function options(socket: Socket, { node }: Identity, more: Partial<SealedStreamOptions> = {}): SealedStreamOptions {
    const signal = new AbortController().signal;
    return { socket, peer: node, meets: () => true, passed: () => undefined, signal, ...more };
  }

  it('has nothing to do with anybody but the node that it is for', async () => {
    const [near, far] = await sockets();
    const sending = sealing(alpha).send(options(far, createIdentity()));
    const receiving = sealing(beta).receive(options(near, alpha));
    await expect(sending).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
      message: expect.stringContaining(beta.node),
    });
    // It had met the right node, and then nothing came
    const head = await receiving.then(
      (stream) => stream.head,
      ({ code }) => code,
    );
    expect(['broken', 'ended', 'PEER_UNREACHABLE']).toContain(head);
  });

  it('has nothing to do with a node that shows a key which it has replaced', async () => {
    const [near, far] = await sockets();
    const sending = sealing(alpha).send(options(far, beta));
    const receiving = sealing(beta).receive(options(near, alpha, { meets: () => false }));
    await expect(receiving).rejects.toThrow('a key that it has replaced');
    // Neither is the other left waiting
    expect(
      await sending.then(
        ({ ended }) => ended,
        () => 'refused',
      ),
    ).toBeTruthy();
  });

  it('tells what does not begin as a stream does, and of a far end that says nothing of TLS', async () => {
    const [near, far] = await sockets();
    const [sent, received] = await Promise.all([
      sealing(alpha)
        .send(options(far, beta))
        .then((stream) => {
          stream.socket.end('x'.repeat(4096));
          return stream;
        }),
      sealing(beta).receive(options(near, alpha)),
    ]);
    open.push(sent, received);
    expect(received.head).toBe('none');
    await received.ended;
    expect(received.socket.destroyed).toBe(true);
    const [other, silent] = await sockets();
    silent.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    await expect(sealing(beta).receive(options(other, alpha))).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
  });

  it('ends when its signal is aborted', async () => {
    const [near] = await sockets();
    const abort = new AbortController();
    const receiving = sealing(beta).receive(options(near, alpha, { signal: abort.signal }));
    abort.abort();
    await expect(receiving).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
  });
});
