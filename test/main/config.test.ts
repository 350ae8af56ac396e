import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { PandoError } from '../../src/core/errors.ts';
import { loadConfig, parseConfig } from '../../src/main/config.ts';
import { codeOf } from './memory-world.ts';

const FILE = '/etc/pando/pando.yaml';

function refusal(text: string): PandoError {
  try {
    parseConfig(text, FILE);
  } catch (error) {
    if (error instanceof PandoError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

describe('a configuration', () => {
  test('offers containerd no socket where it says so', () => {
    expect(parseConfig('snapshotter: { socket: null }', FILE).snapshotter.socket).toBeNull();
    expect(refusal('snapshotter: { tree: a/b }').code).toBe('CONFIG_INVALID');
  });

  test('has a default for every key', () => {
    expect(parseConfig('', FILE)).toEqual({
      dataDirectory: '/var/lib/pando',
      socket: '/var/lib/pando/pando.sock',
      listen: { host: '0.0.0.0', port: 7380 },
      directPort: null,
      zfs: { prefix: [], remoteShell: false, concurrencyPerPool: 4 },
      observeEverySeconds: 5,
      publicAddress: null,
      keyPassphrase: null,
      contributions: { filesystems: 32, snapshots: 128 },
      snapshotter: { socket: '/var/lib/pando/snapshotter.sock', tree: null },
      follow: true,
      transfers: { perPeer: 4, perPool: 4, overall: 8 },
      log: { level: 'info', format: 'auto' },
    });
  });

  test('keeps what it says, and the defaults beside it', () => {
    const text = `
# a node behind ssh
dataDirectory: /srv/pando
socket: /run/pando/pando.sock
listen: "[::1]:0"
directPort: 7381
zfs:
  prefix: [ssh, root@nas]
  remoteShell: true
observeEverySeconds: 0.5
publicAddress: build.example:7380
keyPassphrase: { file: secret }
contributions: { snapshots: 7 }
snapshotter: { socket: containerd.sock, tree: images }
follow: false
transfers: { overall: 2 }
log: { format: json }
`;
    expect(parseConfig(text, FILE)).toEqual({
      dataDirectory: '/srv/pando',
      socket: '/run/pando/pando.sock',
      listen: { host: '::1', port: 0 },
      directPort: 7381,
      zfs: { prefix: ['ssh', 'root@nas'], remoteShell: true, concurrencyPerPool: 4 },
      observeEverySeconds: 0.5,
      publicAddress: 'build.example:7380',
      keyPassphrase: { file: '/etc/pando/secret' },
      contributions: { filesystems: 32, snapshots: 7 },
      snapshotter: { socket: '/etc/pando/containerd.sock', tree: 'images' },
      follow: false,
      transfers: { perPeer: 4, perPool: 4, overall: 2 },
      log: { level: 'info', format: 'json' },
    });
  });

  test('takes relative paths from where its file lies, and the socket from the data directory', () => {
    const config = parseConfig('dataDirectory: data', '/home/anna/pando.yaml');
    expect(config.dataDirectory).toBe('/home/anna/data');
    expect(config.socket).toBe('/home/anna/data/pando.sock');
    expect(parseConfig('socket: p.sock', '/home/anna/pando.yaml').socket).toBe('/home/anna/p.sock');
  });
});

describe('an error in a configuration names file, line, column and key', () => {
  const cases: readonly { why: string; text: string; line: number; column: number; key?: string; says: string }[] = [
    {
      why: 'an unknown key, with the one that was meant',
      text: 'follow: true\n\nlisen: 0.0.0.0:1\n',
      line: 3,
      column: 1,
      key: 'lisen',
      says: `Unknown key "lisen" at ${FILE}:3:1; did you mean "listen"?`,
    },
    {
      why: 'an unknown key that resembles none',
      text: 'log:\n  level: info\n  colour: red\n',
      line: 3,
      column: 3,
      key: 'log.colour',
      says: `Unknown key "log.colour" at ${FILE}:3:3; known here are level, format.`,
    },
    { why: 'a wrong type', text: 'follow: maybe\n', line: 1, column: 9, key: 'follow', says: 'boolean' },
    {
      why: 'a wrong type in a list',
      text: 'zfs:\n  prefix:\n    - ssh\n    - 22\n',
      line: 4,
      column: 7,
      key: 'zfs.prefix.1',
      says: 'string',
    },
    {
      why: 'a number out of range',
      text: 'observeEverySeconds: 0\n',
      line: 1,
      column: 22,
      key: 'observeEverySeconds',
      says: '>0',
    },
    { why: 'a port out of range', text: 'listen: "a:65536"\n', line: 1, column: 9, key: 'listen', says: 'HOST:PORT' },
    {
      why: 'an address without a port',
      text: 'listen: localhost\n',
      line: 1,
      column: 9,
      key: 'listen',
      says: 'HOST:PORT',
    },
    {
      why: 'a value that is none of the choices',
      text: 'log: { level: loud }\n',
      line: 1,
      column: 15,
      key: 'log.level',
      says: '"info"',
    },
    { why: 'an empty map where keys are expected', text: 'zfs:\n', line: 1, column: 5, key: 'zfs', says: 'object' },
    {
      why: 'a list instead of a map',
      text: '- a\n',
      line: 1,
      column: 1,
      key: '',
      says: 'The configuration is not usable',
    },
    { why: 'a duplicate key', text: 'follow: true\nfollow: false\n', line: 2, column: 1, says: 'unique' },
    { why: 'bad YAML', text: 'log: {\nfollow: [\n', line: 2, column: 1, says: 'Not valid YAML' },
    {
      why: 'a second document',
      text: 'follow: true\n---\nfollow: false\n',
      line: 2,
      column: 1,
      says: 'Not valid YAML',
    },
  ];

  test.each(cases)('$why', ({ text, line, column, key, says }) => {
    const error = refusal(text);
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.message).toContain(says);
    expect(error.message).toContain(`${FILE}:${line}:${column}`);
    expect(error.evidence).toMatchObject({ file: FILE, line, column, ...(key === undefined ? {} : { key }) });
  });
});

describe('a configuration file', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'pando-config-'));
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  test('is read from where it is named', async () => {
    const file = join(directory, 'pando.yaml');
    await writeFile(file, 'listen: 127.0.0.1:1\n');
    expect((await loadConfig(file)).listen).toEqual({ host: '127.0.0.1', port: 1 });
  });

  test('that is named and missing is an error', async () => {
    expect(await codeOf(loadConfig(join(directory, 'none.yaml')))).toBe('CONFIG_INVALID');
  });

  test('that cannot be read is an error', async () => {
    expect(await codeOf(loadConfig(directory))).toBe('CONFIG_INVALID');
  });
});

test('the reference in docs/operations.md shows every key with its default', async () => {
  const page = await readFile(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const block = /```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
  expect(parseConfig(block, FILE)).toEqual(parseConfig('', FILE));
  expect(Object.keys(parseYaml(block)).sort()).toEqual(Object.keys(parseConfig('', FILE)).sort());
});
