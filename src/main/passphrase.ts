/** Where the passphrase of the node's key comes from: a file, or a credential that systemd hands over (systemd.exec(5), "Credentials"). */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, PandoError } from '../core/errors.ts';
import type { Config } from './config.ts';

const OTHERS_MODE_BITS = 0o077;
/** Few rounds of PBKDF2 stand between a stolen key file and whoever guesses: the passphrase itself must be hard to guess. */
const PASSPHRASE_CHARACTERS_MIN = 16;

/** The passphrase that the configuration names, or null when it names none. Rejects with `CONFIG_INVALID` when it cannot be had, is open to others, or is too short. */
export async function readPassphrase({ keyPassphrase }: Pick<Config, 'keyPassphrase'>): Promise<string | null> {
  if (keyPassphrase === null) return null;
  const isFile = 'file' in keyPassphrase;
  const path = isFile ? keyPassphrase.file : credentialPath(keyPassphrase.credential);
  const text = await readSecret(path, isFile);
  if (text.length >= PASSPHRASE_CHARACTERS_MIN) return text;
  throw refused(
    path,
    `has fewer than ${PASSPHRASE_CHARACTERS_MIN} characters; "openssl rand -base64 32" makes a good one`,
  );
}

function credentialPath(name: string): string {
  const directory = process.env.CREDENTIALS_DIRECTORY;
  if (directory !== undefined) return join(directory, name);
  throw new PandoError(
    'CONFIG_INVALID',
    `The passphrase is to come from the credential "${name}", but systemd has handed over none; add "LoadCredential=${name}:…" to the unit, or name a file.`,
    { credential: name },
  );
}

/** Who may read a credential is systemd's business, which says so by access control lists that a mode does not show. */
async function readSecret(path: string, checksMode: boolean): Promise<string> {
  try {
    const { mode } = await stat(path);
    if (checksMode && (mode & OTHERS_MODE_BITS) !== 0)
      throw refused(path, 'can be read by others; run "chmod 600" on it');
    return (await readFile(path, 'utf8')).replace(/\r?\n$/, '');
  } catch (error) {
    if (error instanceof PandoError) throw error;
    throw refused(path, `cannot be read (${describeError(error)})`, error);
  }
}

function refused(path: string, why: string, cause?: unknown): PandoError {
  return new PandoError('CONFIG_INVALID', `The passphrase of the node's key, ${path}, ${why}.`, { path }, { cause });
}
