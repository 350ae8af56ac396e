/** The programs that people move ZFS streams with today, set up on loopback for a comparison. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { installPackages } from '../../peers/provision/debian-packages.ts';

const HOST = '127.0.0.1';
const SSHD = '/usr/sbin/sshd';
/** Where Debian's sshd insists on a directory. */
const PRIVILEGE_SEPARATION = '/run/sshd';
/** It is this host, whatever key it has. */
const SSH_OPTIONS = ['-o StrictHostKeyChecking=no', '-o UserKnownHostsFile=/dev/null'];
const PACKAGES = ['openssh-server', 'openssh-client', 'sanoid', 'mbuffer'];

/** Installs what is missing. Resolves to null, or to why there can be no comparison. */
export function provideRivals(): Promise<string | null> {
  return installPackages(PACKAGES);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, HOST);
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** A server with keys of its own, which nobody else can log in to. */
export class SshServer {
  readonly #port: number;
  readonly #keyFile: string;
  readonly #child: ChildProcess;

  private constructor(port: number, keyFile: string, child: ChildProcess) {
    this.#port = port;
    this.#keyFile = keyFile;
    this.#child = child;
  }

  static async start(directory: string): Promise<SshServer> {
    const [hostKey, userKey] = [join(directory, 'host-key'), join(directory, 'user-key')];
    for (const key of [hostKey, userKey]) await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
    const authorized = join(directory, 'authorized-keys');
    await writeFile(authorized, await readFile(`${userKey}.pub`), { mode: 0o600 });
    const port = await freePort();
    const settings = {
      ListenAddress: HOST,
      Port: port,
      HostKey: hostKey,
      AuthorizedKeysFile: authorized,
      PidFile: 'none',
      StrictModes: 'no',
      UsePAM: 'no',
      PermitRootLogin: 'prohibit-password',
      PasswordAuthentication: 'no',
    };
    const file = join(directory, 'sshd-config');
    await writeFile(
      file,
      Object.entries(settings)
        .map(([name, value]) => `${name} ${value}\n`)
        .join(''),
    );
    await mkdir(PRIVILEGE_SEPARATION, { recursive: true });
    const child = spawn(SSHD, ['-D', '-e', '-f', file], { stdio: ['ignore', 'ignore', 'pipe'] });
    const server = new SshServer(port, userKey, child);
    await untilSaid(child, 'Server listening');
    return server;
  }

  /** Words of a shell that run what follows on this host, through the server. */
  command(cipher?: string): string {
    const options = [`-p ${this.#port}`, `-i ${this.#keyFile}`, ...SSH_OPTIONS];
    const destination = `${userInfo().username}@${HOST}`;
    return ['ssh', '-q', ...options, ...(cipher === undefined ? [] : [`-c ${cipher}`]), destination].join(' ');
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    this.#child.kill();
    await once(this.#child, 'exit');
  }
}

async function untilSaid(child: ChildProcess, words: string): Promise<void> {
  const said: string[] = [];
  for await (const line of createInterface({ input: child.stderr as NodeJS.ReadableStream })) {
    if (line.includes(words)) {
      child.stderr?.resume();
      return;
    }
    said.push(line);
  }
  throw new Error(`sshd did not start: ${said.join('; ')}`);
}

/** A script that carries what `send` writes through mbuffer over TCP into what `receive` reads. */
export async function mbufferPipe(send: string, receive: string): Promise<string> {
  const port = await freePort();
  const buffer = 'mbuffer -q -s 128k -m 64M';
  // It has to listen before it is dialled, which only the table of sockets tells
  const isListening = `grep -q ':${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A' /proc/net/tcp`;
  return `(${buffer} -I ${HOST}:${port} | ${receive}) & until ${isListening}; do :; done; ${send} | ${buffer} -O ${HOST}:${port}; wait`;
}
