/** Every command, against the real API of nodes in this process. */
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { RelativeName } from '../../../src/core/ids.ts';
import { damaged } from '../../main/damaged-log.ts';
import { at, dataset, IMAGES } from '../../main/memory-world.ts';
import { type CliRun, pando, type ServedNode, ServedWorld, TextSink } from '../served-world.ts';

/** The value on the only line. */
function jsonOf({ stdout }: CliRun): unknown {
  return JSON.parse(stdout);
}

function jsonLinesOf({ stdout }: CliRun): Record<string, unknown>[] {
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

const DONE = { code: 0, stderr: '' };

describe('on the node that owns a tree', () => {
  let world: ServedWorld;
  let build: ServedNode;
  let backup: ServedNode;
  beforeAll(async () => {
    world = await ServedWorld.create();
    ({ build, backup } = await world.startPair());
    await build.zfs.create(dataset('build/images'));
    await build.zfs.create(dataset('build/images/base'));
  });
  afterAll(() => world.stop());

  test('tree add shares a dataset, and tree ls lists it', async () => {
    expect(await build.pando(['tree', 'ls'])).toMatchObject({
      ...DONE,
      stdout: 'TREE  KIND  DATASET  DATASETS  SNAPSHOTS\n',
    });
    expect(await build.pando(['tree', 'add', 'images', 'build/images'])).toMatchObject(DONE);
    const listed = await build.pando(['tree', 'ls']);
    expect(listed.stdout).toMatch(/^images +own +build\/images +2 +0$/m);
    expect(jsonOf(await build.pando(['tree', 'ls', '--json']))).toEqual([
      { tree: 'images', root: 'build/images', kind: 'own', datasets: 2, snapshots: 0, error: null },
    ]);
  });

  test('snapshot takes one, and with -r those below as well', async () => {
    expect(await build.pando(['snapshot', 'images/base@v1'])).toMatchObject(DONE);
    expect(await build.pando(['snapshot', 'images@nightly', '-r'])).toMatchObject(DONE);
    const listed = await build.zfs.list(dataset('build/images'));
    expect(listed.map(({ snapshots }) => snapshots.map(({ name }) => name))).toEqual([['nightly'], ['v1', 'nightly']]);
  });

  test('clone, rename and destroy change the tree', async () => {
    expect(await build.pando(['clone', 'images/base@v1', 'web'])).toMatchObject(DONE);
    expect(await build.pando(['snapshot', 'images/web@a'])).toMatchObject(DONE);
    expect(await build.pando(['rename', 'images/web@a', 'first'])).toMatchObject(DONE);
    expect(await build.pando(['rename', 'images/web', 'shop'])).toMatchObject(DONE);
    const names = (await build.zfs.list(dataset('build/images'))).map(({ name }) => name);
    expect(names).toContain('build/images/shop');
    expect(await build.pando(['destroy', 'images/shop@first'])).toMatchObject(DONE);
    expect(await build.pando(['destroy', 'images/shop'])).toMatchObject(DONE);
    expect(await build.pando(['clone', 'images/base@v1', 'web'])).toMatchObject(DONE);
  });

  test('promote and rollback change the tree', async () => {
    await build.pando(['clone', 'images/base@v1', 'next']);
    expect(await build.pando(['promote', 'images/next'])).toMatchObject(DONE);
    expect(await build.pando(['promote', 'images/base'])).toMatchObject(DONE);
    await build.pando(['snapshot', 'images/next@a']);
    await build.pando(['snapshot', 'images/next@b']);
    const refused = await build.pando(['rollback', 'images/next@a']);
    expect(refused.stderr).toContain('newer snapshots of "images/next": b; say --destroy-newer');
    expect(await build.pando(['rollback', 'images/next@a', '--destroy-newer'])).toMatchObject(DONE);
    expect(await build.pando(['destroy', 'images/next'])).toMatchObject(DONE);
  });

  test('destroy names what depends on the dataset', async () => {
    const refused = await build.pando(['destroy', 'images/base']);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/^pando: .*depend on it: web;.*\n$/);
    expect(refused.stdout).toBe('');
  });

  test('graph draws clones below the snapshots that they grew from', async () => {
    const { stdout } = await build.pando(['graph', 'images']);
    expect(stdout.replace(/ {2}\d+ {2}\d+ B/g, '')).toBe(
      [
        'images',
        '└── @nightly',
        'images/base',
        '├── @v1',
        '│   └── images/web ← images/base@v1',
        '└── @nightly',
        '',
      ].join('\n'),
    );
  });

  test('graph gives the same as JSON and for Graphviz', async () => {
    const asJson = jsonOf(await build.pando(['graph', 'images', '--json']));
    expect(asJson).toMatchObject({
      tree: 'images',
      root: 'build/images',
      datasets: [{ name: '' }, { name: 'base', snapshots: [{ name: 'v1' }, { name: 'nightly' }] }, { name: 'web' }],
    });
    expect(jsonOf(await build.pando(['graph', 'images', '--format', 'json']))).toEqual(asJson);
    const { stdout } = await build.pando(['graph', 'images', '--format', 'dot']);
    expect(stdout).toMatch(/^digraph "images" \{\n/);
    expect(stdout.match(/style=dashed/g)).toHaveLength(1);
    expect(stdout).toMatch(/\}\n$/);
  });

  test('graph --at shows what was, and refuses what is no time', async () => {
    const past = jsonOf(await build.pando(['graph', 'images', '--at', '2025-06-01T00:00:00Z', '--json']));
    expect(past).toMatchObject({ datasets: [] });
    const now = jsonOf(await build.pando(['graph', 'images', '--at', new Date().toISOString(), '--json']));
    expect(now).toMatchObject({ datasets: [{ name: '' }, { name: 'base' }, { name: 'web' }] });
    expect((await build.pando(['graph', 'images', '--at', 'yesterday'])).code).toBe(2);
  });

  test('log tells what happened to a tree in sentences', async () => {
    const { stdout, code } = await build.pando(['log', 'images']);
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ +1 {2}command {3}The tree is kept at build\/images\.$/);
    expect(stdout).toContain('images/base@v1 appeared (guid ');
    expect(stdout).toContain('images/web was renamed to images/shop.');
    expect(stdout).toContain('images/shop@first was destroyed.');
    expect(stdout).toContain('images/web appeared, cloned from images/base (snapshot guid ');
  });

  test('log --from begins in the middle, and --json gives events with their time', async () => {
    const [first] = jsonLinesOf(await build.pando(['log', 'images', '--from', '4', '--json']));
    expect(first).toMatchObject({ seq: 4, type: 'snapshot.created', snapshot: { name: 'v1' } });
    expect(first?.time).toMatch(/^\d{4}-.*Z$/);
    // The names of datasets that were created before are known all the same
    expect((await build.pando(['log', 'images', '--from', '4'])).stdout).toMatch(
      /^\S+ \S+ +4 .*images\/base@v1 appeared/,
    );
    expect((await build.pando(['log', 'images', '--from', 'x'])).code).toBe(2);
  });

  test('log without a tree tells about the node itself', async () => {
    const { stdout } = await build.pando(['log']);
    expect(stdout).toContain(`Peer "backup" (${backup.node.id}) was added.`);
    expect(stdout).toContain('… is reader of *.');
    expect(stdout).toContain('Tree "images" was added at build/images.');
  });

  test('log --follow goes on until Ctrl-C, and then ends with 130', async () => {
    let interrupt: () => void = () => undefined;
    const stdout = new TextSink();
    const run = build.pando(['log', 'images', '--follow'], {
      stdout,
      overrides: {
        onInterrupt: (listener) => {
          interrupt = listener;
          return () => undefined;
        },
      },
    });
    await stdout.contains('images/web appeared, cloned');
    await build.pando(['snapshot', 'images/web@later']);
    await stdout.contains('images/web@later appeared');
    interrupt();
    expect((await run).code).toBe(130);
  });

  test('verify has a verdict for each tree', async () => {
    expect(await build.pando(['verify'])).toMatchObject({ ...DONE, stdout: 'images: ok (3 datasets, 4 snapshots)\n' });
    expect(jsonOf(await build.pando(['verify', 'images', '--json']))).toMatchObject({ tree: 'images', ok: true });
  });

  test('status shows the node, its trees and its peers', async () => {
    const { stdout } = await build.pando(['status']);
    expect(stdout).toContain(`node      ${build.node.id}\nversion   1.2.3, up `);
    expect(stdout).toContain('address   build:1\n');
    expect(stdout).toMatch(/\ntrees\n {2}images {2}own at build\/images: 3 datasets, 4 snapshots, looked at .* ago\n/);
    expect(stdout).toMatch(/\npeers\n {2}backup {2}connected .* ago, sealed link, .* in, .* out\n/);
    expect(jsonOf(await build.pando(['status', '--json']))).toMatchObject({
      node: build.node.id,
      address: 'build:1',
      trees: [{ tree: 'images', kind: 'own', datasets: 3, error: null }],
      peers: [{ name: 'backup', link: { state: 'connected', lastError: null } }],
      mirrors: [],
    });
  });

  test('status tells through whom a peer is heard that is not connected', async () => {
    const links = build.node.hub.status();
    const status = vi
      .spyOn(build.node.hub, 'status')
      .mockReturnValue(links.map((link) => ({ ...link, state: 'idle', heardThrough: [backup.node.id] })));
    onTestFinished(() => status.mockRestore());
    expect((await build.pando(['status'])).stdout).toContain('not connected, has to dial us, heard through backup, ');
    expect(jsonOf(await build.pando(['status', '--json']))).toMatchObject({
      peers: [{ link: { heardThrough: [backup.node.id] } }],
    });
  });

  test('id prints the id alone', async () => {
    expect((await build.pando(['id'])).stdout).toBe(`${build.node.id}\n`);
    expect(jsonOf(await build.pando(['id', '--json']))).toEqual({ node: build.node.id });
  });

  test('peer add changes what is kept of a peer and adds to its grants, and peer ls shows it', async () => {
    const words = ['peer', 'add', 'backup', backup.node.id.toLowerCase(), '--address', 'backup:1', '--trusted-link'];
    expect(await build.pando([...words, '--share', 'images', 'homes-*', '--share', 'x'])).toMatchObject(DONE);
    const { stdout } = await build.pando(['peer', 'ls']);
    expect(stdout).toMatch(
      new RegExp(
        `^backup +${backup.node.id} +backup:1 +\\*:reader,images:reader,homes-\\*:reader,x:reader +trusted +connected`,
        'm',
      ),
    );
  });

  test('tree rm stops sharing and leaves the datasets', async () => {
    expect(await build.pando(['tree', 'rm', 'images'])).toMatchObject(DONE);
    expect(await build.zfs.list(dataset('build/images'))).toHaveLength(3);
    expect(await build.pando(['graph', 'none'])).toMatchObject({ code: 1, stdout: '' });
  });

  test('peer rm forgets a peer by its name', async () => {
    expect(await build.pando(['peer', 'rm', 'backup'])).toMatchObject(DONE);
    expect(jsonOf(await build.pando(['peer', 'ls', '--json']))).toEqual([]);
    expect(await build.pando(['peer', 'rm', 'backup'])).toMatchObject({ code: 1 });
  });
});

