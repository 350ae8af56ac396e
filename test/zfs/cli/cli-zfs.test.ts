/** What the command line driver makes of commands that do what no ZFS does at will. */
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import type { DatasetName, SnapshotName } from '../../../src/core/ids.ts';
import { PLAIN_STREAM } from '../../../src/core/stream-flags.ts';
import { CliZfs } from '../../../src/zfs/cli/cli-zfs.ts';
import type { SnapshotReference } from '../../../src/zfs/zfs.ts';
import { tempDirectory } from '../../log/temp-directory.ts';
import { fakeZfs } from './fake-zfs.ts';

function at(dataset: string, snapshot: string): SnapshotReference {
  return { dataset: dataset as DatasetName, snapshot: snapshot as SnapshotName };
}

describe('Output that makes no sense', () => {
  const row = (name: string): string => `printf '${name}\\tsnapshot\\t7\\t1\\t1\\t-\\t1\\t1\\t0\\n'`;
  const listed = at('tank/a', 's');

  it.each([
    ['a greeting', `echo "Welcome to nas"; ${row('tank/a@s')}`, 'Welcome to nas'],
    ['a row without its end', "printf 'tank/a@s\\tsnap'", 'tank/a@s\tsnap'],
    ['a row that nobody asked for', `${row('tank/a@')}; ${row('tank/a@other')}`, expect.stringContaining('tank/a@\t')],
    ['a flood on one line', "printf '%05000d\\n' 1", expect.stringMatching(/^0{200}…$/)],
  ])('is an error that quotes the line, not a missing snapshot: %s', async (_what, script, line) => {
    const zfs = await fakeZfs(script);
    await expect(zfs.listSnapshots([listed])).rejects.toMatchObject({ code: 'ZFS_FAILED', evidence: { line } });
  });

  it('is not what is told of when the command failed', async () => {
    const zfs = await fakeZfs(`echo "Welcome to nas"; echo "cannot open 'tank/a': permission denied" >&2; exit 1`);
    await expect(zfs.listSnapshots([listed])).rejects.toMatchObject({ code: 'ZFS_PERMISSION' });
  });

  it('does not keep what makes sense from being read', async () => {
    const zfs = await fakeZfs(row('tank/a@s'));
    expect(await zfs.listSnapshots([listed, at('tank/a', 'gone')])).toMatchObject([{ guid: '7', name: 's' }, null]);
  });
});

