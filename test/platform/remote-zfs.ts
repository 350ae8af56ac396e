/** A ZFS on another machine, driven through a remote shell. */
import { execa } from 'execa';
import { uniquePoolName } from '../../peers/provision/file-pool.ts';
import type { DatasetName } from '../../src/core/ids.ts';
import { CliZfs } from '../../src/zfs/cli/cli-zfs.ts';
import { quotedForShell } from '../../src/zfs/cli/command-line.ts';
import type { ZfsUnderTest } from '../suites/zfs-world.ts';

const POOL_BYTES = 512 * 1024 * 1024;

export interface RemoteZfs extends ZfsUnderTest {
  /** Runs a script there, and gives what it prints. Rejects when it fails. */
  shell(script: string, input?: string): Promise<string>;
  /** The same where what it prints is no text. */
  bytes(script: string): Promise<Uint8Array>;
}

/** Two pools on sparse files in the root directory of the machine that these words (`["ssh", …, "root@nas"]`) lead to. */
export async function remoteZfs(words: readonly string[]): Promise<RemoteZfs> {
  const [program = '', ...rest] = words;
  const shell = async (script: string, input = ''): Promise<string> =>
    (await execa(program, [...rest, script], { input, stripFinalNewline: false })).stdout;
  const done = async (script: string): Promise<void> => void (await shell(script));
  const names = ['a', 'b'].map(uniquePoolName);
  const keyFile = `/${names[0]}.key`;
  const cleanup = async (): Promise<void> => {
    for (const name of names) await shell(`zpool destroy -f ${name}; rm -f /${name}.img /${name}.key; rmdir /${name}`);
  };
  for (const name of names) {
    await shell(`truncate -s ${POOL_BYTES} /${name}.img && zpool create -O atime=off -m /${name} ${name} /${name}.img`);
  }
  const [pool = '', otherPool = ''] = names;
  const pathOf = (dataset: DatasetName, path: string): string => quotedForShell(`/${dataset}/${path}`);
  return {
    zfs: new CliZfs({ prefix: words, remoteShell: true }),
    areFilesElsewhere: true,
    pool,
    otherPool,
    writeFile: async (dataset, path, text) => void (await shell(`cat > ${pathOf(dataset, path)}`, text)),
    readFile: (dataset, path) => {
      const name = quotedForShell(dataset);
      return shell(
        `[ "$(zfs get -H -o value mounted ${name})" = yes ] || zfs mount ${name}; cat ${pathOf(dataset, path)}`,
      );
    },
    encryption: {
      create: (dataset) => {
        const key = quotedForShell(keyFile);
        const options = `-o encryption=on -o keyformat=raw -o keylocation=${quotedForShell(`file://${keyFile}`)}`;
        return done(
          `[ -e ${key} ] || head -c 32 /dev/urandom > ${key}; zfs create ${options} ${quotedForShell(dataset)}`,
        );
      },
      // Whatever the key opens is unmounted first
      lock: (dataset) =>
        done(
          `zfs list -H -o name,encryptionroot,mounted -t filesystem | while IFS='\t' read -r name root mounted; do
             [ "$root $mounted" != ${quotedForShell(`${dataset} yes`)} ] || zfs unmount "$name" || exit; done
           zfs unload-key ${quotedForShell(dataset)}`,
        ),
      unlock: (dataset) => done(`zfs load-key -L ${quotedForShell(`file://${keyFile}`)} ${quotedForShell(dataset)}`),
    },
    cleanup,
    shell,
    bytes: async (script) => (await execa(program, [...rest, script], { encoding: 'buffer' })).stdout,
  };
}