describe('on a node with a mirror', () => {
  let world: ServedWorld;
  let build: ServedNode;
  let backup: ServedNode;
  beforeAll(async () => {
    world = await ServedWorld.create();
    ({ build, backup } = await world.startPair());
    await build.zfs.create(dataset('build/images'));
    await build.zfs.create(dataset('build/images/base'));
    await build.client.addTree({ tree: 'images', root: 'build/images' });
    await build.client.snapshot({ snapshot: 'images/base@v1', recursive: false });
    await build.client.clone({ snapshot: 'images/base@v1', name: 'web' });
    await build.client.snapshot({ snapshot: 'images/web@a', recursive: false });
  });
  afterAll(() => world.stop());

  test('sync and plan say that there is none before one is added', async () => {
    const none = 'This node has no mirror; add one with "pando mirror add".\n';
    expect(await backup.pando(['sync'])).toMatchObject({ ...DONE, stdout: none });
    expect(await backup.pando(['plan'])).toMatchObject({ ...DONE, stdout: none });
    expect(await backup.pando(['sync', 'images'])).toMatchObject({ code: 1, stdout: '' });
  });

  test('mirror add takes a filter, and mirror ls shows it', async () => {
    const words = ['mirror', 'add', 'images', '--from', 'build', '--into', 'backup/images'];
    const filter = ['--only', 'web', '--except', 'x', 'y', '--keep', 'last=1', '--grace', '30d'];
    expect(await backup.pando([...words, ...filter])).toMatchObject(DONE);
    expect((await backup.pando(['mirror', 'ls'])).stdout).toMatch(
      /^images +build +backup\/images +web +x,y +last=1 +for 30 d 0 h$/m,
    );
    expect(await backup.pando(['mirror', 'rm', 'images'])).toMatchObject(DONE);
    expect(await backup.pando(words)).toMatchObject(DONE);
    expect((await backup.pando(['mirror', 'ls'])).stdout).toMatch(
      /^images +build +backup\/images +- +- +all +for ever$/m,
    );
  });

  test('mirror set changes what is named, and leaves the rest', async () => {
    expect(await backup.pando(['mirror', 'set', 'images', '--keep', 'daily=7,last=2'])).toMatchObject(DONE);
    expect(await backup.pando(['mirror', 'set', 'images', '--grace', '12h'])).toMatchObject(DONE);
    const shown = await backup.pando(['mirror', 'ls']);
    expect(shown.stdout).toMatch(/^images +build +backup\/images +- +- +last=2,daily=7 +for 12 h 0 min$/m);
    expect(await backup.pando(['mirror', 'set', 'images', '--keep', 'all', '--grace', 'forever'])).toMatchObject(DONE);
    expect(await backup.pando(['mirror', 'set', 'images'])).toMatchObject({ code: 2, stdout: '' });
    expect(await backup.pando(['mirror', 'set', 'other', '--keep', 'all'])).toMatchObject({ code: 1, stdout: '' });
  });

  test.each([
    [['--keep', 'oldest'], /"all", or numbers such as/],
    [['--keep', 'daily=0'], /"all", or numbers such as/],
    [['--keep', 'daily=1,daily=2'], /"all", or numbers such as/],
    [['--grace', '30'], /is no duration/],
    [['--grace', 'soon'], /is no duration/],
  ])('mirror add refuses rules that there are not: %j', async (rule, message) => {
    const words = ['mirror', 'add', 'x', '--from', 'build', '--into', 'backup/x', ...rule];
    const refused = await backup.pando(words);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/^pando: .*\n$/);
    expect(refused.stderr).toMatch(message);
  });

  test('plan shows the steps in order with their bytes', async () => {
    const { stdout, code } = await backup.pando(['plan', 'images']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^images: 3 steps, about .*B\.\n/);
    expect(stdout).toContain('\n  create images, empty until its owner takes a snapshot\n');
    expect(stdout).toMatch(/\n {2}receive images\/base@v1 in full, \d/);
    expect(stdout).toMatch(/\n {2}receive images\/web@a as a clone of images\/base@v1, \d/);
    expect(jsonOf(await backup.pando(['plan', '--json']))).toMatchObject({ tree: 'images', steps: [{}, {}, {}] });
  });

  test('status tells how far the mirror is behind', async () => {
    expect((await backup.pando(['status'])).stdout).toMatch(/\nmirrors\n {2}images {2}behind by 3 steps, about /);
  });

  test('sync tells each finished step in a line where no person looks', async () => {
    const { stdout, stderr, code } = await backup.pando(['sync']);
    expect({ code, stderr }).toEqual(DONE);
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(4);
    expect(lines[1]).toMatch(/^done: receive images\/base@v1 in full, \d+ B$/);
    expect(lines[3]).toMatch(/^images: 3 steps done; .*B in .* s\.$/);
    expect((await backup.pando(['sync'])).stdout).toBe('images: up to date.\n');
  });

  test('sync shows on a terminal where it stands, once it takes longer than a second', async () => {
    await build.client.snapshot({ snapshot: 'images/web@b', recursive: false });
    let seconds = 0;
    const now = () => {
      seconds += 2;
      return seconds * 1000;
    };
    const { stdout, stderr } = await backup.pando(['sync'], { isTTY: true, overrides: { now } });
    expect(stderr).toMatch(/images: 0 of 1 steps, 0 B of .*: receive images\/web@b from @a/);
    expect(stderr.endsWith('\r\u001b[2K')).toBe(true);
    expect(stdout).toMatch(/^images: 1 step done; .*\n$/);
  });

  test('sync leaves the terminal alone when it is done within a second', async () => {
    await build.client.snapshot({ snapshot: 'images/web@c', recursive: false });
    const run = await backup.pando(['sync'], { isTTY: true, overrides: { now: () => 0 } });
    expect(run).toMatchObject(DONE);
  });

  test('sync --json gives plan, progress and result as lines', async () => {
    await build.client.snapshot({ snapshot: 'images/web@d', recursive: false });
    const lines = jsonLinesOf(await backup.pando(['sync', 'images', '--json']));
    const types = lines.map(({ type }) => type);
    expect(types[0]).toBe('plan');
    expect(new Set(types.slice(1, -1))).toEqual(new Set(['progress']));
    expect(lines.at(-1)).toMatchObject({
      type: 'result',
      tree: 'images',
      steps: [{ step: { kind: 'receive-incremental' }, outcome: { result: 'done' } }],
      conflicts: [],
      waiting: [],
    });
  });

  test.each(['sync', 'verify'])('Ctrl-C ends %s with 130', async (command) => {
    const onInterrupt = (listener: () => void) => {
      listener();
      return () => undefined;
    };
    const run = await backup.pando([command, 'images'], { overrides: { onInterrupt } });
    expect(run).toEqual({ code: 130, stdout: '', stderr: 'pando: Cancelled.\n' });
  });

  test('graph and log --node show what the peer tells', async () => {
    const graph = jsonOf(await backup.pando(['graph', 'images', '--node', 'build', '--json']));
    expect(graph).toMatchObject({ root: 'build/images' });
    expect((await backup.pando(['log', 'images', '--node', 'build'])).stdout).toContain('kept at build/images');
    expect(await backup.pando(['log', '--node', 'build'])).toMatchObject({ code: 2 });
    expect(await backup.pando(['graph', 'none', '--node', 'build'])).toMatchObject({ code: 1 });
  });

  test('log --transfers tells what was transferred, at both ends, and takes no tree', async () => {
    const received = await backup.pando(['log', '--transfers']);
    expect(received).toMatchObject(DONE);
    expect(received.stdout).toMatch(
      /^\S+ \S+ +1 {2}command {3}Transfer \S+ of "images" from \S+… began \(0 holds\)\.$/m,
    );
    expect(received.stdout).toMatch(/ ended: completed, \d/);
    expect(received.stdout).not.toContain('was added');
    expect((await build.pando(['log', '--transfers'])).stdout).toMatch(/ of "images" to \S+… began /);
    expect(await backup.pando(['log', 'images', '--transfers'])).toMatchObject({ code: 2, stdout: '' });
  });

  test('a replica cannot be changed, and the message says where it can be', async () => {
    const refused = await backup.pando(['snapshot', 'images/web@mine']);
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toContain(build.node.id);
  });

  test('verify ends with 1 and names what is missing', async () => {
    expect((await backup.pando(['verify'])).code).toBe(0);
    await build.zfs.snapshot([at('build/images/web', 'e')]);
    const differs = await backup.pando(['verify']);
    expect(differs.code).toBe(1);
    expect(differs.stdout).toMatch(/^images: NOT ok \(.*1 difference/);
    expect(differs.stdout).toContain('\n  images/web@e is missing\n');
  });

  test('a conflict ends sync with 1 and is explained', async () => {
    await backup.zfs.snapshot([at('backup/images', 'mine')]);
    await build.zfs.snapshot([at('build/images', 'next')]);
    await backup.client.verify('images', new AbortController().signal);
    const { stdout, code } = await backup.pando(['sync']);
    expect(code).toBe(1);
    expect(stdout).toContain('zfs rename backup/images backup/kept-images');
    expect((await backup.pando(['plan'])).stdout).toContain(
      '  conflict: backup/images has no snapshot in common with its owner (only here: mine)',
    );
    expect((await backup.pando(['status'])).stdout).toContain('1 conflict ("pando plan" explains)');
  });

  test('diverged lists what is kept, restores it and drops it', async () => {
    expect(JSON.parse((await backup.pando(['diverged', 'ls', '--json'])).stdout)).toEqual([]);
    for (const name of ['mine', 'other']) {
      await backup.zfs.snapshot([at('backup/images/web', name)]);
      await build.zfs.snapshot([at('build/images/web', `after-${name}`)]);
      await backup.client.verify('images', new AbortController().signal);
      await backup.pando(['sync']);
    }
    const kept = JSON.parse((await backup.pando(['diverged', 'ls', '--json'])).stdout) as { copy: string }[];
    expect(kept).toMatchObject([
      { from: 'backup/images/web', snapshots: ['mine'] },
      { from: 'backup/images/web', snapshots: ['other'] },
    ]);
    expect((await backup.pando(['status'])).stdout).toContain('2 copies of what diverged ("pando diverged ls")');
    const [first, second] = kept.map(({ copy }) => copy) as [string, string];
    expect(await backup.pando(['diverged', 'restore', 'images', first, 'kept'])).toMatchObject(DONE);
    expect(await backup.pando(['diverged', 'drop', 'images', second])).toMatchObject(DONE);
    const gone = await backup.pando(['diverged', 'drop', 'images', second]);
    expect(gone).toMatchObject({ code: 1, stdout: '' });
    expect(await backup.pando(['destroy', 'images/kept'])).toMatchObject(DONE);
  });

  test('a tree that the peer does not share fails alone; the others are synced and verified', async () => {
    await backup.client.addMirror({ tree: 'ghost', from: 'build', root: 'backup/ghost' });
    await backup.client.removeMirror('images');
    await backup.zfs.create(dataset('backup/own'));
    await backup.client.addTree({ tree: 'own', root: 'backup/own' });
    const synced = await backup.pando(['sync', '--json']);
    expect(synced.code).toBe(1);
    expect(JSON.parse(synced.stderr)).toMatchObject({ code: 'TREE_UNKNOWN', evidence: { tree: 'ghost' } });
    const verified = await backup.pando(['verify']);
    expect(verified.code).toBe(1);
    expect(verified.stderr).toMatch(/^pando: "ghost" could not be verified: /);
    expect(verified.stdout).toBe('own: ok (1 dataset, 0 snapshots)\n');
    expect((await backup.pando(['status'])).stdout).toMatch(/\nmirrors\n {2}ghost {2}Peer .* shares no tree "ghost"/);
  });
});

