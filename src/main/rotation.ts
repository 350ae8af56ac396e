import { keysOf } from '../core/codec/key-proof.ts';
import { rotateIdentity } from '../sync/identity.ts';
import type { Config } from './config.ts';
import { readPassphrase } from './passphrase.ts';

/** Gives the node of this configuration a new key from its next start on. Resolves with how many it has had. Rejects as `rotateIdentity` and `readPassphrase` do. */
export async function rotateKey(config: Pick<Config, 'dataDirectory' | 'keyPassphrase'>): Promise<number> {
  const { keyProof } = await rotateIdentity(config.dataDirectory, await readPassphrase(config));
  return keysOf(keyProof).length;
}
