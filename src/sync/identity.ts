/** Who this node is: an Ed25519 key, made on the first start and kept in a file that only its owner can read, and the keys that it had before, which vouch for it. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isEd25519Signature, type Signer } from '../core/codec/chain.ts';
import { currentKey, type KeyProof, nodeOfProof, PUBLIC_KEY_BYTES, succeededBy } from '../core/codec/key-proof.ts';
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
/** How PKCS#8 in PEM begins that takes a passphrase (RFC 7468 §11). */
const ENCRYPTED_PEM = '-----BEGIN ENCRYPTED PRIVATE KEY-----';
/** How a key is encrypted at rest (RFC 8018 §6.2, with OpenSSL's PBKDF2). */
const KEY_CIPHER = 'aes-256-cbc';
/** What follows the key in its file where the node had others before: the proof that this one is the node's, in the form of RFC 7468. */
const PROOF_PEM = /-----BEGIN PANDO KEY PROOF-----([A-Za-z0-9+/=\s]*)-----END PANDO KEY PROOF-----/;
const RESTORE = 'restore it from a backup, or remove it to become a new node that every peer has to add again';

/** The 32 bytes of an Ed25519 public key (RFC 8410 §4: they end its SubjectPublicKeyInfo). */
export function rawPublicKey(publicKey: KeyObject): Uint8Array {
  return new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }).subarray(-PUBLIC_KEY_BYTES));
}

/** The identity that an Ed25519 private key stands for, with the proof that it is the node's; without one it is the node's first. Null where the proof is of another key, or proves nothing. */
function identityOf(privateKey: KeyObject, proof: KeyProof | null): Identity | null {
  const publicKey = rawPublicKey(createPublicKey(privateKey));
  const keyProof = proof ?? publicKey;
  const node = nodeOfProof(keyProof, isEd25519Signature);
  if (node === null || Buffer.compare(currentKey(keyProof), publicKey) !== 0) return null;
  return {
    node,
    keyProof,
    sign: (message) => sign(null, message, privateKey),
    privateKey,
    privateKeyPem: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    certificatePem: selfSignedCertificate(privateKey, node, keyProof),
  };
}

/** A new identity that is kept nowhere. */
export function createIdentity(): Identity {
  return identityOf(generateKeyPairSync('ed25519').privateKey, null) as Identity;
}