describe('on a node where the log of a tree is damaged', () => {
  let world: ServedWorld;
  let build: ServedNode;
  beforeAll(async () => {
    world = await ServedWorld.create();
    const former = await world.start('build');
    for (const tree of ['homes', 'images']) {
      await former.zfs.create(dataset(`build/${tree}`));
      await former.client.addTree({ tree, root: `build/${tree}` });
    }
    const log = damaged(former.log, former.node.history.ownStream(IMAGES), 'head');
    await former.server.close();
    await former.node.stop();
    build = await world.start('build', { ...former, log });
  });
  afterAll(() => world.stop());

  test('tree ls and status list it with what is wrong, beside the others', async () => {
    const listed = await build.pando(['tree', 'ls']);
    expect(listed.code).toBe(0);
    expect(listed.stdout).toMatch(/^homes +own +build\/homes +1 +0$/m);
    expect(listed.stdout).toMatch(/^images +own +build\/images +- +-$/m);
    expect(listed.stderr).toMatch(/^pando: Stream \S+\/images is damaged at event 0/);
    const { stdout } = await build.pando(['status']);
    expect(stdout).toMatch(/\n {2}homes +own at build\/homes: 1 dataset, 0 snapshots, looked at .* ago\n/);
    expect(stdout).toMatch(/\n {2}images +own at build\/images: not looked at yet; Stream \S+\/images is damaged/);
  });

  test('verify ends with 1 and names the log; the others are verified', async () => {
    const { code, stdout } = await build.pando(['verify']);
    expect(code).toBe(1);
    expect(stdout).toMatch(
      /^homes: ok \(1 dataset, 0 snapshots\)\nimages: NOT ok \(1 damaged log\)\n {2}the log of \S+\/images is damaged at event 0\n$/,
    );
  });
});

