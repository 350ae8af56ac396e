import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { readPassphrase } from '../../src/main/passphrase.ts';

const PASSPHRASE = 'correct horse battery staple';
let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'pando-passphrase-'));
  file = join(directory, 'pando-key');
  await writeFile(file, `${PASSPHRASE}\n`, { mode: 0o600 });
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(directory, { recursive: true, force: true });
});

test('none is asked for where none is configured', async () => {
  expect(await readPassphrase({ keyPassphrase: null })).toBeNull();
});

test('it comes from a file, without the end of its line', async () => {
  expect(await readPassphrase({ keyPassphrase: { file } })).toBe(PASSPHRASE);
});

test('it comes from a credential of systemd', async () => {
  vi.stubEnv('CREDENTIALS_DIRECTORY', directory);
  expect(await readPassphrase({ keyPassphrase: { credential: 'pando-key' } })).toBe(PASSPHRASE);
});

test('a credential is read whatever its mode says: systemd lets its reader in by a list', async () => {
  vi.stubEnv('CREDENTIALS_DIRECTORY', directory);
  await chmod(file, 0o440);
  expect(await readPassphrase({ keyPassphrase: { credential: 'pando-key' } })).toBe(PASSPHRASE);
});

test('a credential that systemd did not hand over is told of', async () => {
  vi.stubEnv('CREDENTIALS_DIRECTORY', undefined);
  await expect(readPassphrase({ keyPassphrase: { credential: 'pando-key' } })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining('LoadCredential'),
  });
});

test.each([
  ['is missing', () => rm(file), 'cannot be read'],
  ['is open to others', () => chmod(file, 0o644), 'chmod 600'],
  ['is easy to guess', () => writeFile(file, 'short'), 'fewer than 16 characters'],
])('one that %s is refused, and never shown', async (_what, spoil, words) => {
  await spoil();
  const refusal = readPassphrase({ keyPassphrase: { file } });
  await expect(refusal).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(words) });
  await expect(refusal).rejects.not.toMatchObject({ message: expect.stringContaining(PASSPHRASE) });
});
