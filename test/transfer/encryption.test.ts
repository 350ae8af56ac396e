import { describe, expect, it } from 'vitest';
import type { PandoError } from '../../src/core/errors.ts';
import type { DatasetName } from '../../src/core/ids.ts';
import { EncryptionMemory } from '../../src/transfer/encryption.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';

const [A, B, BETWEEN] = ['tank/a', 'tank/b', 'tank/between'] as DatasetName[] as [
  DatasetName,
  DatasetName,
  DatasetName,
];

describe('what is remembered of datasets', () => {
  it('is by guid: one that has the name of another by now is not taken for that', async () => {
    const zfs = new MemoryZfs();
    zfs.addPool('tank');
    await zfs.create(A);
    zfs.createEncrypted(B);
    const [, secret] = (await zfs.listOnly([A, B])).map(({ guid }) => guid);
    const memory = new EncryptionMemory(zfs);
    await zfs.rename(A, BETWEEN);
    await zfs.rename(B, A);
    await zfs.rename(BETWEEN, B);
    // As the log still has it
    const stale = await memory.look([{ name: B, guid: secret ?? '' }]).catch(({ code }: PandoError) => code);
    expect(stale).toBe('TRANSFER_REFUSED');
    const known = await memory.look([{ name: A, guid: secret ?? '' }]);
    expect(known.get(secret ?? '')).toBe(true);
  });
});