describe('without a node', () => {
  test('commands end with 3 and say how to start one', async () => {
    const run = await pando(['status']);
    expect(run).toMatchObject({ code: 3, stdout: '' });
    expect(run.stderr).toMatch(/^pando: No pando is running \(no socket at .*\); start it with "pando serve"\.\n$/);
  });

  test('id reads the key, and says so when there is none yet', async () => {
    const node = 'some id' as never;
    const read: (string | undefined)[] = [];
    const readIdentity = async (configPath: string | undefined) => {
      read.push(configPath);
      return node;
    };
    expect((await pando(['id', '--config', 'x.yaml'], { overrides: { readIdentity } })).stdout).toBe('some id\n');
    expect(read).toEqual(['x.yaml']);
    const none = await pando(['id']);
    expect(none.code).toBe(1);
    expect(none.stderr).toContain('the first "pando serve" makes its key');
  });

  test('id rotate changes the key where it lies', async () => {
    const changed: (string | undefined)[] = [];
    const rotateKey = async (configPath: string | undefined) => changed.push(configPath) + 1;
    const run = await pando(['id', 'rotate', '--config', 'x.yaml'], { overrides: { rotateKey } });
    expect(run.stdout).toBe('This node has a new key, its key 2; it uses that when it starts.\n');
    expect(changed).toEqual(['x.yaml']);
  });
});

