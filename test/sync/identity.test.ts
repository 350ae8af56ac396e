import { generateKeyPairSync, verify, X509Certificate } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { signHead, verifyHead } from '../../src/core/codec/chain.ts';
import { keysOf, nodeIdOfPublicKey } from '../../src/core/codec/key-proof.ts';
import { streamIdOf, type TreeName } from '../../src/core/ids.ts';
import { KEY_FILE_NAME, loadOrCreateIdentity, readIdentity, rotateIdentity } from '../../src/sync/identity.ts';

let parent: string;
let directory: string;

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'pando-identity-'));
  directory = join(parent, 'node');
});

afterEach(() => rm(parent, { recursive: true, force: true }));

test('the first start makes a key that every later start finds again', async () => {
  const first = await loadOrCreateIdentity(directory, null);
  const second = await loadOrCreateIdentity(directory, null);
  expect(second.node).toBe(first.node);
  expect(first.node).toBe(nodeIdOfPublicKey(first.keyProof));
});

test('key file and directory are open to their owner alone, and nothing else is left there', async () => {
  await loadOrCreateIdentity(directory, null);
  expect((await stat(directory)).mode & 0o777).toBe(0o700);
  expect((await stat(join(directory, KEY_FILE_NAME))).mode & 0o777).toBe(0o600);
  expect(await readdir(directory)).toEqual([KEY_FILE_NAME]);
});

test('an identity signs heads that others can verify', async () => {
  const identity = await loadOrCreateIdentity(directory, null);
  const stream = streamIdOf(identity.node, 'images' as TreeName);
  verifyHead(signHead({ stream, incarnation: 1, seq: 1, hash: new Uint8Array(32) }, identity));
});

test('the certificate holds the key, signed with it, and is made afresh at every start', async () => {
  const first = await loadOrCreateIdentity(directory, null);
  const second = await loadOrCreateIdentity(directory, null);
  const certificate = new X509Certificate(first.certificatePem);
  expect(certificate.verify(certificate.publicKey)).toBe(true);
  expect(certificate.subject).toBe(`CN=${first.node}`);
  expect(certificate.checkPrivateKey(first.privateKey)).toBe(true);
  const message = Buffer.from('message');
  expect(verify(null, message, certificate.publicKey, first.sign(message))).toBe(true);
  expect(second.certificatePem).not.toBe(first.certificatePem);
});

test('a key file that others can read is refused, with the remedy', async () => {
  await loadOrCreateIdentity(directory, null);
  await chmod(join(directory, KEY_FILE_NAME), 0o640);
  await expect(loadOrCreateIdentity(directory, null)).rejects.toMatchObject({
    code: 'IDENTITY_INVALID',
    message: expect.stringContaining('chmod 600'),
  });
});

test.each([
  ['empty', ''],
  ['garbled', 'this is no key'],
  [
    'of another kind',
    generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'pem', type: 'pkcs8' }),
  ],
])('a key file that is %s is refused and left as it is', async (_kind, content) => {
  await loadOrCreateIdentity(directory, null);
  const path = join(directory, KEY_FILE_NAME);
  await writeFile(path, content);
  await expect(loadOrCreateIdentity(directory, null)).rejects.toMatchObject({ code: 'IDENTITY_INVALID' });
  expect(await readFile(path, 'utf8')).toBe(content);
});

test('a key file that is a directory is refused', async () => {
  const path = join(directory, KEY_FILE_NAME);
  await loadOrCreateIdentity(path, null);
  await expect(loadOrCreateIdentity(directory, null)).rejects.toMatchObject({ code: 'IDENTITY_INVALID' });
});

test('a place that cannot become a directory is refused', async () => {
  const file = join(parent, 'file');
  await writeFile(file, '');
  await expect(loadOrCreateIdentity(join(file, 'node'), null)).rejects.toMatchObject({
    code: 'DATA_DIRECTORY_UNWRITABLE',
  });
});

const PASSPHRASE = 'correct horse battery staple';

test('a key with a passphrase is of no use without it, on the first start or on a later one', async () => {
  const { node } = await loadOrCreateIdentity(directory, PASSPHRASE);
  const pem = await readFile(join(directory, KEY_FILE_NAME), 'utf8');
  expect(pem).toMatch(/^-----BEGIN ENCRYPTED PRIVATE KEY-----/);
  expect((await loadOrCreateIdentity(directory, PASSPHRASE)).node).toBe(node);
  expect((await readIdentity(directory, PASSPHRASE))?.node).toBe(node);
  const refusals: [string | null, string][] = [
    ['another one, just as long', 'does not open with the passphrase'],
    [null, 'keyPassphrase'],
  ];
  for (const [passphrase, words] of refusals) {
    await expect(loadOrCreateIdentity(directory, passphrase)).rejects.toMatchObject({
      code: 'IDENTITY_INVALID',
      message: expect.stringContaining(words),
    });
  }
  expect(await readFile(join(directory, KEY_FILE_NAME), 'utf8')).toBe(pem);
});

test('a key that was not encrypted is from the first start with a passphrase on, as the same node', async () => {
  const { node } = await loadOrCreateIdentity(directory, null);
  expect((await readIdentity(directory, PASSPHRASE))?.node).toBe(node);
  expect(await readFile(join(directory, KEY_FILE_NAME), 'utf8')).not.toContain('ENCRYPTED');
  expect((await loadOrCreateIdentity(directory, PASSPHRASE)).node).toBe(node);
  expect(await readFile(join(directory, KEY_FILE_NAME), 'utf8')).toContain('ENCRYPTED');
  expect((await stat(join(directory, KEY_FILE_NAME))).mode & 0o777).toBe(0o600);
  expect(await readdir(directory)).toEqual([KEY_FILE_NAME]);
});

test.each([null, PASSPHRASE])(
  'a new key is the same node, and the old one is gone (passphrase: %s)',
  async (passphrase) => {
    const first = await loadOrCreateIdentity(directory, passphrase);
    const second = await rotateIdentity(directory, passphrase);
    const third = await rotateIdentity(directory, passphrase);
    expect([second.node, third.node]).toEqual([first.node, first.node]);
    expect(keysOf(third.keyProof).slice(0, 2)).toEqual(keysOf(second.keyProof));
    const again = await loadOrCreateIdentity(directory, passphrase);
    expect(again.privateKeyPem).toBe(third.privateKeyPem);
    expect(again.privateKeyPem).not.toBe(first.privateKeyPem);
    expect(Buffer.from(again.keyProof).equals(third.keyProof)).toBe(true);
    expect((await stat(join(directory, KEY_FILE_NAME))).mode & 0o777).toBe(0o600);
    expect(await readdir(directory)).toEqual([KEY_FILE_NAME]);
  },
);

test('a key with the proof of another is refused, and there is nothing to change where no node has run', async () => {
  await expect(rotateIdentity(directory, null)).rejects.toMatchObject({ code: 'IDENTITY_INVALID' });
  await loadOrCreateIdentity(directory, null);
  await rotateIdentity(directory, null);
  const path = join(directory, KEY_FILE_NAME);
  const before = await readFile(path, 'utf8');
  await rotateIdentity(directory, null);
  const [key = ''] = before.split('-----BEGIN PANDO');
  const [, proof = ''] = (await readFile(path, 'utf8')).split('-----BEGIN PANDO');
  await writeFile(path, `${key}-----BEGIN PANDO${proof}`);
  await expect(loadOrCreateIdentity(directory, null)).rejects.toMatchObject({
    code: 'IDENTITY_INVALID',
    message: expect.stringContaining('proof'),
  });
});
