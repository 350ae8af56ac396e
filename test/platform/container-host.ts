/** containerd with the snapshotter of a node, on a host of its own. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Host } from '../torture/host.ts';

const BOOTED = 'containerd successfully booted';
/** Where the kernel has room for the path of a socket (108 bytes), with what containerd appends to it. */
const SOCKET = 'c.sock';

export class ContainerHost {
  readonly host: Host;
  readonly #process: ChildProcess;

  private constructor(host: Host, process: ChildProcess) {
    this.host = host;
    this.#process = process;
  }

  /** With `cri`, it is also what Kubernetes talks to; its images are unpacked by Pando then. */
  static async start(host: Host, { cri }: { readonly cri: boolean }): Promise<ContainerHost> {
    const directory = join(host.directory, 'containerd');
    await mkdir(directory, { recursive: true });
    const config = join(directory, 'config.toml');
    await writeFile(config, configOf(host.directory, cri));
    const child = host.spawn('containerd', '--config', config);
    const said: string[] = [];
    for await (const line of createInterface({ input: child.stderr as NodeJS.ReadableStream })) {
      said.push(line);
      if (!line.includes(BOOTED)) continue;
      child.stderr?.resume();
      return new ContainerHost(host, child);
    }
    throw new Error(`containerd did not start: ${said.slice(-10).join('\n')}`);
  }

  get socket(): string {
    return join(this.host.directory, 'containerd', SOCKET);
  }

  /** Runs `ctr` and gives what it prints. */
  ctr(...words: string[]): Promise<string> {
    return this.host.run('ctr', '--address', this.socket, ...words);
  }

  /** Runs a program in a new container, which is gone behind it, and gives what it prints. */
  runOnce(image: string, id: string, ...command: string[]): Promise<string> {
    return this.ctr('run', '--rm', '--snapshotter', 'pando', image, id, ...command);
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGTERM');
    await ended;
  }
}

function configOf(directory: string, cri: boolean): string {
  const path = (name: string): string => JSON.stringify(join(directory, 'containerd', name));
  const disabled = ['io.containerd.internal.v1.opt', ...(cri ? [] : ['io.containerd.grpc.v1.cri'])];
  return `version = 2
root = ${path('root')}
state = ${path('state')}
disabled_plugins = ${JSON.stringify(disabled)}
[grpc]
  address = ${path(SOCKET)}
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "pando"
  disable_snapshot_annotations = false
[proxy_plugins.pando]
  type = "snapshot"
  address = ${JSON.stringify(join(directory, 'data', 'snapshotter.sock'))}
`;
}
