/** The command line driver on OpenZFS, in a virtual machine of its own that is driven through ssh. */
import { afterAll, beforeAll, vi } from 'vitest';
import { zfsContract } from '../suites/zfs-contract.ts';
import { remoteZfs } from './remote-zfs.ts';
import { type Machine, startMachine } from './vm/machine.ts';

/** The first start compiles OpenZFS: five minutes on two cores. */
const BUILD_AND_BOOT_MS_MAX = 40 * 60_000;
/** The processor is emulated. The longest test takes 20 s here, and would take minutes on a machine with little to spare. */
const EMULATED_TEST_MS_MAX = 10 * 60_000;

vi.setConfig({ testTimeout: EMULATED_TEST_MS_MAX, hookTimeout: BUILD_AND_BOOT_MS_MAX });

let machine: Machine | undefined;
beforeAll(async () => {
  machine = await startMachine();
});
afterAll(() => machine?.stop());

zfsContract('CliZfs on OpenZFS in a virtual machine', () => remoteZfs(machine?.ssh ?? []));