describe('A send through this process', () => {
  const request = { snapshot: at('tank/a', 's'), base: null, flags: PLAIN_STREAM, resumeToken: null };
  const unheard = new AbortController().signal;

  /** Takes all that a test sends into its buffer, and gets rid of nothing. */
  const neverWritten = (): Writable => new Writable({ highWaterMark: 1024 ** 2, write: () => undefined });

  it('can be given up when zfs is done but nobody takes the rest', async () => {
    const zfs = await fakeZfs('head -c 20000 /dev/zero');
    const stuck = neverWritten();
    const abort = new AbortController();
    const sending = zfs.send(request, { kind: 'stream', stream: stuck }, abort.signal);
    sending.catch(() => undefined);
    await expect.poll(() => stuck.writableEnded).toBe(true);
    abort.abort();
    await expect(sending).rejects.toMatchObject({ code: 'ZFS_ABORTED' });
    expect(stuck.destroyed).toBe(true);
  });

  it('fails when the far end goes away with the rest', async () => {
    const zfs = await fakeZfs('head -c 20000 /dev/zero');
    const stuck = neverWritten();
    const sending = zfs.send(request, { kind: 'stream', stream: stuck }, unheard);
    sending.catch(() => undefined);
    await expect.poll(() => stuck.writableEnded).toBe(true);
    stuck.destroy();
    await expect(sending).rejects.toMatchObject({
      code: 'ZFS_FAILED',
      message: expect.stringContaining('the receiving end closed the connection'),
    });
  });

  const UNREADABLE = `echo "warning: cannot send 'tank/a@s': Input/output error" >&2; exit 1`;
  const taken = (): Writable => new Writable({ write: (_chunk, _encoding, done) => done() });

  it.each([
    ['a disk that cannot be read', UNREADABLE, 'Input/output error'],
    ['a command that was killed', 'kill -9 $$', 'ended by a signal'],
  ])('does not blame the far end for %s', async (_what, script, reason) => {
    const zfs = await fakeZfs(script);
    const target = taken();
    await expect(zfs.send(request, { kind: 'stream', stream: target }, unheard)).rejects.toMatchObject({
      code: 'ZFS_FAILED',
      message: expect.stringContaining(reason),
    });
    expect(target.destroyed).toBe(true);
  });

  it('blames the far end for the same when that is gone', async () => {
    const zfs = await fakeZfs(UNREADABLE);
    const gone = taken().destroy();
    await expect(zfs.send(request, { kind: 'stream', stream: gone }, unheard)).rejects.toMatchObject({
      message: expect.stringContaining('the receiving end closed the connection'),
    });
  });

  it('takes it for the far end on zfs-fuse, which says so of a broken pipe', async () => {
    const zfs = await fakeZfs(UNREADABLE, { dialect: 'zfs-fuse' });
    await expect(zfs.send(request, { kind: 'stream', stream: taken() }, unheard)).rejects.toMatchObject({
      message: expect.stringContaining('the receiving end closed the connection'),
    });
  });

  it('breaks the stream off when no ZFS answers', async () => {
    const zfs = new CliZfs({ zfsPath: 'no-such-program', zpoolPath: 'no-such-program' });
    const target = taken();
    await expect(zfs.send(request, { kind: 'stream', stream: target }, unheard)).rejects.toMatchObject({
      code: 'ZFS_UNAVAILABLE',
    });
    expect(target.destroyed).toBe(true);
  });
});

describe('A receive', () => {
  it('breaks the stream off when no ZFS answers', async () => {
    const zfs = new CliZfs({ zfsPath: 'no-such-program', zpoolPath: 'no-such-program' });
    const stream = new PassThrough();
    const request = {
      target: at('tank/a', 's').dataset,
      create: null,
      overPlaceholder: false,
      baseHeld: true,
      expected: null,
      keepPartial: false,
    };
    await expect(zfs.receive(request, { kind: 'stream', stream }, new AbortController().signal)).rejects.toMatchObject({
      code: 'ZFS_UNAVAILABLE',
    });
    expect(stream.destroyed).toBe(true);
  });
});

describe('What an aborted first receive leaves', () => {
  const target = 'tank/new' as DatasetName;
  const request = {
    target,
    create: { origin: null, properties: {}, snapshot: null },
    overPlaceholder: false,
    baseHeld: false,
    expected: null,
    keepPartial: false,
  };

  interface Left {
    readonly mounted?: 'yes' | 'no';
    readonly snapshot?: boolean;
    readonly dialect?: 'openzfs' | 'zfs-fuse';
  }

  /** A ZFS that forgets the dataset when its receive is ended; resolves to whether somebody destroyed it. */
  async function abortReceive({ mounted = 'no', snapshot = false, dialect = 'zfs-fuse' }: Left): Promise<boolean> {
    const directory = await tempDirectory();
    const values = (name: string, type: string): string =>
      `for property in $(echo "$given" | tr , ' '); do printf '%s\\t%s\\t%s\\n' ${name} $property ` +
      `$(case $property in type) echo ${type};; guid) echo 7;; createtxg|creation) echo 1;; userrefs) echo 0;; *) echo -;; esac); done`;
    const script = [
      `state=${directory}`,
      // The last word but one of a listing names its properties
      'given=""; last=""; for word in "$@"; do given=$last; last=$word; done',
      'case "$*" in',
      'receive*) touch $state/there; exec sleep 60;;',
      'destroy*) rm $state/there; touch $state/destroyed; exit 0;;',
      'list*-o\\ name\\ *) echo tank; exit 0;;',
      'get*-s\\ *) exit 0;;',
      `get*mounted*) echo ${mounted}; exit 0;;`,
      'esac',
      '[ -e $state/there ] || { echo "cannot open \'tank/new\': dataset does not exist" >&2; exit 1; }',
      dialect === 'zfs-fuse'
        ? values('tank/new', 'filesystem')
        : `printf 'tank/new\\tfilesystem\\t7\\t1\\t1\\t-\\t-\\t-\\t-\\t-\\t-\\n'`,
      snapshot ? values('tank/new@s', 'snapshot') : '',
    ].join('\n');
    const zfs = await fakeZfs(script, { dialect, cleanupMs: 0 });
    const stop = new AbortController();
    const receiving = zfs.receive(request, { kind: 'stream', stream: new PassThrough() }, stop.signal);
    await vi.waitFor(() => access(join(directory, 'there')));
    stop.abort();
    await expect(receiving).rejects.toMatchObject({ code: 'ZFS_ABORTED' });
    return access(join(directory, 'destroyed')).then(
      () => true,
      () => false,
    );
  }

  it('is destroyed where zfs-fuse forgets it: its name would be taken for good', async () => {
    expect(await abortReceive({})).toBe(true);
  });

  it('stays where somebody has mounted it, who may have written to it', async () => {
    expect(await abortReceive({ mounted: 'yes' })).toBe(false);
  });

  it('stays with a snapshot, which came in full', async () => {
    expect(await abortReceive({ snapshot: true })).toBe(false);
  });

  it('stays on OpenZFS, which destroys it itself', async () => {
    expect(await abortReceive({ dialect: 'openzfs' })).toBe(false);
  });
});