describe('on two nodes that do not know each other', () => {
  let world: ServedWorld;
  let build: ServedNode;
  let laptop: ServedNode;
  beforeAll(async () => {
    world = await ServedWorld.create();
    build = await world.start('build');
    laptop = await world.start('laptop');
    await build.zfs.create(dataset('build/images'));
    expect(await build.pando(['tree', 'add', 'images', 'build/images'])).toMatchObject(DONE);
  });
  afterAll(() => world.stop());

  /** Resolves once a node says that another owns the root of the tree. */
  async function yieldedTo({ node }: ServedNode, other: ServedNode): Promise<void> {
    const isSo = () => node.trees.graph(IMAGES).named('' as RelativeName)?.owner.node === other.node.id;
    while (!isSo())
      await new Promise<void>((resolve) => {
        const stop = node.history.onChange(() => {
          stop();
          resolve();
        });
      });
  }

  const invite = (...words: string[]) => build.pando(['peer', 'invite', '--tree', 'images', ...words]);

  test('peer invite prints one line, with which peer join makes both peers', async () => {
    const { stdout } = await invite('--role', 'contributor');
    expect(stdout).toMatch(/^pando:\/\/build:1\/\S+\n$/);
    const joined = await laptop.pando(['peer', 'join', stdout.trim(), '--share', 'images']);
    expect(joined).toMatchObject(DONE);
    expect(joined.stdout).toBe('Joined: "build" is a peer, where this node is contributor of images.\n');
    expect((await build.pando(['peer', 'ls'])).stdout).toMatch(
      new RegExp(`^laptop +${laptop.node.id} +laptop:1 +images:contributor +sealed`, 'm'),
    );
    expect((await build.pando(['peer', 'invitations'])).stdout).toBe('INVITATION  TREES  ROLE  NAME  UNTIL\n');
    expect(await laptop.pando(['peer', 'join', stdout.trim().replace('build', 'buyld')])).toMatchObject({ code: 2 });
  });

  test('on a terminal, peer invite also draws a QR code, and says what the line is good for', async () => {
    const { stdout } = await build.pando(['peer', 'invite', '--tree', '*', '--expires', '1h'], { isTTY: true });
    expect(stdout).toMatch(/[▀▄█]{8}/);
    expect(stdout).toContain('with that line within 1 h 0 min is reader of *, once.');
  });

  test('peer invitations lists what can still be used, and withdraw makes one useless', async () => {
    const { line } = jsonOf(await invite('--json', '--name', 'desk')) as { line: string };
    const [open] = (
      jsonOf(await build.pando(['peer', 'invitations', '--json'])) as { name: string; invitation: string }[]
    ).filter(({ name }) => name === 'desk');
    expect(open).not.toHaveProperty('secretHash');
    expect(await build.pando(['peer', 'withdraw', open?.invitation ?? ''])).toMatchObject(DONE);
    expect(await laptop.pando(['peer', 'join', line])).toMatchObject({
      code: 2,
      stderr: 'pando: That invitation was used, has expired, or was withdrawn; ask for a new one.\n',
    });
  });

  test('grant add, ls and rm change what a peer may do', async () => {
    expect(await build.pando(['grant', 'add', 'laptop', 'homes-*', '--role', 'operator'])).toMatchObject(DONE);
    expect((await build.pando(['grant', 'ls', 'laptop'])).stdout).toBe(
      'PEER    TREES    ROLE\nlaptop  images   contributor\nlaptop  homes-*  operator\n',
    );
    expect(await build.pando(['grant', 'rm', 'laptop', 'homes-*'])).toMatchObject(DONE);
    expect(await build.pando(['grant', 'rm', 'laptop', 'homes-*'])).toMatchObject({ code: 1 });
    expect(jsonOf(await build.pando(['grant', 'ls', '--json']))).toEqual([
      { peer: laptop.node.id, trees: 'images', role: 'contributor' },
    ]);
    expect(await build.pando(['grant', 'add', 'laptop', 'x', '--role', 'king'])).toMatchObject({ code: 2 });
  });

  test('own takes over a replica, and says who gets to hear of it', async () => {
    await build.zfs.snapshot([at('build/images', 'first')]);
    expect(await laptop.pando(['mirror', 'add', 'images', '--from', 'build', '--into', 'laptop/images'])).toMatchObject(
      DONE,
    );
    expect(await laptop.pando(['sync', 'images'])).toMatchObject({ code: 0 });
    const refused = await laptop.pando(['own', 'images']);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^pando: You are no standby of tree "images"/),
    });
    expect(await build.pando(['grant', 'add', 'laptop', 'images', '--role', 'standby'])).toMatchObject(DONE);
    expect((await laptop.pando(['own', 'images', '-r'])).stdout).toMatch(/^This node owns 1 dataset of images now.$/m);
    expect((await laptop.pando(['own', 'images'])).stdout).toBe("images is this node's own already.\n");
    expect(jsonOf(await laptop.pando(['own', 'images', '--json']))).toEqual({ datasets: [], letRead: [] });
    expect(await laptop.pando(['own', 'images/nothing'])).toMatchObject({ code: 1 });
    expect(await laptop.pando(['grant', 'add', 'build', 'images', '--role', 'standby'])).toMatchObject(DONE);
    await yieldedTo(build, laptop);
    expect((await build.pando(['own', 'images'])).stdout).toBe('This node owns 1 dataset of images now.\n');
    expect(await laptop.pando(['mirror', 'rm', 'images'])).toMatchObject(DONE);
    expect(await build.pando(['mirror', 'rm', 'images'])).toMatchObject(DONE);
  });

  test('an operator changes a tree on a peer with --on', async () => {
    const refused = await laptop.pando(['snapshot', 'images@far', '--on', 'build']);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^pando: On "build": You are no operator/),
    });
    expect(await build.pando(['grant', 'add', 'laptop', 'images', '--role', 'operator'])).toMatchObject(DONE);
    const done = await laptop.pando(['snapshot', 'images@far', '--on', 'build']);
    expect(done).toMatchObject({ ...DONE, stdout: 'Took images@far on "build".\n' });
    expect((await build.zfs.listSnapshots([at('build/images', 'far')]))[0]).not.toBeNull();
    expect(await laptop.pando(['destroy', 'images@far', '--on', 'build'])).toMatchObject(DONE);
    expect(await laptop.pando(['destroy', 'images@far', '--on', 'nobody'])).toMatchObject({ code: 1 });
  });

  test('limit set, ls and rm say how fast streams may be', async () => {
    expect((await build.pando(['limit', 'set', '20M'])).stdout).toBe(
      'All streams together are limited to 20.0 MiB/s each way.\n',
    );
    expect(await build.pando(['limit', 'set', '512K', '--peer', 'laptop'])).toMatchObject(DONE);
    expect((await build.pando(['limit', 'ls'])).stdout).toBe(
      'WHAT     PEER          LIMIT\nstreams  all together  20.0 MiB/s each way\nstreams  laptop        512.0 KiB/s each way\n',
    );
    expect(await build.pando(['limit', 'rm', '--peer', 'laptop'])).toMatchObject(DONE);
    expect(await build.pando(['limit', 'rm'])).toMatchObject(DONE);
    expect(jsonOf(await build.pando(['limit', 'ls', '--json']))).toEqual({
      overall: null,
      peers: [],
      contributions: [],
    });
    for (const rate of ['fast', '10', '-1M', '1e9', '5T']) {
      expect(await build.pando(['limit', 'set', rate])).toMatchObject({ code: 2 });
    }
  });

  test('limit contributions says how much a peer may bring, until that is as the configuration says again', async () => {
    const set = await build.pando(['limit', 'contributions', 'laptop', '--filesystems', '64']);
    expect(set.stdout).toBe(
      '"laptop" may bring 64 datasets and as many snapshots as the configuration says into each tree that it contributes to.\n',
    );
    expect((await build.pando(['limit', 'ls'])).stdout).toContain('contributions  laptop  64 datasets and');
    const { contributions } = jsonOf(await build.pando(['limit', 'ls', '--json'])) as { contributions: object[] };
    expect(contributions).toMatchObject([{ filesystems: 64, snapshots: null }]);
    expect(await build.pando(['limit', 'contributions', 'laptop'])).toMatchObject(DONE);
    expect((await build.pando(['limit', 'ls'])).stdout).not.toContain('laptop');
    for (const many of ['-1', '1.5', 'some', '1e3']) {
      expect(await build.pando(['limit', 'contributions', 'laptop', '--snapshots', many])).toMatchObject({ code: 2 });
    }
    expect(await build.pando(['limit', 'contributions', 'nobody'])).toMatchObject({ code: 1 });
  });

  test('sync --limit goes no faster than that', async () => {
    expect(await laptop.pando(['mirror', 'add', 'images', '--from', 'build', '--into', 'laptop/images'])).toMatchObject(
      DONE,
    );
    build.zfs.write('build/images', 'file', 'x'.repeat(30_000));
    expect(await build.pando(['snapshot', 'images@big'])).toMatchObject(DONE);
    const since = performance.now();
    expect(await laptop.pando(['sync', 'images', '--limit', '64K'])).toMatchObject({ code: 0 });
    expect(performance.now() - since).toBeGreaterThan(300);
  });

  test('audit tells who was trusted with what, and who was refused, and nothing else', async () => {
    const { stdout } = await build.pando(['audit']);
    for (const words of [
      'was made: contributor of images',
      'has joined with invitation',
      'is operator of homes-*',
      'was refused to join',
    ]) {
      expect(stdout).toContain(words);
    }
    expect(stdout).not.toContain('Tree "images" was added');
    const types = jsonLinesOf(await build.pando(['audit', '--json'])).map(({ type }) => type);
    expect(types).toContain('peer.added');
    expect(types).not.toContain('local-tree.added');
  });
});
