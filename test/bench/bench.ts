/** `npm run bench [-- --only NAME[,NAME]]`: runs the parts one after the other, prints a table, writes a JSON file. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { arch, cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { PartMessage } from './part-process.ts';
import { PARTS, type PartResult, type Row } from './parts.ts';

const RESULTS_DIRECTORY = 'bench-results';
const PART_PROCESS = fileURLToPath(new URL('./part-process.js', import.meta.url));

interface FinishedPart extends PartResult {
  readonly name: string;
  readonly peakMegabytes: number;
}

async function runPart(name: string): Promise<FinishedPart> {
  process.stderr.write(`${name} …\n`);
  const child = fork(PART_PROCESS, [name]);
  const ended = once(child, 'exit');
  let told: PartMessage = { failure: 'it ended without a result' };
  child.on('message', (message: PartMessage) => {
    told = message;
  });
  await ended;
  const message = told as PartMessage;
  if ('failure' in message) {
    const rows: Row[] = [{ what: name, measured: `failed: ${message.failure}`, target: '', reached: false }];
    return { name, peakMegabytes: 0, rows, details: null };
  }
  const peak = `${message.peakMegabytes.toFixed(0)} MB`;
  const rows = [
    ...message.result.rows,
    { what: `${name}: peak memory of the part`, measured: peak, target: '', reached: null },
  ];
  return { name, peakMegabytes: message.peakMegabytes, rows, details: message.result.details };
}

function tableOf(rows: readonly Row[]): string {
  const lines = [
    ['what', 'measured', 'target', 'reached'],
    ...rows.map(({ what, measured, target, reached }) => [
      what,
      measured,
      target,
      reached === null ? '' : reached ? 'yes' : 'no',
    ]),
  ];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  const drawn = lines.map((line) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`);
  drawn.splice(1, 0, `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`);
  return drawn.join('\n');
}

function machine() {
  const processors = cpus();
  return {
    node: process.version,
    kernel: release(),
    architecture: arch(),
    processors: processors.length,
    processor: processors[0]?.model ?? 'unknown',
    memoryBytes: totalmem(),
  };
}

const { values } = parseArgs({ options: { only: { type: 'string' } } });
const names = values.only === undefined ? Object.keys(PARTS) : values.only.split(',');
const unknown = names.filter((name) => PARTS[name] === undefined);
if (unknown.length > 0) {
  process.stderr.write(`There is no part "${unknown.join(', ')}"; there are ${Object.keys(PARTS).join(', ')}.\n`);
  process.exit(2);
}
const parts: FinishedPart[] = [];
for (const name of names) parts.push(await runPart(name));
const at = new Date().toISOString();
const file = join(RESULTS_DIRECTORY, `${at.replaceAll(':', '-')}.json`);
await mkdir(RESULTS_DIRECTORY, { recursive: true });
await writeFile(file, `${JSON.stringify({ at, machine: machine(), parts }, null, 2)}\n`);
process.stdout.write(`${tableOf(parts.flatMap(({ rows }) => rows))}\n\nWritten to ${file}\n`);