describe('Snapshots that are taken together', () => {
  const many = (count: number): SnapshotReference[] =>
    Array.from({ length: count }, (_, index) => at(`tank/images/a dataset with a longer name/number ${index}`, 's'));
  /** As ssh does: the words become one, which a shell splits again. */
  const remote = { prefix: ['sh', '-c', 'exec sh -c "$*"', 'ssh'], remoteShell: true };

  it.each([
    ['here', {}, 20_000, 30_000],
    ['through a remote shell', remote, 1_000, 3_000],
  ])(
    'are refused before any is taken where they are too many for one command: %s',
    async (_what, options, few, tooMany) => {
      const calls = join(await tempDirectory(), 'calls');
      const zfs = await fakeZfs(`echo $# >> '${calls}'`, options);
      await expect(zfs.snapshot([at('other/a', 's'), ...many(tooMany)])).rejects.toMatchObject({
        code: 'ZFS_UNSUPPORTED',
        message:
          'Cannot snapshot tank/images/a dataset with a longer name/number 0@s, ' +
          'tank/images/a dataset with a longer name/number 1@s, tank/images/a dataset with a longer name/number 2@s ' +
          `and ${tooMany - 3} more: this ZFS cannot do that ` +
          `(${tooMany} names are more than one command takes; snapshot fewer datasets at once).`,
      });
      await zfs.snapshot(many(few));
      expect(await readFile(calls, 'utf8')).toBe(`${few + 1}\n`);
    },
  );

  it('go into one command for each pool, and another for further ones of the same dataset', async () => {
    const calls = join(await tempDirectory(), 'calls');
    const zfs = await fakeZfs(`echo "$@" >> '${calls}'`);
    const [first, second] = [at('tank/a', '1'), at('tank/a', '2')];
    await zfs.snapshot([first, at('tank/b', '1'), second, at('ssd/c', '1'), at('tank/d', '1'), at('ssd/c', '2')]);
    expect((await readFile(calls, 'utf8')).trim().split('\n')).toEqual([
      'snapshot tank/a@1 tank/b@1 tank/d@1',
      'snapshot tank/a@2',
      'snapshot ssd/c@1',
      'snapshot ssd/c@2',
    ]);
  });

  it('are grouped with a few looks at each', async () => {
    const zfs = await fakeZfs('');
    let looks = 0;
    const counted = many(1_000).map(({ dataset, snapshot }) => ({
      snapshot,
      get dataset() {
        looks += 1;
        return dataset;
      },
    }));
    await zfs.snapshot(counted);
    expect(looks).toBeLessThan(10_000);
  });
});
