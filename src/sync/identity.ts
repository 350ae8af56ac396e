/** Who this node is: one Ed25519 key, made on the first start and kept in a file that only its owner can read. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { nodeIdOfPublicKey, PUBLIC_KEY_BYTES, type Signer } from '../core/codec/chain.ts';
import { describeError, PandoError } from '../core/errors.ts';
import { selfSignedCertificate } from './certificate.ts';

/** A node's signer, and what TLS needs of the same key. */
export interface Identity extends Signer {
  readonly privateKey: KeyObject;
  /** The private key as PKCS#8 in PEM. */
  readonly privateKeyPem: string;
  /** Self-signed certificate of the key, in PEM, good for this run. */
  readonly certificatePem: string;
}

export const KEY_FILE_NAME = 'node-key.pem';
const KEY_FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
const OTHERS_MODE_BITS = 0o077;

/** The 32 bytes of an Ed25519 public key (RFC 8410 §4: they end its SubjectPublicKeyInfo). */
export function rawPublicKey(publicKey: KeyObject): Uint8Array {
  return new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }).subarray(-PUBLIC_KEY_BYTES));
}

/** The identity that an Ed25519 private key stands for. */
function identityOf(privateKey: KeyObject): Identity {
  const publicKey = rawPublicKey(createPublicKey(privateKey));
  const node = nodeIdOfPublicKey(publicKey);
  return {
    node,
    publicKey,
    sign: (message) => sign(null, message, privateKey),
    privateKey,
    privateKeyPem: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    certificatePem: selfSignedCertificate(privateKey, node),
  };
}

/** A new identity that is kept nowhere. */
export function createIdentity(): Identity {
  return identityOf(generateKeyPairSync('ed25519').privateKey);
}

function invalid(path: string, why: string, cause?: unknown): PandoError {
  return new PandoError('IDENTITY_INVALID', `The key of this node, ${path}, ${why}.`, { path }, { cause });
}

function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR';
}

async function openKeyFile(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw invalid(path, `cannot be read (${describeError(error)}); run Pando as the user who owns it`, error);
  }
}

async function readKey(path: string, file: FileHandle): Promise<KeyObject> {
  const { mode } = await file.stat();
  if ((mode & OTHERS_MODE_BITS) !== 0) {
    throw invalid(
      path,
      `can be read or changed by others; run "chmod 600" on it, or replace it if someone else saw it`,
    );
  }
  const restore = 'restore it from a backup, or remove it to become a new node that every peer has to add again';
  let key: KeyObject;
  try {
    key = createPrivateKey(await file.readFile('utf8'));
  } catch (error) {
    throw invalid(path, `is not a private key in PEM; ${restore}`, error);
  }
  if (key.asymmetricKeyType !== 'ed25519') throw invalid(path, `is not an Ed25519 key; ${restore}`);
  return key;
}

async function synchronise(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Writes beside the name and renames, so that a crash leaves a whole key or none. */
async function writeKey(directory: string, path: string, identity: Identity): Promise<void> {
  const temporary = `${path}.${process.pid}.new`;
  try {
    const file = await open(temporary, 'w', KEY_FILE_MODE);
    try {
      await file.writeFile(identity.privateKeyPem);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await synchronise(directory);
  } catch (error) {
    await rm(temporary, { force: true });
    throw unwritable(directory, error);
  }
}

function unwritable(directory: string, error: unknown): PandoError {
  return new PandoError(
    'DATA_DIRECTORY_UNWRITABLE',
    `The directory ${directory} cannot hold the key of this node (${describeError(error)}); give it to the user who runs Pando.`,
    { directory },
    { cause: error },
  );
}

/** The identity kept in `directory`, or null when no node has run there. Rejects with `IDENTITY_INVALID` like {@link loadOrCreateIdentity}. */
export async function readIdentity(directory: string): Promise<Identity | null> {
  const path = join(directory, KEY_FILE_NAME);
  const file = await openKeyFile(path);
  if (file === undefined) return null;
  try {
    return identityOf(await readKey(path, file));
  } finally {
    await file.close();
  }
}

/**
 * The identity kept in `directory`, made there on the first start (directory mode 0700, key file mode 0600).
 * Rejects with `IDENTITY_INVALID` when the key file is there but cannot be trusted: unreadable, garbled, of another
 * kind, or open to others; with `DATA_DIRECTORY_UNWRITABLE` when a new key cannot be kept.
 */
export async function loadOrCreateIdentity(directory: string): Promise<Identity> {
  const known = await readIdentity(directory);
  if (known !== null) return known;
  await mkdir(directory, { recursive: true, mode: DIRECTORY_MODE }).catch((error: unknown) => {
    throw unwritable(directory, error);
  });
  const identity = createIdentity();
  await writeKey(directory, join(directory, KEY_FILE_NAME), identity);
  return identity;
}
