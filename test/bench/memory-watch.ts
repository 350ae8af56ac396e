/** Resident memory of processes while something runs, as /proc tells it (proc_pid_status(5)). */
import { readdirSync, readFileSync } from 'node:fs';

const EVERY_MS = 500;
const KIBIBYTE = 1024;
const MEGABYTE = 1_000_000;
/** What seals streams for a node. */
const SEALING = 'sealing/program';

export class MemoryWatch {
  readonly #samples: Record<string, number[]> = {};
  readonly #timer: NodeJS.Timeout;

  /** Begins to watch these processes, and those that seal streams for them. */
  constructor(processes: Readonly<Record<string, number>>) {
    this.#timer = setInterval(() => {
      const all = readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name))
        .map(Number);
      for (const [name, pid] of Object.entries(processes)) {
        this.#note(name, residentMegabytes(pid));
        const sealing = all.filter((one) => parentOf(one) === pid && commandOf(one).includes(SEALING));
        this.#note(
          `sealing for ${name}`,
          sealing.reduce((sum, one) => sum + residentMegabytes(one), 0),
        );
      }
    }, EVERY_MS);
  }

  /** Ends, and gives what was seen. */
  stop(): Readonly<Record<string, readonly number[]>> {
    clearInterval(this.#timer);
    return this.#samples;
  }

  #note(name: string, megabytes: number): void {
    this.#samples[name] = [...(this.#samples[name] ?? []), Math.round(megabytes)];
  }
}

/** Empty for a process that has gone meanwhile. */
function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

function residentMegabytes(pid: number): number {
  const [, kibibytes = '0'] = /^VmRSS:\s+(\d+) kB/m.exec(read(pid, 'status')) ?? [];
  return (Number(kibibytes) * KIBIBYTE) / MEGABYTE;
}

function parentOf(pid: number): number {
  const [, parent = '0'] = /^PPid:\s+(\d+)/m.exec(read(pid, 'status')) ?? [];
  return Number(parent);
}

function commandOf(pid: number): string {
  return read(pid, 'cmdline');
}
