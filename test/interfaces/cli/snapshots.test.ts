/** `pando snapshots`, against the real API of a node in this process. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseLabels } from '../../../src/interfaces/cli/label-arguments.ts';
import { mountCommands, snapshotBranches } from '../../../src/interfaces/cli/snapshot-drawing.ts';
import { HttpClient } from '../../../src/interfaces/http/client.ts';
import { startHttpServer } from '../../../src/interfaces/http/server.ts';
import { codeOf } from '../../main/memory-world.ts';
import { type CliRun, type ServedNode, ServedWorld, servicesOf } from '../served-world.ts';

let world: ServedWorld;
let node: ServedNode;
beforeAll(async () => {
  world = await ServedWorld.create();
  node = await world.start('build');
});
afterAll(() => world.stop());

function snapshots(...words: string[]): Promise<CliRun> {
  return node.pando(['snapshots', ...words]);
}

async function jsonOf(...words: string[]): Promise<unknown> {
  const { code, stdout, stderr } = await snapshots(...words, '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout);
}

function shown(...lines: string[]): CliRun {
  return { code: 0, stderr: '', stdout: lines.map((line) => `${line}\n`).join('') };
}

describe('snapshots, one command after the other:', () => {
  test('prepare makes an active one and says nothing', async () => {
    expect(await snapshots('prepare', 'work')).toEqual(shown());
    expect(await jsonOf('info', 'work')).toEqual({
      kind: 'active',
      key: 'work',
      parent: null,
      labels: {},
      createdAt: '2023-11-14T22:13:20.123456789Z',
      updatedAt: '2023-11-14T22:13:20.123456789Z',
    });
  });

  test('commit gives it its name', async () => {
    expect(await snapshots('commit', 'base', 'work')).toEqual(shown());
    expect((await snapshots('info', 'work')).code).toBe(1);
  });

  test('prepare and view show what mounts them, if they are asked to', async () => {
    expect(await snapshots('prepare', '-t', '/mnt/a b', 'web', 'base')).toEqual(
      shown("mount -t zfs pool/web '/mnt/a b' -o rw,noatime,zfsutil"),
    );
    expect(await snapshots('view', '--mounts', 'look', 'base')).toEqual(
      shown(
        '[',
        '    {',
        '        "Type": "zfs",',
        '        "Source": "pool/look",',
        '        "Options": [',
        '            "ro"',
        '        ]',
        '    }',
        ']',
      ),
    );
    expect(await jsonOf('view', 'other', 'base')).toEqual([{ type: 'zfs', source: 'pool/other', options: ['ro'] }]);
  });

  test.each(['mounts', 'mount', 'm'])('%s shows the commands for a target', async (command) => {
    expect(await snapshots(command, '/mnt', 'look')).toEqual(shown('mount -t zfs pool/look /mnt -o ro,zfsutil'));
  });

  test.each(['ls', 'list'])('%s lists them', async (command) => {
    expect(await snapshots(command)).toEqual(
      shown(
        'KEY    PARENT  KIND',
        'base           Committed',
        'look   base    View',
        'other  base    View',
        'web    base    Active',
      ),
    );
  });

  test('ls with filters lists those that match any', async () => {
    expect(await snapshots('ls', 'kind==active')).toEqual(shown('KEY  PARENT  KIND', 'web  base    Active'));
    expect(await jsonOf('ls', 'kind==active', 'name==base,parent==""')).toMatchObject([
      { key: 'base' },
      { key: 'web' },
    ]);
    const refused = await snapshots('ls', 'kind=active');
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('at character 5');
  });

  test('tree draws what is over what', async () => {
    expect(await snapshots('tree')).toEqual(shown(' base', '  \\_ look', '  \\_ other', '  \\_ web'));
    expect(await jsonOf('tree')).toEqual([
      { key: 'base', above: ['look', 'other', 'web'].map((key) => ({ key, above: [] })) },
    ]);
  });

  test('label sets, takes away and shows labels', async () => {
    expect(await snapshots('label', 'web')).toEqual(shown(''));
    expect(await snapshots('label', 'web', 'tier=web', 'keep', 'x/y=a=b')).toEqual(shown('keep=true,tier=web,x/y=a=b'));
    expect(await snapshots('label', 'web', 'keep=')).toEqual(shown('tier=web,x/y=a=b'));
    expect(await snapshots('label', 'web')).toEqual(shown('tier=web,x/y=a=b'));
    expect(await jsonOf('label', 'web')).toMatchObject({ key: 'web', labels: { tier: 'web', 'x/y': 'a=b' } });
    expect((await snapshots('label', 'web', '=x')).code).toBe(2);
  });

  test('info shows all of one, as ctr does', async () => {
    const { stdout } = await snapshots('info', 'web');
    expect(JSON.parse(stdout)).toEqual({
      Kind: 'Active',
      Name: 'web',
      Parent: 'base',
      Labels: { tier: 'web', 'x/y': 'a=b' },
      Created: expect.stringMatching(/^2023-11-14T22:13:20\.1234567\d\dZ$/),
      Updated: expect.stringMatching(/^2023-11-14T22:13:20\.1234567\d\dZ$/),
    });
    expect(stdout.split('\n')[1]).toBe('    "Kind": "Active",');
  });

  test('usage shows what they take, of all or of some', async () => {
    expect(await snapshots('usage', 'web')).toEqual(shown('KEY  SIZE     INODES', 'web  4.0 KiB  3'));
    expect(await snapshots('usage', '-b', 'web', 'base')).toEqual(
      shown('KEY   SIZE  INODES', 'web   4096  3', 'base  4096  3'),
    );
    expect(await jsonOf('usage')).toHaveLength(4);
    expect((await snapshots('usage', 'nothing')).code).toBe(1);
  });

  test.each(['rm', 'delete', 'del', 'remove'])('%s removes those that nothing is over', async (command) => {
    expect((await snapshots(command, 'base')).stderr).toMatch(/^pando: .*is over "base"\.\n$/);
    await node.client.snapshots.prepare({ key: 'short', parent: 'base' });
    expect(await snapshots(command, 'short')).toEqual(shown());
    expect(await snapshots('ls', 'name==short')).toEqual(shown('KEY  PARENT  KIND'));
  });

  test('a key may be anything', async () => {
    const key = `/größe/a b?&#%2F/${'x'.repeat(200)}`;
    await jsonOf('prepare', key);
    expect(await jsonOf('info', key)).toMatchObject({ key });
    expect(await jsonOf('rm', key)).toEqual({ removed: [key] });
  });
});

test('a node that keeps no layers says so', async () => {
  const socket = join(node.socket, '..', 'without.sock');
  const services = { ...servicesOf(node), snapshots: null };
  const server = await startHttpServer({ socket, services, report: () => undefined });
  try {
    const { snapshots: client } = new HttpClient(socket);
    expect(await codeOf(client.list([]))).toBe('LAYER_STORE_UNKNOWN');
    expect(await codeOf(client.remove('x'))).toBe('LAYER_STORE_UNKNOWN');
    expect(await codeOf(client.prepare({ key: 'x' }))).toBe('LAYER_STORE_UNKNOWN');
  } finally {
    await server.close();
  }
});

describe('what is shown', () => {
  const info = (key: string, parent: string | null) => ({
    kind: 'committed' as const,
    key,
    parent,
    labels: {},
    createdAt: '',
    updatedAt: '',
  });

  test('of a snapshot whose parent is not known stands below its key', () => {
    expect(snapshotBranches([info('b', 'gone'), info('c', 'gone'), info('a', 'b')])).toEqual([
      {
        key: 'gone',
        above: [
          { key: 'b', above: [{ key: 'a', above: [] }] },
          { key: 'c', above: [] },
        ],
      },
    ]);
  });

  test('for a shell means the same to it', () => {
    expect(mountCommands([{ type: 'bind', source: "/it's; rm -rf", options: [] }], '$HOME')).toEqual([
      "mount -t bind '/it'\\''s; rm -rf' '$HOME'",
    ]);
  });
});

test('the last of several labels of a name counts', () => {
  expect(parseLabels(['a=1', 'b', 'a='])).toEqual({ labels: { b: 'true' }, fields: ['labels.a', 'labels.b'] });
});
