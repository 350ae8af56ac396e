import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface Registry {
  /** `host:port`. */
  readonly address: string;
  stop(): Promise<void>;
}

/** A registry of a test's own, on a port that the system chooses. `start` starts its program, with its standard error to be read. */
export async function startRegistry(
  directory: string,
  start: (program: string, ...words: string[]) => ChildProcess = (program, ...words) =>
    spawn(program, words, { stdio: ['ignore', 'ignore', 'pipe'] }),
): Promise<Registry> {
  await mkdir(directory);
  const config = join(directory, 'config.yml');
  await writeFile(
    config,
    `version: 0.1\nstorage: {filesystem: {rootdirectory: ${directory}}}\nhttp: {addr: '127.0.0.1:0'}\n`,
  );
  const child = start('docker-registry', 'serve', config);
  return { address: await addressOf(child), stop: () => stopped(child) };
}

/** Where a program says that it listens. */
export async function addressOf(child: ChildProcess): Promise<string> {
  for await (const line of createInterface(child.stderr as NodeJS.ReadableStream)) {
    const address = /listening on (127\.0\.0\.1:\d+)/.exec(line)?.[1];
    if (address === undefined) continue;
    child.stderr?.resume();
    return address;
  }
  throw new Error('It did not start.');
}

export async function stopped(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill();
  await gone;
}
