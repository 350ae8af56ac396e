import { execFileSync } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { TAR_END } from '../../../../src/features/layers/archive/tar-writer.ts';
import { unpackLayer } from '../../../../src/features/layers/archive/unpack.ts';
import { entryBytes, inChunks, paxRecords } from './archives.ts';
import { tempDirectory } from './temp-directory.ts';

const { signal } = new AbortController();

async function unpacked(...pieces: readonly Buffer[]): Promise<string> {
  const root = await tempDirectory();
  await unpackLayer(inChunks(Buffer.concat([...pieces, TAR_END]), 700), root, { signal });
  return root;
}

/** The value of an attribute in hexadecimal. */
function xattr(path: string, name: string): string {
  return execFileSync('getfattr', ['-h', '--only-values', '--absolute-names', '-n', name, path]).toString('hex');
}

it('takes the value of an attribute as bytes, also where it is no UTF-8', async () => {
  const capability = Buffer.from('0100000200fffe000000000000000000ff000000', 'hex');
  const bytes = Buffer.from('ff00fe0a3dc328', 'hex');
  const records = { 'SCHILY.xattr.security.capability': capability, 'SCHILY.xattr.user.bytes': bytes };
  const root = await unpacked(paxRecords('x', records), entryBytes({ path: 'file', uid: 5 }));
  // The kernel gives out those bits only that it knows
  expect(xattr(join(root, 'file'), 'security.capability')).toMatch(/^0100000200fffe00/);
  expect(xattr(join(root, 'file'), 'user.bytes')).toBe(bytes.toString('hex'));
  expect(lstatSync(join(root, 'file')).uid).toBe(5);
});

it('takes attributes of libarchive, whose names are escaped and whose values are in base64, behind those of star', async () => {
  const records = {
    'LIBARCHIVE.xattr.user.%61%20b': Buffer.from('value').toString('base64').replace(/=+$/, ''),
    'LIBARCHIVE.xattr.user.both': Buffer.from('libarchive').toString('base64'),
    'SCHILY.xattr.user.both': 'star',
  };
  const root = await unpacked(paxRecords('x', records), entryBytes({ path: 'file' }));
  expect(Buffer.from(xattr(join(root, 'file'), 'user.a b'), 'hex').toString()).toBe('value');
  expect(Buffer.from(xattr(join(root, 'file'), 'user.both'), 'hex').toString()).toBe('star');
});

it('takes names and targets as bytes, of any length that the system has', async () => {
  const name = Buffer.from([0xff, 0x41, 0xe9]);
  const target = Buffer.concat([Buffer.from('t/'.repeat(500)), Buffer.from([0xfe])]);
  const records = { path: Buffer.concat([Buffer.from('d/'), name]), linkpath: target, hdrcharset: 'BINARY' };
  const root = await unpacked(paxRecords('x', records), entryBytes({ type: 'symlink', path: 'short', to: 'short' }));
  expect(readdirSync(join(root, 'd'), 'buffer')).toEqual([name]);
  const path = Buffer.concat([Buffer.from(`${root}/d/`), name]);
  expect(readlinkSync(path, 'buffer')).toEqual(target);
});

it('takes numbers that no header can say', async () => {
  const records = { uid: '4000000000', gid: '4000000001', mtime: '9000000000.5' };
  const root = await unpacked(paxRecords('x', records), entryBytes({ path: 'file', mtimeNs: 0n }));
  const { uid, gid, mtimeMs } = lstatSync(join(root, 'file'));
  expect([uid, gid]).toEqual([4_000_000_000, 4_000_000_001]);
  expect(mtimeMs).toBe(9_000_000_000_500);
});

it('takes a time that no system has for 1970', async () => {
  const root = await unpacked(paxRecords('x', { mtime: '99999999999999999' }), entryBytes({ path: 'a', mtimeNs: 0n }));
  expect(lstatSync(join(root, 'a')).mtimeMs).toBe(0);
});

it('has global records count for all entries behind them, unless one has its own or they are taken back', async () => {
  const root = await unpacked(
    entryBytes({ path: 'before', uid: 1 }),
    paxRecords('g', { uid: '7', gid: '8', comment: 'said by a program that names a commit' }),
    entryBytes({ path: 'global', uid: 1, gid: 1 }),
    paxRecords('x', { uid: '9' }),
    entryBytes({ path: 'own', uid: 1, gid: 1 }),
    paxRecords('g', { uid: '' }),
    entryBytes({ path: 'behind', uid: 1, gid: 1 }),
  );
  const owners = ['before', 'global', 'own', 'behind'].map((name) => {
    const { uid, gid } = lstatSync(join(root, name));
    return `${name} ${uid}:${gid}`;
  });
  expect(owners).toEqual(['before 1:0', 'global 7:8', 'own 9:8', 'behind 1:8']);
});

it('has the last of two records count, and an empty one take a global one back', async () => {
  const root = await unpacked(
    paxRecords('g', { uid: '7' }),
    paxRecords('x', { uid: '9' }),
    paxRecords('x', { uid: '10', gid: '11' }),
    entryBytes({ path: 'twice' }),
    paxRecords('x', { uid: '' }),
    entryBytes({ path: 'none', uid: 3 }),
  );
  expect(lstatSync(join(root, 'twice'))).toMatchObject({ uid: 10, gid: 11 });
  expect(lstatSync(join(root, 'none'))).toMatchObject({ uid: 3 });
});

it.each<[string, Record<string, string>]>([
  ['a size that is none', { size: '1x' }],
  ['an owner that is negative', { uid: '-1' }],
  ['an owner that no system has', { uid: '4294967295' }],
  ['a group that no system has', { gid: '4294967296' }],
  ['a time that is none', { mtime: 'now' }],
  ['a size that no number can say', { size: '99999999999999999999' }],
  ['an attribute without a name', { 'SCHILY.xattr.': 'value' }],
  ['an attribute with "=" in its name', { 'LIBARCHIVE.xattr.user.a%3Db': 'dmFsdWU' }],
  ['sparse, and no size', { 'GNU.sparse.map': '0,1' }],
])('refuses %s', async (_, records) => {
  await expect(unpacked(paxRecords('x', records), entryBytes({ path: 'file', mtimeNs: 0n }))).rejects.toMatchObject({
    code: 'ARCHIVE_INVALID',
  });
});

it('refuses an archive that ends where an entry was announced', async () => {
  await expect(unpacked(paxRecords('x', { path: 'a' }))).rejects.toMatchObject({ code: 'ARCHIVE_INVALID' });
});

it('reads the body of the size that a record tells, whatever the header says', async () => {
  const entry = entryBytes({ path: 'file', content: 'content' });
  const root = await unpacked(paxRecords('x', { size: '4' }), entry, entryBytes({ path: 'next', content: 'next' }));
  expect(readFileSync(join(root, 'file'), 'utf8')).toBe('cont');
  expect(readFileSync(join(root, 'next'), 'utf8')).toBe('next');
});
