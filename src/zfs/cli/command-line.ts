/** How `zfs` and `zpool` are called: the words of a command, with what stands before them. */
export interface CommandLineOptions {
  /**
   * Words before each command: `["sudo"]`, or `["ssh", …, "root@nas"]` for a ZFS on another machine. With a shared connection (ControlMaster) the far end
   * must be OpenSSH: dropbear does not hear of a stream that was broken off, and `zfs send` stays there, holding its snapshot.
   */
  readonly prefix?: readonly string[];
  /**
   * Whether the prefix hands the rest to a shell, which splits it into words again, as ssh does. Then each word is quoted for a POSIX
   * shell, and `env LC_ALL=C` goes before it since the environment does not travel. False for `sudo` and the like.
   */
  readonly remoteShell?: boolean;
  readonly zfsPath?: string;
  readonly zpoolPath?: string;
}

/**
 * Longest list of words that one command gets, in bytes as written. Linux takes 128 KiB in one word (MAX_ARG_STRLEN), and with a
 * remote shell the whole command is one word.
 */
const ARGUMENTS_BYTES_MAX = 96 * 1024;
/**
 * The same for words that cannot be divided, where each stays a word of its own: three quarters of the 2 MiB that Linux takes with the usual
 * stack (execve.2). The environment and a pointer to each word count as well.
 */
const LOCAL_ARGUMENTS_BYTES_MAX = 1536 * 1024;
const POINTER_BYTES = 8;

export class CommandLine {
  readonly #prefix: readonly string[];
  readonly #paths: Readonly<Record<'zfs' | 'zpool', string>>;
  /** Whether the commands run on another machine, behind a shell. */
  readonly remoteShell: boolean;

  constructor({ prefix = [], remoteShell = false, zfsPath = 'zfs', zpoolPath = 'zpool' }: CommandLineOptions) {
    this.#prefix = prefix;
    this.#paths = { zfs: zfsPath, zpool: zpoolPath };
    this.remoteShell = remoteShell;
  }

  /** All words of the command, program first. */
  words(program: 'zfs' | 'zpool', given: readonly string[]): string[] {
    const command = [this.#paths[program], ...given];
    if (!this.remoteShell) return [...this.#prefix, ...command];
    return [...this.#prefix, 'env', 'LC_ALL=C', ...command.map(quotedForShell)];
  }

  /** Whether all these names fit one command. */
  takes(names: readonly string[]): boolean {
    if (this.remoteShell) return this.batches(names).length <= 1;
    return names.reduce((sum, name) => sum + writtenBytes(name) + POINTER_BYTES, 0) <= LOCAL_ARGUMENTS_BYTES_MAX;
  }

  /** Splits a list of names so that each part fits one command. Order is kept. */
  batches<Name extends string>(names: readonly Name[]): Name[][] {
    const batches: Name[][] = [];
    let bytes = Number.POSITIVE_INFINITY;
    for (const name of names) {
      const length = writtenBytes(name);
      if (bytes + length > ARGUMENTS_BYTES_MAX) {
        batches.push([]);
        bytes = 0;
      }
      batches.at(-1)?.push(name);
      bytes += length;
    }
    return batches;
  }
}

function writtenBytes(name: string): number {
  return quotedForShell(name).length + 1;
}

/** The word in single quotes, which a POSIX shell takes literally (XCU 2.2.2). */
export function quotedForShell(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
