import { MemoryZfs } from '../../../src/zfs/memory/memory-zfs.ts';
import { zfsContract } from '../../suites/zfs-contract.ts';
import type { ZfsUnderTest } from '../../suites/zfs-world.ts';

async function memoryZfs(zfs: MemoryZfs): Promise<ZfsUnderTest> {
  zfs.addPool('tank');
  zfs.addPool('ssd');
  return {
    zfs,
    pool: 'tank',
    otherPool: 'ssd',
    writeFile: async (dataset, path, text) => zfs.write(dataset, path, text),
    readFile: async (dataset, path) => zfs.contentsOf(dataset)[path] ?? '',
    encryption: {
      create: async (dataset) => zfs.createEncrypted(dataset),
      lock: async (dataset) => zfs.setKeyLoaded(dataset, false),
      unlock: async (dataset) => zfs.setKeyLoaded(dataset, true),
    },
    cleanup: async () => undefined,
  };
}

zfsContract('MemoryZfs', () => memoryZfs(new MemoryZfs()));
