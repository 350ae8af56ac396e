import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isEd25519Signature, signHead, verifyHead } from '../../src/core/codec/chain.ts';
import { sha256 } from '../../src/core/codec/hash.ts';
import {
  currentKey,
  isProofLength,
  KEY_CHANGES_MAX,
  KEY_PROOF_BYTES_MAX,
  keysAgainst,
  keysOf,
  nodeOfProof,
  succeededBy,
} from '../../src/core/codec/key-proof.ts';
import { streamIdOf } from '../../src/core/ids.ts';
import { signerOf } from '../log/identity.ts';
import { IMAGES } from '../main/memory-world.ts';

/** A node that has had these keys, one after the other. */
function rotated(...numbers: readonly number[]) {
  const [first = 1, ...later] = numbers;
  return later.reduce((node, number) => {
    const next = signerOf(number);
    return { node: node.node, keyProof: succeededBy(node, currentKey(next.keyProof)), sign: next.sign };
  }, signerOf(first));
}

describe('the proof of a key', () => {
  it('belongs to the node whose first key it begins with, however often that was changed', () => {
    for (let changes = 0; changes <= KEY_CHANGES_MAX; changes += 1) {
      const node = rotated(...Array.from({ length: changes + 1 }, (_, index) => index + 1));
      expect(nodeOfProof(node.keyProof, isEd25519Signature)).toBe(signerOf(1).node);
      expect(keysOf(node.keyProof)).toHaveLength(changes + 1);
      expect(isProofLength(node.keyProof.length)).toBe(true);
    }
    const last = rotated(...Array.from({ length: KEY_CHANGES_MAX + 1 }, (_, index) => index + 1));
    expect(last.keyProof).toHaveLength(KEY_PROOF_BYTES_MAX);
    expect(() => succeededBy(last, currentKey(signerOf(99).keyProof))).toThrow('as often as one can');
  });

  it('proves nothing for that node once any bit of it is another', () => {
    const { node, keyProof } = rotated(1, 2, 3);
    fc.assert(
      fc.property(fc.nat(keyProof.length * 8 - 1), (bit) => {
        const altered = Uint8Array.from(keyProof);
        altered[bit >> 3] = (altered[bit >> 3] as number) ^ (1 << (bit & 7));
        expect(nodeOfProof(altered, isEd25519Signature)).not.toBe(node);
      }),
    );
  });

  it('cannot be made of vouchers for other nodes, other keys or another order', () => {
    const node = rotated(1, 2, 3);
    const part = (from: number, to?: number) => node.keyProof.subarray(from, to);
    const other = rotated(4, 2, 3);
    const forgeries = [
      // The key before the last, vouched for by the first
      [part(0, 32), part(128)],
      // The last voucher of a node that had the same keys behind another first one
      [other.keyProof.subarray(0, 128), part(128)],
      // In the other order
      [part(32, 64), part(128), part(32, 128)],
      [part(0, 128), part(128), part(128)],
      [part(0, 31)],
      [],
    ];
    for (const parts of forgeries) expect(nodeOfProof(Buffer.concat(parts), isEd25519Signature)).not.toBe(node.node);
  });

  it('lets the newest key sign for the node, and nobody who shows it without having the key', () => {
    const node = rotated(1, 2);
    const head = { stream: streamIdOf(node.node, IMAGES), incarnation: 1, seq: 1, hash: sha256(new Uint8Array()) };
    verifyHead(signHead(head, node));
    verifyHead(signHead(head, signerOf(1)));
    const thief = { ...signerOf(3), keyProof: node.keyProof };
    expect(() => verifyHead(signHead(head, thief))).toThrow('not signed by node');
    expect(() => verifyHead(signHead(head, signerOf(2)))).toThrow('not signed by node');
  });
});

describe('the keys that a node shows', () => {
  it('are compared with those that it has shown: newer ones count, those before them and others do not', () => {
    expect(keysAgainst([], ['a'])).toBe('newer');
    expect(keysAgainst(['a', 'b'], ['a', 'b'])).toBe('same');
    expect(keysAgainst(['a', 'b'], ['a', 'b', 'c'])).toBe('newer');
    expect(keysAgainst(['a', 'b'], ['a'])).toBe('others');
    expect(keysAgainst(['a', 'b'], ['a', 'x'])).toBe('others');
    expect(keysAgainst(['a', 'b'], ['a', 'x', 'y'])).toBe('others');
  });
});