/** The same node with a new key, which the one that it has vouches for; kept nowhere. Throws `ARGUMENT_INVALID` for a node that has changed its key too often. */
export function withNewKey(identity: Identity): Identity {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return identityOf(privateKey, succeededBy(identity, rawPublicKey(publicKey))) as Identity;
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

/** A key file's content, and whether it takes a passphrase to read it (RFC 7468 §11). */
interface StoredKey {
  readonly key: KeyObject;
  readonly proof: KeyProof | null;
  readonly isEncrypted: boolean;
}

function decodeKey(path: string, pem: string, passphrase: string | null): StoredKey {
  const isEncrypted = pem.includes(ENCRYPTED_PEM);
  if (isEncrypted && passphrase === null) {
    throw invalid(path, 'is encrypted; name where its passphrase is with "keyPassphrase" in the configuration');
  }
  try {
    const key = createPrivateKey({ key: pem, ...(isEncrypted && { passphrase: passphrase ?? '' }) });
    return { key, proof: proofIn(pem), isEncrypted };
  } catch (error) {
    // What OpenSSL says of a wrong passphrase differs by version; all of it is of no use to people
    if (isEncrypted) throw invalid(path, 'does not open with the passphrase that is configured; correct that', error);
    throw invalid(path, `is not a private key in PEM; ${RESTORE}`, error);
  }
}

function proofIn(pem: string): KeyProof | null {
  const [, base64] = PROOF_PEM.exec(pem) ?? [];
  return base64 === undefined ? null : new Uint8Array(Buffer.from(base64, 'base64'));
}

/** Nothing for a first key, which proves itself. */
function proofPem({ keyProof }: Identity): string {
  if (keyProof.length === PUBLIC_KEY_BYTES) return '';
  const lines =
    Buffer.from(keyProof)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN PANDO KEY PROOF-----\n${lines.join('\n')}\n-----END PANDO KEY PROOF-----\n`;
}

async function readKey(path: string, file: FileHandle, passphrase: string | null): Promise<StoredKey> {
  const { mode } = await file.stat();
  if ((mode & OTHERS_MODE_BITS) !== 0) {
    throw invalid(
      path,
      `can be read or changed by others; run "chmod 600" on it, or replace it if someone else saw it`,
    );
  }
  const stored = decodeKey(path, await readText(path, file), passphrase);
  if (stored.key.asymmetricKeyType !== 'ed25519') throw invalid(path, `is not an Ed25519 key; ${RESTORE}`);
  return stored;
}

async function readText(path: string, file: FileHandle): Promise<string> {
  try {
    return await file.readFile('utf8');
  } catch (error) {
    throw invalid(path, `is not a private key in PEM; ${RESTORE}`, error);
  }
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
async function writeKey(directory: string, path: string, identity: Identity, passphrase: string | null): Promise<void> {
  const encryption = passphrase === null ? {} : { cipher: KEY_CIPHER, passphrase };
  const key = identity.privateKey.export({ format: 'pem', type: 'pkcs8', ...encryption });
  const pem = `${key.toString()}${proofPem(identity)}`;
  const temporary = `${path}.${process.pid}.new`;
  try {
    const file = await open(temporary, 'w', KEY_FILE_MODE);
    try {
      await file.writeFile(pem);
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

/**
 * The identity kept in `directory`, or null when no node has run there. `passphrase` opens a key that is encrypted; null where there is none. Rejects with `IDENTITY_INVALID` like
 * {@link loadOrCreateIdentity}.
 */
export async function readIdentity(directory: string, passphrase: string | null): Promise<Identity | null> {
  return (await readStored(directory, passphrase))?.identity ?? null;
}

async function readStored(directory: string, passphrase: string | null) {
  const path = join(directory, KEY_FILE_NAME);
  const file = await openKeyFile(path);
  if (file === undefined) return undefined;
  try {
    const { key, proof, isEncrypted } = await readKey(path, file, passphrase);
    const identity = identityOf(key, proof);
    if (identity === null) throw invalid(path, `is not the one that its proof is about; ${RESTORE}`);
    return { identity, isEncrypted };
  } finally {
    await file.close();
  }
}

/**
 * The identity kept in `directory`, made there on the first start (directory mode 0700, key file mode 0600). With a passphrase the file is encrypted, also one that was not before.
 * Rejects with `IDENTITY_INVALID` when the key file is there but cannot be trusted or read: garbled, of another
 * kind, open to others, or encrypted under another passphrase; with `DATA_DIRECTORY_UNWRITABLE` when a new key cannot be kept.
 */
export async function loadOrCreateIdentity(directory: string, passphrase: string | null): Promise<Identity> {
  const path = join(directory, KEY_FILE_NAME);
  const known = await readStored(directory, passphrase);
  if (known !== undefined) {
    if (passphrase !== null && !known.isEncrypted) await writeKey(directory, path, known.identity, passphrase);
    return known.identity;
  }
  await mkdir(directory, { recursive: true, mode: DIRECTORY_MODE }).catch((error: unknown) => {
    throw unwritable(directory, error);
  });
  const identity = createIdentity();
  await writeKey(directory, path, identity, passphrase);
  return identity;
}

/**
 * Gives the node in `directory` a new key, which its present one vouches for; that one is gone then. A node that runs goes on with the old one until it starts again. Rejects with `IDENTITY_INVALID` like
 * {@link loadOrCreateIdentity} and where no node has run, with `DATA_DIRECTORY_UNWRITABLE`, and with `ARGUMENT_INVALID` for a node that has changed its key too often.
 */
export async function rotateIdentity(directory: string, passphrase: string | null): Promise<Identity> {
  const path = join(directory, KEY_FILE_NAME);
  const known = await readStored(directory, passphrase);
  if (known === undefined) throw invalid(path, 'is not there yet; the first "pando serve" makes it');
  const identity = withNewKey(known.identity);
  await writeKey(directory, path, identity, passphrase);
  return identity;
}
