/** The machine with OpenZFS, started and ended by these scripts. See README.md beside it. */
import { join } from 'node:path';
import { execa } from 'execa';
import { z } from 'zod';
import { installPackages } from '../../../peers/provision/debian-packages.ts';
import { CHECKOUT } from '../checkout.ts';

export interface Machine {
  /** Words that lead to a shell in it: see `CommandLineOptions.prefix`. */
  readonly ssh: readonly string[];
  /** Ends it and removes what it had on this host. */
  stop(): Promise<void>;
}

/** What the scripts use. */
const PACKAGES = ['bc', 'build-essential', 'cpio', 'libelf1', 'openssh-client', 'qemu-system-x86'];

const started = z.object({ runDirectory: z.string(), ssh: z.array(z.string()) });

/**
 * Builds the machine if need be, which takes minutes, and boots it; before that, packages that are missing are installed (Debian, as root).
 * It ends with this process at the latest. What the scripts say on the way goes to standard error. Throws a sentence that says what was
 * in the way, and what to do.
 */
export async function startMachine(): Promise<Machine> {
  const missing = await installPackages(PACKAGES);
  if (missing !== null) throw cannotStart(missing);
  const { exitCode, stdout, stderr } = await execa(script('start.sh'), ['--until', String(process.pid)], {
    stdin: 'ignore',
    stderr: ['inherit', 'pipe'],
    reject: false,
  });
  if (exitCode !== 0) throw cannotStart(stderr.trim().split('\n').at(-1) ?? `exit code ${exitCode}`);
  const { runDirectory, ssh } = started.parse(JSON.parse(stdout));
  return { ssh, stop: async () => void (await execa(script('stop.sh'), [runDirectory])) };
}

function cannotStart(inTheWay: string): Error {
  return new Error(
    `Cannot start the machine with OpenZFS: ${inTheWay}. test/platform/vm/README.md says what it needs; ` +
      '"npm test -- --without-platform" leaves out the tests on real ZFS.',
  );
}

function script(name: string): string {
  return join(CHECKOUT, 'test/platform/vm', name);
}
